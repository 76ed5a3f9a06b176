"""Shell completion of model names."""

from collections.abc import Callable
from typing import Final

import msgspec

from corral.cli.client.channel import OpenServer, Request, decode
from corral.core.errors import CorralError

_COMPLETION_TIMEOUT_S: Final = 1
"""Short, because the user waits after pressing the tab key."""


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


def model_completion(open_server: OpenServer) -> Callable[[str], list[str]]:
    """Create a completion that lists the served models with a prefix; empty if the server does not respond quickly."""

    def complete(incomplete: str) -> list[str]:
        try:
            with open_server(None) as server:
                body = server.ask(Request(path="/v1/models", timeout_s=_COMPLETION_TIMEOUT_S))
            names = [model.id for model in decode(body, _Models).data]
        except CorralError:
            return []
        return [name for name in names if name.startswith(incomplete)]

    return complete
