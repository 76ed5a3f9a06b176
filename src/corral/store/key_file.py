"""The local API key: made on first start, kept in a file that only its owner may read.

The same file lets ``corral chat`` on this machine find the key.
"""

import os
import secrets
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final

KEY_FILE: Final = "api-key"
"""Its name in the data directory."""
KEY_PREFIX: Final = "ck_"
_KEY_BYTES: Final = 32


def read_key(path: Path) -> str | None:
    """The key in the file; None without a file."""
    try:
        return path.read_text(encoding="ascii").strip() or None
    except FileNotFoundError:
        return None


def read_or_make_key(path: Path) -> tuple[str, bool]:
    """The key in the file, made if there is none; and whether it was made now.

    Raises:
        OSError: the directory cannot be written.
    """
    if existing := read_key(path):
        return existing, False
    key = KEY_PREFIX + secrets.token_urlsafe(_KEY_BYTES)
    # Written beside and linked into place: two servers that start at once agree on one key, and none reads half of it.
    with NamedTemporaryFile("w", dir=path.parent, prefix=path.name, suffix=".tmp", encoding="ascii") as draft:
        draft.write(key + "\n")
        draft.flush()
        try:
            os.link(draft.name, path)
        except FileExistsError:
            return read_or_make_key(path)
    return key, True
