"""``corral model``: list a server's models; check, add and remove models of this machine."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from corral.cli.client.channel import OpenServer
from corral.cli.inference.model_info import info_command, list_command, versions_command
from corral.cli.server.check import Inspect, check_command
from corral.cli.server.pull import OpenLocalModels, Quantize, announce

if TYPE_CHECKING:
    from corral.deployments.library import Removal


def model_commands(open_models: OpenLocalModels, open_server: OpenServer, inspect: Inspect) -> typer.Typer:
    """Create the command group, for ``app.add_typer``."""
    commands = ModelCommands(open_models)
    app = typer.Typer(
        name="model", add_completion=False, help="A server's models, and those of this machine.", no_args_is_help=True
    )
    app.command("list")(list_command(open_server))
    app.command("info")(info_command(open_server))
    app.command("versions")(versions_command(open_server))
    app.command("check")(check_command(inspect))
    app.command("add")(commands.add)
    app.command("remove")(commands.remove)
    return app


class ModelCommands:
    """One method per command."""

    def __init__(self, open_models: OpenLocalModels) -> None:
        self._open_models = open_models

    def add(
        self,
        path: Annotated[str, typer.Argument(help="Checkpoint, as for `corral serve`; it is not copied.")],
        name: Annotated[
            str | None, typer.Option(help="Name to serve it as: owner/name.", show_default="local/<its own name>")
        ] = None,
        quantize: Quantize = None,
    ) -> None:
        """Check and convert a checkpoint, and register it under a name for `corral serve`."""
        from corral.cli.terminal.progress import watch  # noqa: PLC0415 - takes 0.1 s, which `model list` avoids

        models = self._open_models(quantize=quantize)
        with watch() as report:
            added = models.library.add(path, name, quantize=models.quantize, report=report)
        announce(added)

    def remove(
        self,
        name: Annotated[str, typer.Argument(metavar="NAME", help="Name of a pulled or added model.")],
        yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    ) -> None:
        """Remove a model and delete its pulled and converted files. Checkpoints that you added stay."""
        from corral.cli.terminal.progress import watch  # noqa: PLC0415

        library = self._open_models().library
        removal = library.plan_removal(name)
        if not yes:
            _ask(removal)
        with watch() as report:
            library.remove(removal, report)
        typer.echo(f"{removal.name} is removed{_kept(removal)}.")


def _ask(removal: "Removal") -> None:
    if not sys.stdin.isatty():
        raise typer.BadParameter("cannot ask for confirmation without a terminal; give --yes.", param_hint="--yes")
    fetched = "" if removal.folder is None else f"{removal.folder} and "
    typer.confirm(f"Remove {removal.name} and delete {fetched}its converted files?", abort=True)


def _kept(removal: "Removal") -> str:
    brought = removal.registered is not None and removal.registered.revision is None
    return f"; {removal.registered.path} was not changed" if brought and removal.registered else ""
