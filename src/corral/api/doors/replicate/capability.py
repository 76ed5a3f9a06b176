"""Addresses that open by themselves: whoever has one may read what it leads to, and nobody can guess another. Pure."""

import base64
import hashlib
import hmac
from typing import Final

TOKEN_CHARS: Final = 52
"""256 bits in base32, as Replicate's own stream URLs end."""
STREAM: Final = "stream"
FILE: Final = "file"


def token(key: bytes, purpose: str, subject: str) -> str:
    """The last part of the address: HMAC-SHA256 of purpose and subject, in lower-case base32."""
    digest = hmac.digest(key, f"{purpose}:{subject}".encode(), hashlib.sha256)
    return base64.b32encode(digest).decode().rstrip("=").lower()


def opens(key: bytes, purpose: str, subject: str, given: str) -> bool:
    """Whether *given* is that part, in a time that tells nothing of it."""
    return hmac.compare_digest(token(key, purpose, subject).encode(), given.encode(errors="replace"))
