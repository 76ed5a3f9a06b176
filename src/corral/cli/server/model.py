"""``corral model``: what a server has, and the models of this machine. Must not know what a checkpoint is made of."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from corral.cli.client.channel import OpenServer
from corral.cli.inference.model_info import info_command, list_command, versions_command
from corral.cli.server.pull import OpenShelf, Quantize, announce

if TYPE_CHECKING:
    from corral.deployments.library import Removal


def model_commands(open_shelf: OpenShelf, open_server: OpenServer) -> typer.Typer:
    """The commands, for ``app.add_typer``."""
    commands = ModelCommands(open_shelf)
    app = typer.Typer(
        name="model", add_completion=False, help="A server's models, and those of this machine.", no_args_is_help=True
    )
    app.command("list")(list_command(open_server))
    app.command("info")(info_command(open_server))
    app.command("versions")(versions_command(open_server))
    app.command("add")(commands.add)
    app.command("remove")(commands.remove)
    return app


class ModelCommands:
    """One method a command."""

    def __init__(self, open_shelf: OpenShelf) -> None:
        self._open_shelf = open_shelf

    def add(
        self,
        path: Annotated[str, typer.Argument(help="A checkpoint, as `corral serve` takes it; it stays where it is.")],
        name: Annotated[
            str | None, typer.Option(help="What it is served as: owner/name.", show_default="local/<its own name>")
        ] = None,
        quantize: Quantize = None,
    ) -> None:
        """Check and convert a checkpoint of your own, and let `corral serve` find it by a name."""
        from corral.cli.terminal.progress import watch  # noqa: PLC0415 - a tenth of a second that `model list` need not wait for

        shelf = self._open_shelf(quantize=quantize)
        with watch() as report:
            added = shelf.library.add(path, name, quantize=shelf.quantize, report=report)
        announce(added)

    def remove(
        self,
        name: Annotated[str, typer.Argument(metavar="NAME", help="As it was pulled or added.")],
        yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    ) -> None:
        """Forget a model; delete what was pulled and converted, but never files that you brought."""
        from corral.cli.terminal.progress import watch  # noqa: PLC0415

        library = self._open_shelf().library
        removal = library.plan_removal(name)
        if not yes:
            _ask(removal)
        with watch() as report:
            library.remove(removal, report)
        typer.echo(f"{removal.name} is removed{_kept(removal)}.")


def _ask(removal: "Removal") -> None:
    if not sys.stdin.isatty():
        raise typer.BadParameter("nobody can be asked here; say --yes to remove it.", param_hint="--yes")
    fetched = "" if removal.folder is None else f"{removal.folder} and "
    typer.confirm(f"Remove {removal.name} and delete {fetched}what was converted from it?", abort=True)


def _kept(removal: "Removal") -> str:
    brought = removal.registered is not None and removal.registered.revision is None
    return f"; {removal.registered.path} stays as it is" if brought and removal.registered else ""
