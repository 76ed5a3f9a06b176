"""What ``corral infer`` sends: ``name=text``, ``name=@file`` or ``name=base64:…``, each as one part of a form."""

import binascii
from base64 import b64decode
from mimetypes import guess_type
from pathlib import Path
from typing import Final

import typer

from corral.cli.channel import Part
from corral.cli.connection import RequestFailed

_FILE: Final = "@"
_BASE64: Final = "base64:"
_UNNAMED_FILE: Final = "filename.ext"
"""Servers take a part for a file by its having a name."""
_BYTES: Final = "application/octet-stream"
_MAX_FILE_BYTES: Final = 64 * 1024 * 1024


def part(text: str) -> Part:
    """The part that an ``-i`` option means.

    Raises:
        BadParameter: there is no ``=``, or what follows ``base64:`` is not that.
        RequestFailed: the file cannot be read, or is larger than any server would take.
    """
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise typer.BadParameter(f"'{text}' is not name=value.")
    if value.startswith(_FILE):
        return _uploaded(name, Path(value.removeprefix(_FILE)))
    if value.startswith(_BASE64):
        content = _decoded(value.removeprefix(_BASE64))
        return Part(name=name, content=content, filename=_UNNAMED_FILE, media_type=_BYTES)
    # Halves of characters, which an argument in another encoding leaves, become question marks.
    return Part(name=name, content=value.encode(errors="replace"))


def _uploaded(name: str, path: Path) -> Part:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise RequestFailed(f"{path} cannot be read: {error.strerror}.") from error
    if len(content) > _MAX_FILE_BYTES:
        raise RequestFailed(f"{path} is larger than {_MAX_FILE_BYTES} bytes.")
    return Part(name=name, content=content, filename=path.name, media_type=guess_type(path.name)[0] or _BYTES)


def _decoded(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise typer.BadParameter("what follows base64: is not base64.") from error
