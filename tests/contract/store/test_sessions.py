"""Web sessions: start, end, expiry, limit per key."""

import pytest

from corral.core.accounts import Scope
from corral.store.books import keys, sessions
from tests.contract.store.books import NOON, Books

pytestmark = pytest.mark.anyio

WEEK_MS = 7 * 24 * 3600 * 1000


async def new_key(books: Books, digest: bytes) -> str:
    key = keys.NewKey(account_id=books.account.id, name="k", digest=digest, scopes=frozenset(Scope))
    return (await books.store.write(lambda c: keys.add_key(c, key, now_ms=NOON))).id


async def begin(books: Books, digest: bytes, *, key_id: str, at_ms: int = NOON) -> None:
    await books.store.write(
        lambda c: sessions.begin(c, digest, key_id=key_id, expires_at_ms=at_ms + WEEK_MS, now_ms=at_ms)
    )


async def is_open(books: Books, digest: bytes, *, at_ms: int = NOON) -> bool:
    return await books.store.read(lambda c: sessions.is_open(c, digest, now_ms=at_ms))


async def test_session_is_valid_until_ended_or_expired(books: Books) -> None:
    key_id = await new_key(books, b"k1")
    for digest in (b"one", b"two"):
        await begin(books, digest, key_id=key_id)
    assert await is_open(books, b"one")
    assert not await is_open(books, b"never begun")
    await books.store.write(lambda c: sessions.end(c, b"one"))
    await books.store.write(lambda c: sessions.end(c, b"one"))
    assert not await is_open(books, b"one")
    assert await is_open(books, b"two", at_ms=NOON + WEEK_MS - 1)
    assert not await is_open(books, b"two", at_ms=NOON + WEEK_MS)


async def test_a_new_session_deletes_expired_ones(books: Books) -> None:
    key_id = await new_key(books, b"k2")
    await begin(books, b"old", key_id=key_id)
    await begin(books, b"new", key_id=await new_key(books, b"k3"), at_ms=NOON + WEEK_MS)
    # Asked as of a time at which a row that is still there would be open.
    assert not await is_open(books, b"old")
    assert await is_open(books, b"new", at_ms=NOON + WEEK_MS)


async def test_a_key_has_a_bounded_number_of_sessions_and_the_oldest_end_first(books: Books) -> None:
    key_id, other_id = await new_key(books, b"k4"), await new_key(books, b"k5")
    await begin(books, b"other", key_id=other_id)
    digests = [f"{number:04d}".encode() for number in range(sessions.MAX_PER_KEY + 3)]
    for number, digest in enumerate(digests):
        await begin(books, digest, key_id=key_id, at_ms=NOON + number)
    left = [digest for digest in digests if await is_open(books, digest)]
    assert left == digests[3:]
    assert await is_open(books, b"other")
