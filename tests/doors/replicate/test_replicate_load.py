"""100 concurrent waits on the OpenVINO engine, every second one canceled while running."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from httpx2 import AsyncClient

from corral.bootstrap import Server, build
from tests.demo_server import demo_settings
from tests.doors.live_server import SECRET, serving
from tests.doors.replicate.replicate_client import CHAT, create, poll_until
from tests.engines import until_idle
from tests.server.harness import INPUT_NUSD, OUTPUT_NUSD, Books

pytestmark = pytest.mark.anyio

CALLERS = 100
CREDIT_NUSD = 10**12
SHORT_TOKENS, LONG_TOKENS = 12, 1500
CANCELS_AT_ONCE = 8
PATIENCE_S = 120
"""Seconds for all runs to end."""


@pytest.fixture
async def built_server(tmp_path: Path) -> AsyncIterator[Server]:
    """Server built as ``corral serve`` builds it, with the demo model on the CPU and a price for it."""
    prices = tmp_path / "prices.toml"
    prices.write_text(
        f'[["{CHAT}"]]\nsince = 2026-01-01\n'
        f'input_usd_per_million = "{INPUT_NUSD / 1000}"\noutput_usd_per_million = "{OUTPUT_NUSD / 1000}"\n'
    )
    settings = demo_settings(tmp_path / "data", prices=prices, api_key=SECRET)
    built_server = build(settings, lambda _: None)
    async with built_server.run():
        await built_server.engine.ready()
        yield built_server


def input_for(number: int) -> dict[str, Any]:
    """Input of a request; every second one runs until it is canceled."""
    tokens = LONG_TOKENS if number % 2 else SHORT_TOKENS
    return {
        "prompt": f"What does llama {number} eat?",
        "system_prompt": "",
        "prompt_template": "{prompt}",
        "min_tokens": tokens,
        "max_tokens": tokens,
        "seed": number + 1,
    }


async def cancel_while_running(http: AsyncClient) -> dict[str, dict[str, Any]]:
    """Cancel each long run after its first output; returns the cancel responses by prediction."""
    answers: dict[str, dict[str, Any]] = {}
    while len(answers) < CALLERS // 2:
        listed = (await http.get("/v1/predictions")).json()["results"]
        running = [
            one for one in listed if one["status"] == "processing" and one["output"] and one["id"] not in answers
        ]
        stopped = [one for one in running if one["input"]["max_tokens"] == LONG_TOKENS][:CANCELS_AT_ONCE]
        async with asyncio.TaskGroup() as tasks:
            posts = [tasks.create_task(http.post(one["urls"]["cancel"])) for one in stopped]
        answers |= {one["id"]: post.result().json() for one, post in zip(stopped, posts, strict=True)}
    return answers


async def check_receipts(books: Books, account_id: str) -> None:
    """Assert that receipts match their predictions and sum to the account's charges."""
    found = await books.predictions(account_id)
    assert len(found) == CALLERS
    paid_nusd = 0
    for one in found:
        receipt = one.receipt
        assert receipt is not None
        assert (receipt["prompt_tokens"], receipt["completion_tokens"]) == (one.prompt_tokens, one.completion_tokens)
        assert one.cost_nusd == receipt["total_nusd"] > 0
        paid_nusd += receipt["total_nusd"]
    assert (await books.accounts.get(account_id)).available_nusd == CREDIT_NUSD - paid_nusd < CREDIT_NUSD


async def test_concurrent_waits_and_cancels_leave_an_exact_ledger_and_an_idle_engine(built_server: Server) -> None:
    books = Books(built_server.store, built_server.account_services)
    account_id, secret = await books.open_account(CREDIT_NUSD)
    async with serving(built_server.app) as live, live.http(key=secret) as http, live.http(key=secret) as other:
        http.timeout = other.timeout = 120
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
            waits = [
                tasks.create_task(create(http, CHAT, prefer="wait", **input_for(number))) for number in range(CALLERS)
            ]
            canceling = tasks.create_task(cancel_while_running(other))
        canceled = canceling.result()
        async with asyncio.timeout(PATIENCE_S):
            ends = [(await poll_until(http, task.result()))[-1] for task in waits]
    for number, (end, answer) in enumerate(zip(ends, waits, strict=True)):
        assert end["status"] == ("canceled" if number % 2 else "succeeded")
        waited = answer.result()
        assert waited == end or waited["status"] == "starting"  # a wait is at most one minute
    assert {end["id"] for end in ends[1::2]} == canceled.keys()
    assert all(end == canceled[end["id"]] for end in ends[1::2])
    assert all(end["metrics"]["output_token_count"] == SHORT_TOKENS for end in ends[::2])
    assert all(end["metrics"]["output_token_count"] < LONG_TOKENS for end in ends[1::2])
    await books.check(account_id, credit_nusd=CREDIT_NUSD)
    await check_receipts(books, account_id)
    await until_idle(built_server.engine)
    stats = built_server.engine.stats()
    assert (stats.running, stats.waiting, stats.kv_blocks_reserved, stats.restarts) == (0, 0, 0, 0)
