"""Retention of text: how long it is stored, and that privacy keys store none. Counts and costs stay."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from corral.core.errors import DataRemoved
from corral.core.files import Upload
from corral.core.generation import RawPrompt
from corral.core.prediction import Status
from corral.service.accounts.files import RETENTION_S, Files
from corral.store.schema import files
from tests.engines import DEADLINE_S
from tests.unit.service.harness import (
    HELLO,
    ByteTokenizer,
    Clock,
    ServiceHarness,
    collected,
    once,
    open_account,
    open_harness,
    ready_engine,
    serving,
)

pytestmark = pytest.mark.anyio

ASKED = "xylophone-in-the-attic"
SAID = "quetzal-on-the-roof"
SAID_BY_TOKEN = json.dumps(list(SAID), separators=(",", ":"))[1:-1]
"""SAID as it is stored: one chunk per token, which is a byte here."""
REQUEST = replace(HELLO, prompt=RawPrompt(ASKED))


def stored_bytes(database: Path) -> bytes:
    """Content of the database files, including the write-ahead log."""
    return b"".join(path.read_bytes() for path in database.parent.glob("corral.db*"))


async def test_prompt_and_answer_are_stored_without_privacy(database: Path) -> None:
    async with open_harness(database, SAID) as harness:
        await harness.answer(REQUEST, shown_input={"prompt": ASKED})
        stored = await harness.newest()
        assert stored.texts == [SAID]
        assert stored.input is not None
        assert stored.input["shown"] == {"prompt": ASKED}
        kept = stored_bytes(database)
        assert ASKED.encode() in kept
        assert SAID_BY_TOKEN.encode() in kept


@pytest.mark.parametrize("terms", [{}, {"background": True}, {"idempotency": once()}])
async def test_privacy_key_leaves_no_text_in_the_database(database: Path, terms: dict[str, object]) -> None:
    answer = SAID * 10
    async with open_harness(database, answer, terms={"privacy": True}, step_s=0.003) as harness:
        result = await harness.answer(REQUEST, shown_input={"prompt": ASKED}, **terms)
        assert result.choices[0].text == answer
        stored = await harness.settled((await harness.newest()).id)
        assert (stored.input, stored.output, stored.data_removed) == (None, None, True)
        assert stored.completion_tokens == len(answer) + 1
        assert stored.cost_nusd
        with pytest.raises(DataRemoved):
            await collected(await harness.service.attach(harness.caller, stored.id))
    kept = stored_bytes(database)
    assert ASKED.encode() not in kept
    assert SAID.encode() not in kept
    assert SAID_BY_TOKEN.encode() not in kept


async def test_running_prediction_of_a_privacy_key_shows_no_text(database: Path) -> None:
    async with (
        open_harness(database, SAID, terms={"privacy": True}, step_s=0.02) as harness,
        harness.service.open(harness.ask(REQUEST)) as run,
    ):
        async for number, _ in run.events():
            if number == 5:
                stored = await harness.service.get(harness.caller, run.id)
                assert (stored.input, stored.output, stored.status) == (None, None, Status.PROCESSING)


async def until_removed(harness: ServiceHarness, prediction_id: str) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not (await harness.service.get(harness.caller, prediction_id)).data_removed:
            await asyncio.sleep(0.005)


async def test_text_is_purged_after_its_retention_and_the_bill_stays(database: Path) -> None:
    clock = Clock()
    answer = tuple(ByteTokenizer().encode(SAID))
    async with ready_engine(answer=answer) as engine:
        async with serving(database, engine, clock=clock, retention_s=3600) as harness:
            await open_account(harness)
            await harness.answer(REQUEST, idempotency=once())
            before = await harness.settled((await harness.newest()).id)
            caller = harness.caller
        clock.ahead_s = 3000
        async with serving(database, engine, clock=clock, retention_s=3600) as harness:
            assert (await harness.service.get(caller, before.id)).texts == [SAID]
        clock.ahead_s = 3700
        async with serving(database, engine, clock=clock, retention_s=3600) as harness:
            harness.caller = caller
            await until_removed(harness, before.id)
            after = await harness.service.get(caller, before.id)
            assert after == replace(before, input=None, output=None, prompt_digest=None, data_removed=True)
            with pytest.raises(DataRemoved):
                await collected(await harness.service.attach(caller, before.id))
            assert await harness.usage.reconcile() == []


async def test_files_are_deleted_after_a_day_even_if_text_is_kept_forever(database: Path) -> None:
    clock = Clock()
    upload = Upload(name="a.txt", content_type="text/plain", metadata={}, content=SAID.encode())
    async with ready_engine() as engine:
        async with serving(database, engine, clock=clock, retention_s=0) as harness:
            await open_account(harness)
            await Files(harness.store, clock=clock).keep(harness.account_id, upload)
        assert SAID.encode() in stored_bytes(database)
        clock.ahead_s = RETENTION_S + 1
        async with serving(database, engine, clock=clock, retention_s=0) as harness, asyncio.timeout(DEADLINE_S):
            while await harness.store.read(lambda c: c.execute(select(files.c.id)).all()):
                await asyncio.sleep(0.005)
    assert SAID.encode() not in stored_bytes(database)


async def test_retention_of_zero_keeps_text_forever(database: Path) -> None:
    clock = Clock()
    async with ready_engine(answer=tuple(ByteTokenizer().encode(SAID))) as engine:
        async with serving(database, engine, clock=clock, retention_s=0) as harness:
            await open_account(harness)
            await harness.answer(REQUEST)
            caller, stored = harness.caller, await harness.newest()
        clock.ahead_s = 10 * 365 * 86400
        async with serving(database, engine, clock=clock, retention_s=0) as harness:
            assert (await harness.service.get(caller, stored.id)).texts == [SAID]
