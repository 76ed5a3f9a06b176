"""Parse multipart bodies, with limits."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from corral.core.errors import InvalidRequest

MAX_PARTS: Final = 64
"""Separate limits for parts with and without a file name."""
_BYTES: Final = "latin-1"
"""Maps each byte to one character, so that parts can be validated as UTF-8 afterwards."""
_BYTE_ORDER_MARK: Final = "\ufeff"
_CHUNK_BYTES: Final = 2**15


class NotAForm(InvalidRequest):
    """The body is not valid multipart (RFC 7578), has too many parts, or is not UTF-8."""


def is_form(content_type: str) -> bool:
    """Whether the content type is ``multipart/form-data``."""
    return content_type.partition(";")[0].strip().lower() == "multipart/form-data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Part of a form."""

    name: str
    content: bytes
    file_name: str | None = None
    """None if it is not a file."""
    content_type: str | None = None
    """None if it is not a file or has no type."""


async def read_form(body: bytes, content_type: str) -> list[tuple[str, str]]:
    """Parse a form into names and texts in order; files count as texts.

    A byte-order mark before a text is dropped: editors put it into files, and no prompt means it.

    Raises:
        NotAForm: as ``read_parts``, or a part is not in UTF-8.
    """
    return [(part.name, _text(part)) for part in await read_parts(body, content_type)]


async def read_parts(body: bytes, content_type: str) -> list[Part]:
    """Parse a form into parts, in order.

    Args:
        body: all of it, decompressed.
        content_type: the header, which holds the boundary.

    Raises:
        NotAForm: see above.
    """
    # The parser would take invalid UTF-8 for Latin-1, or decode with any codec of Python that the client names.
    headers = Headers({"content-type": f"{content_type}; charset={_BYTES}"})
    parser = MultiPartParser(
        headers, _chunks(body), max_files=MAX_PARTS, max_fields=MAX_PARTS, max_part_size=max(1, len(body))
    )
    parser.spool_max_size = max(1, len(body))  # so that no part is written to a temporary file
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise NotAForm(f"The request body is not valid multipart: {error.message}") from None
    try:
        return [await _part(name, value) for name, value in form.multi_items()]
    finally:
        await form.close()


async def _part(name: str, value: str | UploadFile) -> Part:
    name = _decoded(name, what="The name of a form part")
    if isinstance(value, str):
        return Part(name=name, content=value.encode(_BYTES))
    return Part(
        name=name,
        content=await value.read(),
        file_name=_decoded(value.filename or "", what="The file name of a form part"),
        content_type=value.content_type,
    )


def _decoded(header: str, *, what: str) -> str:
    try:
        return header.encode(_BYTES).decode()
    except UnicodeDecodeError:
        raise NotAForm(f"{what} is not UTF-8.") from None


def _text(part: Part) -> str:
    try:
        return part.content.decode().removeprefix(_BYTE_ORDER_MARK)
    except UnicodeDecodeError as error:
        byte = part.content[error.start]
        raise NotAForm(
            f"'{part.name}' is not UTF-8: byte 0x{byte:02x} at offset {error.start} cannot stand there.",
            param=part.name,
        ) from None


async def _chunks(body: bytes) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(body), _CHUNK_BYTES):
        yield body[start : start + _CHUNK_BYTES]
        await asyncio.sleep(0)  # parsing is slow; let other requests run
