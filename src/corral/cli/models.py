"""``corral models``: what a running server answers for. Must not know of HTTP."""

from collections.abc import Callable, Sequence
from dataclasses import asdict

import orjson
import typer

from corral.cli.channel import OpenServer
from corral.cli.client import Client, ServedModel
from corral.cli.options import AsJson, Url

_PLAIN_WIDTH = 200
"""Columns of a table that is no terminal's: wide enough to cut no name."""


def models_command(open_server: OpenServer) -> Callable[..., None]:
    """The command, for ``app.command("models")``."""

    def models(*, url: Url = None, as_json: AsJson = False) -> None:
        """List the models that a running server answers for."""
        with open_server(url) as server:
            served = Client(server).models()
        if as_json:
            typer.echo(orjson.dumps([asdict(model) for model in served], option=orjson.OPT_INDENT_2))
            return
        _draw(served)

    return models


def _draw(models: Sequence[ServedModel]) -> None:
    from rich.console import Console  # noqa: PLC0415 - a tenth of a second that --json need not wait for
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("Model", overflow="fold")
    table.add_column("Context", justify="right")
    table.add_column("Weights")
    table.add_column("Stand-in")
    for model in models:
        table.add_row(
            Text(model.id),
            "" if model.context_tokens is None else f"{model.context_tokens}",
            Text(model.weights or ""),
            "yes" if model.stands_in else "",
        )
    console = Console()
    if not console.is_terminal:
        console.width = _PLAIN_WIDTH
    console.print(table)
