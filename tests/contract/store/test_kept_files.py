"""Files in the database: ownership, expiry and quota."""

import asyncio
import hashlib
from functools import partial
from typing import Any

import pytest

from corral.core.files import StoredFile
from corral.store import files
from corral.store.books import accounts
from tests.contract.store.books import DAY, NOON, Books

pytestmark = pytest.mark.anyio

CONTENT = bytes(range(256))


def file_of(books: Books, number: int = 1, **changes: Any) -> StoredFile:
    """256 bytes that are kept for a day from noon on."""
    plain: dict[str, Any] = {
        "id": f"file{number}",
        "account_id": books.account.id,
        "name": "naïve 🦙.bin",
        "content_type": "application/octet-stream",
        "size_bytes": len(CONTENT),
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "md5": hashlib.md5(CONTENT, usedforsecurity=False).hexdigest(),
        "metadata": {"for": ["a\x00b", 1.5, None, {"deep": True}]},
        "created_at_ms": NOON + number,
        "expires_at_ms": NOON + number + DAY,
    }
    return StoredFile(**{**plain, **changes})


async def add(
    books: Books, file: StoredFile, content: bytes = CONTENT, *, most_files: int = 10, most_bytes: int = 10_000
) -> bool:
    return await books.store.write(lambda c: files.add(c, file, content, most_files=most_files, most_bytes=most_bytes))


async def listed(books: Books, account_id: str, at_ms: int = NOON + 10) -> list[StoredFile]:
    return await books.store.read(lambda c: files.list_files(c, account_id, now_ms=at_ms))


async def test_files_are_read_back_and_listed_newest_first(books: Books) -> None:
    mine = [file_of(books, number) for number in (1, 2, 3)]
    for file in mine:
        assert await add(books, file)
    found = await books.store.read(lambda c: files.read(c, books.account.id, "file2", now_ms=NOON + 10))
    assert found == (mine[1], CONTENT)
    assert await books.store.read(lambda c: files.find(c, books.account.id, "file2", now_ms=NOON + 10)) == mine[1]
    assert await listed(books, books.account.id) == mine[::-1]


async def test_another_account_cannot_list_or_delete_files(books: Books) -> None:
    await add(books, file_of(books))
    other = await books.store.write(lambda c: accounts.create_account(c, name="Bob", unlimited=False, now_ms=NOON))
    assert await listed(books, other.id) == []
    for account_id, file_id in ((other.id, "file1"), (books.account.id, "file\x00"), ("a\x00", "file1")):
        named = {"account_id": account_id, "file_id": file_id, "now_ms": NOON}
        assert await books.store.read(partial(files.find, **named)) is None
        assert await books.store.read(partial(files.read, **named)) is None
        assert not await books.store.write(partial(files.remove, **named))
    assert await books.store.write(lambda c: files.remove(c, books.account.id, "file1", now_ms=NOON))
    assert not await books.store.write(lambda c: files.remove(c, books.account.id, "file1", now_ms=NOON))
    assert await listed(books, books.account.id) == []


async def test_expired_file_is_not_found_before_it_is_purged(books: Books) -> None:
    file = file_of(books)
    await add(books, file)
    end_ms = file.expires_at_ms
    account_id = books.account.id
    assert await listed(books, account_id, end_ms - 1) == [file]
    assert await listed(books, account_id, end_ms) == []
    assert await books.store.read(lambda c: files.read(c, account_id, file.id, now_ms=end_ms)) is None
    assert not await books.store.write(lambda c: files.remove(c, account_id, file.id, now_ms=end_ms))


async def test_only_expired_files_are_purged_in_batches(books: Books) -> None:
    for number in range(1, 6):
        await add(books, file_of(books, number))
    at_ms = NOON + DAY + 3
    removed = [await books.store.write(lambda c: files.purge_expired(c, now_ms=at_ms, limit=2)) for _ in range(3)]
    assert removed == [2, 1, 0]
    assert [file.id for file in await listed(books, books.account.id)] == ["file5", "file4"]


async def test_concurrent_uploads_never_exceed_the_account_quota(books: Books) -> None:
    for most in ({"most_files": 3}, {"most_bytes": 3 * len(CONTENT) + 1}):
        kept = await asyncio.gather(*(add(books, file_of(books, number), **most) for number in range(1, 9)))
        assert sorted(kept) == [False] * 5 + [True] * 3
        assert len(await listed(books, books.account.id)) == 3
        later = file_of(books, 9, created_at_ms=NOON + 2 * DAY, expires_at_ms=NOON + 3 * DAY)
        assert await add(books, later, **most)  # those before have expired, and count no more
        assert await books.store.write(lambda c: files.purge_expired(c, now_ms=NOON + 4 * DAY)) == 1
