"""The ``-o`` options of ``corral infer``: ``[path=]target``, compatible with ``deepctl``.

The path selects a part of the answer by names and indices, separated by dots. The target is a file, or ``-`` for
standard output. ``{IDX}`` in a file name is the index of an item, so that each item is written to its own file;
``{EXT}`` is the extension for the type of a data URL.
"""

import binascii
from base64 import b64decode
from dataclasses import dataclass
from mimetypes import guess_extension
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import unquote_to_bytes

import orjson
import typer

from corral.cli.client.connection import RequestFailed

STANDARD_OUTPUT: Final = "-"
_INDEX: Final = "{IDX}"
_EXTENSION: Final = "{EXT}"
_UNKNOWN_EXTENSION: Final = ".bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """A parsed ``-o`` option: which part of the answer to write, and where."""

    path: tuple[str, ...]
    target: str


WHOLE: Final = Output(path=(), target=STANDARD_OUTPUT)


def parse_output(text: str) -> Output:
    """Parse an ``-o`` option.

    Raises:
        BadParameter: it has no target.
    """
    before, equals, after = text.partition("=")
    path, target = (before, after) if equals else ("", before)
    if not target:
        raise typer.BadParameter(f"'{text}' has no target; use '-' for standard output.")
    return Output(path=tuple(path.replace("/", ".").split(".")) if path else (), target=target)


def write_output(document: object, output: Output) -> None:
    """Write the selected part of *document* to its target.

    Raises:
        RequestFailed: there is no such part, or the file cannot be written.
    """
    _put(_select(document, output.path), output.target)


def _select(document: object, path: tuple[str, ...]) -> Any:
    value: Any = document
    for step in path:
        match value:
            case dict() if step in value:
                value = cast("dict[str, Any]", value)[step]
            case list() if step.isascii() and step.isdigit() and int(step) < len(cast("list[Any]", value)):
                value = cast("list[Any]", value)[int(step)]
            case _:
                raise RequestFailed(f"The answer has no '{'.'.join(path)}': it ends at '{step}'.")
    return value


def _put(value: Any, target: str) -> None:
    items = cast("list[Any]", value) if isinstance(value, list) else None
    if items is not None and _INDEX in target:
        for index, item in enumerate(items):
            _put(item, target.replace(_INDEX, str(index)))
    elif target == STANDARD_OUTPUT:
        typer.echo(_json(value))
    elif target.endswith(".json"):
        _write(Path(target), _json(value) + b"\n")
    else:
        _put_in_file(items[0] if items is not None and len(items) == 1 else value, target)


def _put_in_file(value: Any, target: str) -> None:
    if not isinstance(value, str):
        _write(Path(target), _json(value) + b"\n")
    elif (found := _data_url(value)) is not None:
        media_type, content = found
        extension = guess_extension(media_type) or _UNKNOWN_EXTENSION
        _write(Path(target.replace(_EXTENSION, extension.removeprefix("."))), content)
    else:
        _write(Path(target.replace(_EXTENSION, "txt")), value.encode(errors="replace"))


def _data_url(text: str) -> tuple[str, bytes] | None:
    """Decode a data URL to its media type and content; None if *text* is not one."""
    scheme, _, rest = text.partition(":")
    head, comma, data = rest.partition(",")
    if scheme != "data" or not comma:
        return None
    media_type, _, coding = head.partition(";")
    if not coding.endswith("base64"):
        return media_type, unquote_to_bytes(data)
    try:
        return media_type, b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return None


def _json(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2)


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise RequestFailed(f"{path} cannot be written: {error.strerror}.") from error
