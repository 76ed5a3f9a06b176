"""From a multipart body to its parts: few, and no larger than a body may be. Knows no dialect."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from corral.core.errors import InvalidRequest

MAX_PARTS: Final = 64
"""Of each kind: with a file name, and without."""


class NotAForm(InvalidRequest):
    """The body is not what its ``Content-Type`` says: multipart (RFC 7578), with few parts, in UTF-8."""


def is_form(content_type: str) -> bool:
    """Whether a body of that type is one part per field."""
    return content_type.partition(";")[0].strip().lower() == "multipart/form-data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part."""

    name: str
    content: bytes
    """In UTF-8 where it was not sent as a file."""
    file_name: str | None = None
    """None where it was not sent as a file."""
    content_type: str | None = None
    """None where it was not sent as a file, or without one."""


async def read_form(body: bytes, content_type: str) -> list[tuple[str, str]]:
    """Name and text of each part in their order, those that were sent as files included; as ``read_parts`` else."""
    return [(part.name, _text(part)) for part in await read_parts(body, content_type)]


async def read_parts(body: bytes, content_type: str) -> list[Part]:
    """The parts in their order.

    Args:
        body: all of it, decompressed.
        content_type: the header, which holds the boundary.

    Raises:
        NotAForm: see above.
    """
    headers = Headers({"content-type": content_type})
    parser = MultiPartParser(
        headers, _once(body), max_files=MAX_PARTS, max_fields=MAX_PARTS, max_part_size=max(1, len(body))
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
    if isinstance(value, str):
        return Part(name=name, content=value.encode())
    return Part(name=name, content=await value.read(), file_name=value.filename, content_type=value.content_type)


def _text(part: Part) -> str:
    try:
        return part.content.decode()
    except UnicodeDecodeError:
        raise NotAForm("A part that was sent as a file is not text in UTF-8.", param=part.name) from None


async def _once(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body
