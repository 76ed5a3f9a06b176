"""Entry point of the ``corral`` command; prints errors as one sentence and sets the exit status."""

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

import corral
from corral.cli.commands import COMMANDS
from corral.cli.lazy import lazy_group
from corral.cli.terminal.streams import OutputFailed, discard_output, flush_output, open_streams
from corral.core.errors import CorralError

app = typer.Typer(
    name="corral",
    cls=lazy_group(COMMANDS),
    help="A self-hosted inference cloud for Llama 2 chat.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)


def run() -> NoReturn:
    """Entry point of the ``corral`` script. Exit status: 0, 1 for an error, 2 for a usage error."""
    open_streams()
    try:
        status = _run_command()
        flush_output()
    except CorralError as error:
        sys.stderr.write(f"corral: {error}\n")
        if isinstance(error, OutputFailed):
            discard_output()
        sys.exit(1)
    except BrokenPipeError:
        discard_output()
        sys.exit(1)
    sys.exit(status)


def _run_command() -> int:
    """Run the command that the arguments name; return its exit status."""
    try:
        app()
    except SystemExit as ended:  # typer ends every command this way
        return ended.code if isinstance(ended.code, int) else 0
    return 0


def _version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"corral {corral.__version__}\n")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """A self-hosted inference cloud for Llama 2 chat."""


@app.command()
def serve(  # noqa: PLR0913, PLR0917 - one option for each setting that people change
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL]...",
            help="Catalog names, or paths of checkpoints: a directory or a .gguf file each.",
            show_default="smollm2 if installed, else corral/demo",
        ),
    ] = None,
    served_as: Annotated[
        str | None,
        typer.Option("--as", metavar="NAME", help="Name of the model that you know the checkpoint to be."),
    ] = None,
    stands_in: Annotated[
        bool | None, typer.Option("--stands-in", help="Also serve it under known models' names, free and marked.")
    ] = None,
    chat_format: Annotated[
        str | None,
        typer.Option(help="Chat format of the checkpoint, such as chatml.", show_default="recognised"),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to listen on; 0 chooses a free one.", show_default="8000")
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Directory of keys, database and models.", show_default="~/.local/share/corral"),
    ] = None,
    quantize: Annotated[
        str | None, typer.Option(help="Storage format of the weights: int8, int4, bf16 or f32.", show_default="int8")
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.", show_default="info")] = None,
) -> None:
    """Start the server."""
    chosen: dict[str, object] = {"host": host, "port": port, "data_dir": data_dir, "quantize": quantize}
    from corral.cli.server.serve import serve as start  # noqa: PLC0415 - imports half a second of modules
    from corral.settings import load_settings  # noqa: PLC0415

    if models and len(models) > 1:
        chosen["deployments"] = [{"weights": model} for model in models]
    elif models:
        chosen["model"] = models[0]
    chosen |= {"served_as": served_as, "stands_in": stands_in, "chat_format": chat_format, "log_level": log_level}
    start(load_settings(chosen))


@app.command("version")
def show_version() -> None:
    """Print the version."""
    _version(asked=True)
