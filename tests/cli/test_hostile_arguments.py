"""Every option and argument of every command with hostile values: one sentence or a usage error, never a traceback."""

from collections.abc import Iterator

import pytest
import typer
from typer._click.core import Command, Context, Parameter
from typer.core import TyperArgument, TyperGroup

from corral.cli.main import app
from tests.cli.fake_server import KEY, FakeServer
from tests.cli.harness import CliHarness

VALUES = [
    "9" * 30,
    "-" + "9" * 30,
    "1e400",
    "nan",
    "0.1",
    "1" * 5000,
    "",
    "\udcff",
    "\0",
    "../..",
    "a" * 100_000,
    "é\u2028\x1b[2J",
    "=",
    "~nobody-of-that-name/x",
]
ALWAYS = {"chat": ["--model", "m"]}
"""Options without which a command asks the server something else first."""
APART = {"serve", "doctor", "version"}
"""Without options that reach further than settings, which have tests of their own; or without any."""


def leaves(
    group: TyperGroup, context: Context, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Command]]:
    """Every command, with the words that call it."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, TyperGroup):
            yield from leaves(command, context, (*path, name))
        elif name not in APART:
            yield (*path, name), command


ROOT = typer.main.get_command(app)
assert isinstance(ROOT, TyperGroup)
COMMANDS = dict(leaves(ROOT, Context(ROOT)))


def words(parameter: Parameter, value: str) -> list[str]:
    return ["--", value] if isinstance(parameter, TyperArgument) else [parameter.opts[-1], value]


def calls(command: Command) -> Iterator[list[str]]:
    """Arguments with one hostile value each, and what else is required."""
    taking = [each for each in command.params if not getattr(each, "is_flag", False) and each.name != "help"]
    for chosen in taking:
        for value in VALUES:
            given = [(each, value if each is chosen else "x") for each in taking if each is chosen or each.required]
            options = [
                word for each, text in given if not isinstance(each, TyperArgument) for word in words(each, text)
            ]
            arguments = [text for each, text in given if isinstance(each, TyperArgument)]
            yield [*options, *(["--", *arguments] if arguments else [])]


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_hostile_arguments_fail_with_one_sentence(
    path: tuple[str, ...], cli: CliHarness, fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CORRAL_URL", fake.url)
    monkeypatch.setenv("CORRAL_API_KEY", KEY)
    monkeypatch.setenv("CORRAL_HUB_URL", "http://127.0.0.1:9")
    fake.refusal = (404, {"detail": "no"})
    unforeseen: list[tuple[list[str], str]] = []
    for arguments in calls(COMMANDS[path]):
        try:
            status = cli.run(*path, *ALWAYS.get(path[0], ()), *arguments).status
        except Exception as error:  # noqa: BLE001 - what a traceback would be of
            unforeseen.append((arguments, repr(error)))
        else:
            assert status in {0, 1, 2}
    assert not unforeseen
