"""``corral models``: list the models that a running server serves."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Final

from corral.cli.client.channel import OpenServer
from corral.cli.client.http import Client, ServedModel
from corral.cli.terminal.options import AsJson, Url
from corral.cli.terminal.tables import Column, print_json, print_table

_COLUMNS: Final = (
    Column(heading="Model"),
    Column(heading="Context", number=True),
    Column(heading="Weights"),
    Column(heading="Stand-in"),
    Column(heading="State"),
)


def models_command(open_server: OpenServer) -> Callable[..., None]:
    """Create the command, for ``app.command("models")``."""

    def models(*, url: Url = None, as_json: AsJson = False) -> None:
        """List the models that a running server serves: a table on a terminal, tab-separated in a pipe."""
        with open_server(url) as server:
            served = Client(server).models()
        if as_json:
            print_json([asdict(model) for model in served])
            return
        print_table(_COLUMNS, [_row(model) for model in served])

    return models


def _row(model: ServedModel) -> tuple[str, ...]:
    context = "" if model.context_tokens is None else str(model.context_tokens)
    return model.id, context, model.weights or "", "yes" if model.stands_in else "", model.state or ""
