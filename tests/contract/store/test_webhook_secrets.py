"""Salts of webhook secrets: one per account, and the previous one."""

import asyncio

import pytest

from corral.store.webhooks import secrets as webhook_secrets
from corral.store.webhooks.secrets import Salts
from tests.contract.store.books import NOON, Books

pytestmark = pytest.mark.anyio


async def test_concurrent_requests_create_one_salt_per_account(books: Books) -> None:
    assert await books.store.read(lambda c: webhook_secrets.salts(c, books.account.id)) is None

    async def ensure(number: int) -> Salts:
        fresh = bytes([number]) * 32
        return await books.store.write(lambda c: webhook_secrets.ensure(c, books.account.id, fresh, now_ms=NOON))

    made = await asyncio.gather(*map(ensure, range(8)))
    assert len(set(made)) == 1
    assert made[0].previous is made[0].rotated_at_ms is None


async def test_rotation_keeps_the_previous_secret(books: Books) -> None:
    async def rotate(fresh: bytes, at_ms: int) -> Salts:
        return await books.store.write(lambda c: webhook_secrets.rotate(c, books.account.id, fresh, now_ms=at_ms))

    assert await rotate(b"first", NOON) == Salts(current=b"first", previous=None, rotated_at_ms=None)
    assert await rotate(b"second", NOON + 1) == Salts(current=b"second", previous=b"first", rotated_at_ms=NOON + 1)
    third = await rotate(b"third", NOON + 2)
    assert third == Salts(current=b"third", previous=b"second", rotated_at_ms=NOON + 2)
    assert await books.store.read(lambda c: webhook_secrets.salts(c, books.account.id)) == third
