"""What a shell offers for an option's value."""

from collections.abc import Callable
from typing import Final

import msgspec

from corral.cli.client.channel import OpenServer, Request, decode
from corral.core.errors import CorralError

_COMPLETION_TIMEOUT_S: Final = 1
"""Who presses the tab key waits for nothing."""


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


def model_completion(open_server: OpenServer) -> Callable[[str], list[str]]:
    """Names of served models that begin as typed; none where they cannot be had at once."""

    def complete(incomplete: str) -> list[str]:
        try:
            with open_server(None) as server:
                body = server.ask(Request(path="/v1/models", timeout_s=_COMPLETION_TIMEOUT_S))
            names = [model.id for model in decode(body, _Models).data]
        except CorralError:
            return []
        return [name for name in names if name.startswith(incomplete)]

    return complete
