"""``corral models``: what a running server answers for. Must not know of HTTP."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from corral.cli.client import Client, Connect, ServedModel

_PLAIN_WIDTH = 200
"""Columns of a table that is no terminal's: wide enough to cut no name."""


def models_command(connect: Connect) -> Callable[..., None]:
    """The command, for ``app.command("models")``."""

    def models(
        *,
        url: Annotated[str | None, typer.Option(help="Address of the server.")] = None,
        as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
    ) -> None:
        """List the models that a running server answers for."""
        with Client(connect(url)) as client:
            served = client.models()
        if as_json:
            typer.echo(orjson.dumps([asdict(model) for model in served], option=orjson.OPT_INDENT_2))
            return
        console = Console()
        if not console.is_terminal:
            console.width = _PLAIN_WIDTH
        console.print(_table(served))

    return models


def _table(models: Sequence[ServedModel]) -> Table:
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
    return table
