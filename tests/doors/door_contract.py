"""What every door must hold to; each door's tests call these."""

import inspect
from collections.abc import Iterator

from corral.core.errors import CorralError


def subclasses(kind: type[CorralError]) -> Iterator[type[CorralError]]:
    """*kind* and every class below it that is loaded."""
    yield kind
    for child in kind.__subclasses__():
        yield from subclasses(child)


def example(kind: type[CorralError]) -> CorralError:
    """An instance, with arguments made up from the constructor's annotations."""
    made_up: dict[object, object] = {str: "A sentence.", int: 3, bytes: b"A body.", str | None: "A reason."}
    parameters = inspect.signature(kind.__init__).parameters.values()
    required = [p for p in parameters if p.name != "self" and p.default is p.empty and p.kind is not p.VAR_POSITIONAL]
    required = [p for p in required if p.kind is not p.VAR_KEYWORD]
    positional = [made_up[p.annotation] for p in required if p.kind is not p.KEYWORD_ONLY]
    named = {p.name: made_up[p.annotation] for p in required if p.kind is p.KEYWORD_ONLY}
    takes_any = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    return kind(*(positional or (["A sentence."] if takes_any else [])), **named)


def every_error() -> list[CorralError]:
    """One of each."""
    return [example(kind) for kind in subclasses(CorralError)]
