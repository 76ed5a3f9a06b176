"""Clients that disconnect in the middle: exactly the emitted tokens are billed."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from corral.core.prediction import Prediction, Status, StoppedBy
from tests.engines import DEADLINE_S, give_up_once_emitting, until_idle
from tests.server.harness import MODEL, OpenServer, ServerHarness

pytestmark = pytest.mark.anyio

TOKENS = 60
STORY: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Tell me a story."}],
    "max_tokens": TOKENS,
    "temperature": 0,
}
ROUTES = {
    "/v1/chat/completions": STORY,
    "/v1/openai/chat/completions": STORY,
    "/v1/completions": {"model": MODEL, "prompt": "Once", "max_tokens": TOKENS, "temperature": 0},
}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[OpenServer]:
    """A token every three milliseconds."""
    async with ServerHarness.create(tmp_path).server(step_s=0.003) as made:
        yield made


async def settled(server: OpenServer, account_id: str) -> list[Prediction]:
    """The account's predictions, once all are over and the books agree with the engine's own count."""
    await until_idle(server.made.engine)
    async with asyncio.timeout(DEADLINE_S):
        while (await server.books.accounts.get(account_id)).held_nusd or await server.books.usage.reconcile():
            await asyncio.sleep(0.01)
    await server.books.check(account_id)
    made = await server.books.predictions(account_id)
    assert sum(one.completion_tokens for one in made) == server.made.engine.stats().delivered_tokens
    return made


async def read_until(server: OpenServer, secret: str, route: str, tokens: int) -> int:
    """Stream until so many tokens are received, then close the socket; return the number received."""
    body = {**ROUTES[route], "stream": True, "stream_options": {"continuous_usage_stats": True}}
    async with server.http(key=secret) as http, http.stream("POST", route, json=body) as answer:
        assert answer.status_code == 200
        async for line in answer.aiter_lines():
            if line.startswith("data: {"):
                seen_tokens = orjson.loads(line.removeprefix("data: "))["usage"]["completion_tokens"]
                if seen_tokens >= tokens:
                    return seen_tokens
    pytest.fail(f"the stream ended before {tokens} tokens")


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("tokens", [1, 10, TOKENS])
async def test_disconnect_during_stream_bills_emitted_tokens(server: OpenServer, route: str, tokens: int) -> None:
    account_id, secret = await server.books.open_account()
    seen_tokens = await read_until(server, secret, route, tokens)
    (one,) = await settled(server, account_id)
    assert seen_tokens <= one.completion_tokens <= TOKENS
    if tokens < TOKENS:
        assert (one.status, one.stopped_by) == (Status.CANCELED, StoppedBy.DISCONNECT)
        assert one.completion_tokens < TOKENS
    else:
        assert one.completion_tokens == TOKENS


async def test_disconnect_during_non_streaming_request_bills_emitted_tokens(server: OpenServer) -> None:
    account_id, secret = await server.books.open_account()
    async with server.openai(api_key=secret) as client:
        story = {**STORY, "max_tokens": 3000}
        await give_up_once_emitting(server.made.engine, client.chat.completions.create(**story))
    (one,) = await settled(server, account_id)
    assert (one.status, one.stopped_by) == (Status.CANCELED, StoppedBy.DISCONNECT)
    assert 0 < one.completion_tokens < 3000


async def test_idempotent_retry_after_disconnect_returns_the_complete_answer(
    server: OpenServer,
) -> None:
    account_id, secret = await server.books.open_account()
    async with server.openai(api_key=secret, default_headers={"idempotency-key": "once"}) as client:
        async with await client.chat.completions.create(**STORY, stream=True) as stream:
            await anext(aiter(stream))
        # The body is another one without "stream", so it is asked for in the same way again.
        chunks = [chunk async for chunk in await client.chat.completions.create(**STORY, stream=True)]
    (one,) = await settled(server, account_id)
    assert (one.status, one.completion_tokens) == (Status.SUCCEEDED, TOKENS)
    assert one.texts == ["".join(chunk.choices[0].delta.content or "" for chunk in chunks)]


async def test_random_disconnects_bill_exactly_the_emitted_tokens(server: OpenServer) -> None:
    account_id, secret = await server.books.open_account()

    await asyncio.gather(*(read_until(server, secret, "/v1/chat/completions", 3 * k) for k in range(20)))
    made = await settled(server, account_id)
    assert len(made) == 20
    assert StoppedBy.DISCONNECT in {one.stopped_by for one in made}
