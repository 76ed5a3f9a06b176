"""Parse the ``-i`` options of ``corral infer``: ``name=text``, ``name=@file``, ``name=@-`` or ``name=base64:…``."""

import binascii
from base64 import b64decode
from collections.abc import Sequence
from mimetypes import guess_type
from pathlib import Path
from typing import Final

import typer

from corral.cli.client.channel import Part
from corral.cli.client.connection import RequestFailed
from corral.cli.terminal.streams import read_standard_input

_FILE: Final = "@"
_BASE64: Final = "base64:"
_UNNAMED_FILE: Final = "filename.ext"
"""Servers treat a form part as a file if it has a file name."""
_STANDARD_INPUT: Final = "@-"
_BYTES: Final = "application/octet-stream"
_MAX_FILE_BYTES: Final = 64 * 1024 * 1024
_OPTION: Final = "--input / -i"


def parts(texts: Sequence[str]) -> list[Part]:
    """Parse all ``-i`` options to form parts.

    Raises:
        BadParameter: there is none, one is not ``name=value``, or two have the same name or both read standard input.
        RequestFailed: a file cannot be read or is too large.
    """
    if not texts:
        raise typer.BadParameter("missing: give each field of the call, as in -i 'input=Hello!'.", param_hint=_OPTION)
    names = [text.partition("=")[0] for text in texts]
    for text, name in zip(texts, names, strict=True):
        if not (name and "=" in text):
            raise typer.BadParameter(f"'{text}' is not name=value.", param_hint=_OPTION)
        if names.count(name) > 1:
            raise typer.BadParameter(
                f"'{name}' is given {names.count(name)} times; give it once. A list is one value: "
                f"""-i '{name}=["a", "b"]'.""",
                param_hint=_OPTION,
            )
    readers = [name for text, name in zip(texts, names, strict=True) if text.partition("=")[2] == _STANDARD_INPUT]
    if len(readers) > 1:
        raise typer.BadParameter(
            f"{' and '.join(readers)} both read standard input (@-); only one can.", param_hint=_OPTION
        )
    return [_part(text) for text in texts]


def _part(text: str) -> Part:
    name, _, value = text.partition("=")
    if value == _STANDARD_INPUT:
        content = _bounded(read_standard_input(_MAX_FILE_BYTES + 1), "Standard input")
        return Part(name=name, content=content, filename="stdin", media_type=_BYTES)
    if value.startswith(_FILE):
        return _uploaded(name, Path(value.removeprefix(_FILE)))
    if value.startswith(_BASE64):
        content = _decoded(value.removeprefix(_BASE64))
        return Part(name=name, content=content, filename=_UNNAMED_FILE, media_type=_BYTES)
    # Surrogates, from an argument in another encoding, become question marks.
    return Part(name=name, content=value.encode(errors="replace"))


def _uploaded(name: str, path: Path) -> Part:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # a path with a null character raises ValueError
        raise RequestFailed(f"{path} cannot be read: {getattr(error, 'strerror', error)}.") from error
    media_type = guess_type(path.name)[0] or _BYTES
    return Part(name=name, content=_bounded(content, str(path)), filename=path.name, media_type=media_type)


def _bounded(content: bytes, origin: str) -> bytes:
    if len(content) > _MAX_FILE_BYTES:
        raise RequestFailed(f"{origin} is larger than {_MAX_FILE_BYTES} bytes.")
    return content


def _decoded(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise typer.BadParameter("the value after base64: is not valid base64.", param_hint=_OPTION) from error
