"""Files that callers leave here for a day: few, small, each its account's own. Knows no HTTP and no SQL."""

import asyncio
import hashlib
import secrets
from collections.abc import Callable
from functools import partial
from typing import Final

from corral.core.errors import InvalidRequest
from corral.core.files import StoredFile, Upload
from corral.store import files
from corral.store.store import Store

KEPT_S: Final = 24 * 3600
MOST_FILES: Final = 100
"""Of one account at a time, as the next; few enough for one page."""
MOST_BYTES: Final = 64 * 1024**2
_ID_BYTES: Final = 16


class Files:
    """One store's files."""

    def __init__(self, store: Store, *, clock: Callable[[], float]) -> None:
        """Take the store over; *clock* gives Unix time in seconds."""
        self._store = store
        self._clock = clock

    async def keep(self, account_id: str, upload: Upload) -> StoredFile:
        """Keep a file for KEPT_S.

        Raises:
            InvalidRequest: of ``content``; the account would have too many, or too much in them.
        """
        sha256, md5 = await asyncio.to_thread(_checksums, upload.content)
        now_ms = self._now_ms()
        file = StoredFile(
            id=secrets.token_hex(_ID_BYTES),
            account_id=account_id,
            name=upload.name,
            content_type=upload.content_type,
            size_bytes=len(upload.content),
            sha256=sha256,
            md5=md5,
            metadata=upload.metadata,
            created_at_ms=now_ms,
            expires_at_ms=now_ms + 1000 * KEPT_S,
        )
        add = partial(files.add, file=file, content=upload.content, most_files=MOST_FILES, most_bytes=MOST_BYTES)
        if not await self._store.write(add):
            raise InvalidRequest(
                f"An account may keep {MOST_FILES} files of {MOST_BYTES} bytes together: delete some, or wait.",
                param="content",
            )
        return file

    async def list(self, account_id: str) -> list[StoredFile]:
        """All that the account has, newest first."""
        return await self._store.read(partial(files.list_files, account_id=account_id, now_ms=self._now_ms()))

    async def get(self, account_id: str, file_id: str) -> StoredFile | None:
        """The account's file of that id; None if there is none, or its time is up."""
        find = partial(files.find, account_id=account_id, file_id=file_id, now_ms=self._now_ms())
        return await self._store.read(find)

    async def read(self, account_id: str, file_id: str) -> tuple[StoredFile, bytes] | None:
        """As ``get``, and its content."""
        read = partial(files.read, account_id=account_id, file_id=file_id, now_ms=self._now_ms())
        return await self._store.read(read)

    async def remove(self, account_id: str, file_id: str) -> bool:
        """Remove the account's file of that id; whether there was one."""
        remove = partial(files.remove, account_id=account_id, file_id=file_id, now_ms=self._now_ms())
        return await self._store.write(remove)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def _checksums(content: bytes) -> tuple[str, str]:
    """SHA-256, and MD5 because clients expect one; both in hexadecimal."""
    return hashlib.sha256(content).hexdigest(), hashlib.md5(content, usedforsecurity=False).hexdigest()
