"""Secrets in files readable by their owner only: the local API key and the pepper.

Commands on the same machine, such as ``corral chat``, read the API key from its file.
"""

import os
import secrets
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final

KEY_FILE: Final = "api-key"
"""Name of the API key's file in the data directory."""
PEPPER_FILE: Final = "key-pepper"
"""Name of the pepper's file. Without the pepper, stored key digests can neither be matched nor guessed."""
KEY_PREFIX: Final = "ck_"
_SECRET_BYTES: Final = 32


def read_secret(path: Path) -> str | None:
    """Read the secret from a file; None if the file does not exist or is empty."""
    try:
        return path.read_text(encoding="ascii").strip() or None
    except FileNotFoundError:
        return None


def read_or_create_secret(path: Path, *, prefix: str = "") -> tuple[str, bool]:
    """Read the secret from a file, or create it; return it and whether it was created.

    Raises:
        OSError: the directory cannot be written.
    """
    if existing := read_secret(path):
        return existing, False
    made = new_secret(prefix)
    # Written to a temporary file and linked into place: servers that start at the same time use the same secret, and
    # none reads a partial one.
    with NamedTemporaryFile("w", dir=path.parent, prefix=path.name, suffix=".tmp", encoding="ascii") as draft:
        draft.write(made + "\n")
        draft.flush()
        try:
            os.link(draft.name, path)
        except FileExistsError:
            return read_or_create_secret(path, prefix=prefix)
    return made, True


def new_secret(prefix: str) -> str:
    """Create a secret: *prefix* and 256 random bits in URL-safe base64."""
    return prefix + secrets.token_urlsafe(_SECRET_BYTES)
