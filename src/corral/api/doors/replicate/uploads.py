"""Validate the form of a file upload.

The clients of version 1 and JavaScript's put name and type into the head of the part ``content``, and ``metadata`` is
JSON. The client of version 2 has a part for each, and one per entry of ``metadata``.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast

from corral.api.doors.replicate.faults import Fault, invalid
from corral.api.form import Part
from corral.api.json_document import NotJson, decode_utf8, parse_json
from corral.core.files import Upload

MAX_NAME_CHARS: Final = 255
MAX_TYPE_CHARS: Final = 127
MAX_METADATA_BYTES: Final = 4096
UNTYPED: Final = "application/octet-stream"
_WORD: Final = r"[A-Za-z0-9!#$&^_.+-]+"
_TYPE: Final = re.compile(rf"{_WORD}/{_WORD}(; ?{_WORD}=({_WORD}|\"{_WORD}\"))*")
"""A media type with its parameters (RFC 6838, section 4.2), without line ends."""
_ENTRY: Final = re.compile(r"metadata\[([^\[\]]{1,64})\]")
_KNOWN: Final = ("content", "filename", "type", "metadata")


def read_upload(parts: Sequence[Part]) -> Upload:
    """Build the file from the parts of a form.

    Raises:
        InvalidInput: with every fault.
        NotJson: a part other than the file is not UTF-8.
    """
    by_name = {part.name: part for part in parts}
    content = by_name.get("content", Part(name="content", content=b""))
    name = _text(by_name.get("filename")) or content.file_name or ""
    kind = _text(by_name.get("type")) or content.content_type or UNTYPED
    metadata = _metadata(by_name)
    faults = list(_faults_of_parts(parts))
    if content.file_name is None:
        faults.append(Fault(type="required", field="content", description="content is required, as a file"))
    elif not (0 < len(name) <= MAX_NAME_CHARS and name.isprintable()):
        description = f"Must be 1 to {MAX_NAME_CHARS} printable characters"
        faults.append(Fault(type="invalid", field="filename", description=description))
    if len(kind) > MAX_TYPE_CHARS or not _TYPE.fullmatch(kind):
        faults.append(Fault(type="format", field="type", description="Must be a media type"))
    if metadata is None:
        description = f"Must be a JSON object of at most {MAX_METADATA_BYTES} bytes"
        faults.append(Fault(type="invalid_type", field="metadata", description=description))
    if faults or metadata is None:
        raise invalid(faults)
    return Upload(name=name, content_type=kind, metadata=metadata, content=content.content)


def _faults_of_parts(parts: Sequence[Part]) -> Iterator[Fault]:
    for name, count in Counter(part.name for part in parts).items():
        shown = name if len(name) <= 64 else name[:64] + "…"
        if name not in _KNOWN and not _ENTRY.fullmatch(name):
            description = f"Additional property {shown} is not allowed"
            yield Fault(type="additional_property_not_allowed", field="", description=description)
        elif count > 1:
            yield Fault(type="invalid", field=shown, description="Must be sent once")


def _text(part: Part | None) -> str:
    return "" if part is None else decode_utf8(part.content, what=f"'{part.name}'")


def _metadata(parts: Mapping[str, Part]) -> dict[str, Any] | None:
    """Parse the metadata part; None if it is not an object or is too large."""
    entries = {match[1]: part for name, part in parts.items() if (match := _ENTRY.fullmatch(name))}
    whole = parts.get("metadata", Part(name="metadata", content=b"{}"))
    sizes_bytes = (len(whole.content), *(len(name.encode()) + len(part.content) for name, part in entries.items()))
    if sum(sizes_bytes) > MAX_METADATA_BYTES:
        return None
    try:
        document = parse_json(whole.content)
    except NotJson:
        return None
    if not isinstance(document, dict):
        return None
    return {**cast("dict[str, Any]", document), **{name: _text(part) for name, part in entries.items()}}
