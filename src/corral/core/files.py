"""Files that callers left here. Values only; times are Unix milliseconds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A file as it came in."""

    name: str
    content_type: str
    metadata: Mapping[str, Any]
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """What is known of a file that is kept, without its content."""

    id: str
    account_id: str
    name: str
    content_type: str
    """As its sender said; nobody looked."""
    size_bytes: int
    sha256: str
    """Hexadecimal, as the next."""
    md5: str
    metadata: Mapping[str, Any]
    created_at_ms: int
    expires_at_ms: int
    """From then on it is not there any more."""
