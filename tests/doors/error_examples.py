"""One example of each ``CorralError``, for the error mapping tests of each API."""

import inspect
from collections.abc import Iterator

from corral.core.errors import CorralError


def subclasses(kind: type[CorralError]) -> Iterator[type[CorralError]]:
    """Yield *kind* and all its loaded subclasses."""
    yield kind
    for child in kind.__subclasses__():
        yield from subclasses(child)


def example_error(kind: type[CorralError]) -> CorralError:
    """Create an instance, with arguments chosen by the constructor's annotations."""
    made_up: dict[object, object] = {str: "A sentence.", int: 3, bytes: b"A body.", str | None: "A reason."}
    parameters = inspect.signature(kind.__init__).parameters.values()
    required = [p for p in parameters if p.name != "self" and p.default is p.empty and p.kind is not p.VAR_POSITIONAL]
    required = [p for p in required if p.kind is not p.VAR_KEYWORD]
    positional = [made_up[p.annotation] for p in required if p.kind is not p.KEYWORD_ONLY]
    named = {p.name: made_up[p.annotation] for p in required if p.kind is p.KEYWORD_ONLY}
    takes_any = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    return kind(*(positional or (["A sentence."] if takes_any else [])), **named)


def every_error() -> list[CorralError]:
    """Return one instance of every error class."""
    return [example_error(kind) for kind in subclasses(CorralError)]
