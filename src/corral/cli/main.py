"""The ``corral`` command: reads settings, picks the command, turns refusals into one sentence and an exit status."""

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeVar

import typer

import corral
from corral.catalog.catalog import DEMO, demo_checkpoint
from corral.cli.account import account_commands
from corral.cli.audit import receipt_command, reconcile_command, verify_receipt
from corral.cli.books import consult, consult_webhooks
from corral.cli.chat import chat_command
from corral.cli.client import Connection
from corral.cli.doctor import Installation, doctor_command
from corral.cli.key import key_commands
from corral.cli.model import model_commands
from corral.cli.models import models_command
from corral.cli.pull import Shelf, pull_command
from corral.cli.usage import usage_command
from corral.cli.webhooks import webhook_commands
from corral.core.errors import CorralError
from corral.settings import load_settings
from corral.store.key_file import KEY_FILE, read_secret

if TYPE_CHECKING:
    from corral.service.accounts import Accounts
    from corral.service.webhooks import Webhooks

T = TypeVar("T")

app = typer.Typer(
    name="corral",
    help="A self-hosted inference cloud for Llama 2 chat.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)


def run() -> NoReturn:
    """Entry point of the ``corral`` script. Exit status: 0, 1 for a refusal, 2 for a usage error."""
    try:
        app()
    except CorralError as error:
        sys.stderr.write(f"corral: {error}\n")
        sys.exit(1)
    sys.exit(0)


def _version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"corral {corral.__version__}\n")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """A self-hosted inference cloud for Llama 2 chat."""


@app.command()
def serve(
    model: Annotated[
        str | None,
        typer.Argument(
            help="Catalog name, or path of a checkpoint: a directory or a .gguf file.", show_default="demo model"
        ),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to listen on; 0 takes a free one.", show_default="8000")
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Where key and converted models are kept.", show_default="~/.local/share/corral"),
    ] = None,
    quantize: Annotated[
        str | None, typer.Option(help="Storage of weights: int8, int4, bf16 or f32.", show_default="int8")
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.", show_default="info")] = None,
) -> None:
    """Start the server."""
    chosen = {"model": model, "host": host, "port": port, "data_dir": data_dir, "quantize": quantize}
    settings = load_settings({**chosen, "log_level": log_level})
    from corral.cli.serve import serve as start  # noqa: PLC0415 - half a second of imports that no other command needs

    start(settings)


def _connect(url: str | None) -> Connection:
    """Where the clients' commands go: the setting ``url``, else the host and port that a server here would take."""
    settings = load_settings({"url": url})
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    key = settings.api_key.get_secret_value() if settings.api_key else read_secret(settings.data_dir / KEY_FILE)
    return Connection(url=settings.url or f"http://{host}:{settings.port}", api_key=key)


def _locate() -> Installation:
    settings = load_settings({})
    checkpoint = Path(settings.model).expanduser()
    return Installation(
        data_dir=settings.data_dir,
        key_file=settings.data_dir / KEY_FILE,
        host=settings.host,
        port=settings.port,
        demo_dir=demo_checkpoint(),
        checkpoint=checkpoint if settings.model != DEMO and checkpoint.exists() else None,
    )


def _consult(work: "Callable[[Accounts], Awaitable[T]]") -> T:
    return consult(load_settings({}), work)


def _open_shelf(**chosen: object) -> Shelf:
    settings = load_settings(chosen)
    from corral.weights import open_library  # noqa: PLC0415 - imports that the clients' commands do without

    return Shelf(library=open_library(settings), quantize=settings.quantize)


def _consult_webhooks(work: "Callable[[Accounts, Webhooks], Awaitable[T]]") -> T:
    return consult_webhooks(load_settings({}), work)


app.command("chat")(chat_command(_connect))
app.command("models")(models_command(_connect))
app.command("doctor")(doctor_command(_locate))
app.command("pull")(pull_command(_open_shelf))
app.add_typer(model_commands(_open_shelf))
app.add_typer(account_commands(_consult))
app.add_typer(key_commands(_consult))
app.add_typer(webhook_commands(_consult_webhooks))
app.command("usage")(usage_command(_consult))
app.command("receipt")(receipt_command(_consult))
app.command("verify-receipt")(verify_receipt)
app.command("reconcile")(reconcile_command(_consult))
