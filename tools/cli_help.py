"""Write every command's options into ``docs/cli.md``, between the markers of its section.

Run from the repository root: ``python tools/cli_help.py``. A section is marked ``<!-- options of corral NAME -->`` to
``<!-- end of options -->``; the text between is replaced by the options that ``corral NAME --help`` prints.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import typer
from typer._click.core import Command, Context, Parameter
from typer.core import TyperGroup

from corral.cli.main import app

PAGE: Final = Path(__file__).parents[1] / "docs" / "cli.md"
_END: Final = "<!-- end of options -->"
_BLOCK: Final = re.compile(r"<!-- options of corral (?P<name>[a-z-]+) -->\n(?P<options>.*?)" + _END + r"\n", re.DOTALL)
_EXTRA: Final = re.compile(r"\s*\[([^\[\]]*)\]$")
_QUOTED_DEFAULT: Final = re.compile(r"default: \((.*)\)")


class OutOfStep(Exception):
    """The page lacks a command, or has a section for an unknown one."""


def rendered(page: str) -> str:
    """Return *page* with the current options of every command.

    Raises:
        OutOfStep: a command has no section, or a section no command.
    """
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    context = Context(root, info_name="corral")
    names = root.list_commands(context)
    marked = [block["name"] for block in _BLOCK.finditer(page)]
    if sorted(marked) != sorted(names):
        raise OutOfStep(f"sections without a command, or commands without a section: {sorted({*marked} ^ {*names})}")

    def fresh(block: re.Match[str]) -> str:
        command = root.get_command(context, block["name"])
        assert command is not None
        text = "\n".join(_of(command, Context(command, info_name=block["name"], parent=context)))
        return f"<!-- options of corral {block['name']} -->\n{text}\n{_END}\n"

    return _BLOCK.sub(fresh, page)


def _of(command: Command, context: Context) -> Iterator[str]:
    """The lines of one command, or of all commands in a group."""
    if isinstance(command, TyperGroup):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _of(inner, Context(inner, info_name=name, parent=context))
        return
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    told = (command.help or "").partition("\n\n")[0].replace("\n", " ")
    yield from ("", f"**`{usage}`**", "", told, "")
    rows = [_row(each, context) for each in command.get_params(context) if each.name != "help"]
    if any(rows):
        yield from ("| option | |", "|---|---|", *filter(None, rows), "")


def _row(parameter: Parameter, context: Context) -> str:
    record = parameter.get_help_record(context)
    if record is None:
        return ""
    name, text = record
    extra = _EXTRA.search(text)
    if extra is not None:
        told = _QUOTED_DEFAULT.sub(r"default: \1", extra[1])
        text = f"{text[: extra.start()]} ({told})"
    return f"| `{_cell(name)}` | {_cell(text)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def main() -> None:
    """Update the page."""
    try:
        PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    except OutOfStep as error:
        sys.exit(f"docs/cli.md: {error}")


if __name__ == "__main__":
    main()
