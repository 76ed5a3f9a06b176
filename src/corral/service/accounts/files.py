"""Uploaded files: private to an account, limited in number and size, deleted after a day."""

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

RETENTION_S: Final = 24 * 3600
MAX_FILES: Final = 100
"""Most files of one account at a time; `MAX_BYTES` is their total size. All files fit on one page of a list."""
MAX_BYTES: Final = 64 * 1024**2
_ID_BYTES: Final = 16


class Files:
    """Stores, lists, reads and deletes uploaded files."""

    def __init__(self, store: Store, *, clock: Callable[[], float]) -> None:
        """Create the service over *store*; *clock* returns Unix time in seconds."""
        self._store = store
        self._clock = clock

    async def keep(self, account_id: str, upload: Upload) -> StoredFile:
        """Store a file for RETENTION_S seconds.

        Raises:
            InvalidRequest: the account would exceed MAX_FILES or MAX_BYTES; ``param`` is ``content``.
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
            expires_at_ms=now_ms + 1000 * RETENTION_S,
        )
        add = partial(files.add, file=file, content=upload.content, most_files=MAX_FILES, most_bytes=MAX_BYTES)
        if not await self._store.write(add):
            raise InvalidRequest(
                f"An account may store {MAX_FILES} files with {MAX_BYTES} bytes in total. Delete some, or wait until"
                " they expire.",
                param="content",
            )
        return file

    async def list(self, account_id: str) -> list[StoredFile]:
        """List the account's files, newest first."""
        return await self._store.read(partial(files.list_files, account_id=account_id, now_ms=self._now_ms()))

    async def get(self, account_id: str, file_id: str) -> StoredFile | None:
        """Get the metadata of a file; None if the account has no such file or it has expired."""
        find = partial(files.find, account_id=account_id, file_id=file_id, now_ms=self._now_ms())
        return await self._store.read(find)

    async def read(self, account_id: str, file_id: str) -> tuple[StoredFile, bytes] | None:
        """Get the metadata and content of a file; None as in ``get``."""
        read = partial(files.read, account_id=account_id, file_id=file_id, now_ms=self._now_ms())
        return await self._store.read(read)

    async def remove(self, account_id: str, file_id: str) -> bool:
        """Delete a file of the account. Returns False if there was none."""
        remove = partial(files.remove, account_id=account_id, file_id=file_id, now_ms=self._now_ms())
        return await self._store.write(remove)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def _checksums(content: bytes) -> tuple[str, str]:
    """Compute SHA-256 and MD5 in hexadecimal. Clients expect the MD5; it protects nothing."""
    return hashlib.sha256(content).hexdigest(), hashlib.md5(content, usedforsecurity=False).hexdigest()
