"""Secrets in files that only their owner may read: the local API key and the pepper of stored keys.

The file of the API key lets ``corral chat`` on this machine find it.
"""

import os
import secrets
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final

KEY_FILE: Final = "api-key"
"""The API key's name in the data directory."""
PEPPER_FILE: Final = "key-pepper"
"""The pepper's: without it no stored key can be recognised, nor guessed."""
KEY_PREFIX: Final = "ck_"
_SECRET_BYTES: Final = 32


def read_secret(path: Path) -> str | None:
    """The secret in the file; None without a file."""
    try:
        return path.read_text(encoding="ascii").strip() or None
    except FileNotFoundError:
        return None


def read_or_make_secret(path: Path, *, prefix: str = "") -> tuple[str, bool]:
    """The secret in the file, 256 random bits after *prefix* if there is none; and whether it was made now.

    Raises:
        OSError: the directory cannot be written.
    """
    if existing := read_secret(path):
        return existing, False
    made = new_secret(prefix)
    # Written beside and linked into place: two servers that start at once agree, and none reads half a secret.
    with NamedTemporaryFile("w", dir=path.parent, prefix=path.name, suffix=".tmp", encoding="ascii") as draft:
        draft.write(made + "\n")
        draft.flush()
        try:
            os.link(draft.name, path)
        except FileExistsError:
            return read_or_make_secret(path, prefix=prefix)
    return made, True


def new_secret(prefix: str) -> str:
    """*prefix* and 256 random bits in URL-safe base64."""
    return prefix + secrets.token_urlsafe(_SECRET_BYTES)
