"""Concurrent requests with little credit, over real sockets: only those that it covers run."""

import asyncio
from pathlib import Path

import pytest

from corral.core.prediction import Status
from tests.server.harness import INPUT_NUSD, MODEL, OUTPUT_NUSD, ServerHarness

pytestmark = pytest.mark.anyio

ASKED, AFFORDABLE, TOKENS = 200, 50, 5
PROMPT_TOKENS = 20
BODY = {"model": MODEL, "prompt": list(range(3, 3 + PROMPT_TOKENS)), "max_tokens": TOKENS, "temperature": 0}
WORST_NUSD = PROMPT_TOKENS * INPUT_NUSD + TOKENS * OUTPUT_NUSD


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
@pytest.mark.parametrize("stream", [False, True])
async def test_concurrent_requests_run_only_up_to_the_prepaid_credit(
    request: pytest.FixtureRequest, tmp_path: Path, database: str, stream: bool
) -> None:
    url = "" if database == "sqlite" else request.getfixturevalue("fresh_postgres_url")
    async with ServerHarness.create(tmp_path, url).server(step_s=0.002) as server:
        credit_nusd = AFFORDABLE * WORST_NUSD + WORST_NUSD - 1
        account_id, secret = await server.books.open_account(credit_nusd)
        async with server.http(key=secret) as http:
            http.timeout = 60
            asked = [http.post("/v1/completions", json={**BODY, "stream": stream}) for _ in range(ASKED)]
            statuses = [answer.status_code for answer in await asyncio.gather(*asked)]
        assert (statuses.count(200), statuses.count(402)) == (AFFORDABLE, ASKED - AFFORDABLE)
        made = await server.books.predictions(account_id)
        assert [(one.status, one.completion_tokens) for one in made] == [(Status.SUCCEEDED, TOKENS)] * AFFORDABLE
        assert server.made.engine.stats().delivered_tokens == AFFORDABLE * TOKENS
    async with ServerHarness(directory=tmp_path, database_url=url).books() as books:
        await books.check(account_id, credit_nusd=credit_nusd)
        assert (await books.accounts.get(account_id)).available_nusd == WORST_NUSD - 1
