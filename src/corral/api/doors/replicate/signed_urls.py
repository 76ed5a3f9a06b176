"""Signed URLs that need no API key: whoever has the URL has access, and it cannot be guessed."""

import base64
import hashlib
import hmac
from typing import Final

TOKEN_CHARS: Final = 52
"""256 bits in base32, the length in Replicate's own stream URLs."""
STREAM: Final = "stream"
FILE: Final = "file"


def token(key: bytes, purpose: str, subject: str) -> str:
    """Last part of a signed URL: HMAC-SHA256 of purpose and subject, in lower-case base32."""
    digest = hmac.digest(key, f"{purpose}:{subject}".encode(), hashlib.sha256)
    return base64.b32encode(digest).decode().rstrip("=").lower()


def opens(key: bytes, purpose: str, subject: str, given: str) -> bool:
    """Check the last part of a signed URL in constant time."""
    return hmac.compare_digest(token(key, purpose, subject).encode(), given.encode(errors="replace"))
