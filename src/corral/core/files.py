"""Uploaded files. Times are Unix milliseconds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A file as received, with its content."""

    name: str
    content_type: str
    metadata: Mapping[str, Any]
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """Metadata of a stored file."""

    id: str
    account_id: str
    name: str
    content_type: str
    """As stated by the uploader; not checked."""
    size_bytes: int
    sha256: str
    """In hexadecimal, like ``md5``."""
    md5: str
    metadata: Mapping[str, Any]
    created_at_ms: int
    expires_at_ms: int
    """From this time on the file is treated as deleted."""
