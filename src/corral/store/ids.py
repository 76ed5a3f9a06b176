"""Random ids of accounts, keys, transfers and deliveries."""

import base64
import secrets
from typing import Final

_BYTES: Final = 10
"""80 bits: 16 characters of base32."""


def new_id(prefix: str) -> str:
    """Create an id: *prefix*, ``_`` and 16 random characters a-z2-7."""
    return f"{prefix}_{base64.b32encode(secrets.token_bytes(_BYTES)).decode().lower()}"
