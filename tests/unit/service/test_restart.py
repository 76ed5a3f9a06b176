"""Restarts: durable runs resume, all others are settled, and the books agree."""

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from corral.core.errors import Canceled, EngineUnavailable, ServerStopping
from corral.core.generation import Delta, GenerationRequest, Sampling, Stopping
from corral.core.prediction import Status, StoppedBy
from corral.service.ports import PredictionEvents
from tests.engines import scripted_engine
from tests.unit.service.harness import (
    ByteTokenizer,
    ServiceHarness,
    collected,
    limited,
    numbered,
    once,
    open_account,
    ready_engine,
    serving,
    text_of,
)

pytestmark = pytest.mark.anyio

GREEDY = limited(120)
SEEDED = replace(GREEDY, sampling=Sampling(temperature=1))
"""The seed is drawn."""
STOPPING = replace(SEEDED, stopping=Stopping(max_tokens=120, stop=("\u0000\u0000\u0000",)), choices=3)


async def until_token(run: PredictionEvents, tokens: int) -> None:
    async for _, event in run.events():
        if isinstance(event, Delta) and event.completion_tokens >= tokens:
            return


@pytest.mark.parametrize("request_", [GREEDY, SEEDED, STOPPING], ids=["greedy", "seeded", "three choices"])
async def test_background_run_resumes_after_a_restart_with_the_same_result(
    database: Path, request_: GenerationRequest
) -> None:
    async with ready_engine(step_s=0.003) as engine:
        async with serving(database, engine) as harness:
            await open_account(harness)
            expected = await harness.answer(request_)
            reference = await harness.newest()
            async with harness.service.open(harness.ask(request_, background=True)) as run:
                await until_token(run, 20)
            before = harness
        async with serving(database, engine, drawn_seed=99) as harness:
            harness.use_account_of(before)
            again = await harness.service.attach(before.caller, run.id)
            assert await collected(again) == expected
            stored = await harness.settled(run.id)
            assert stored.status is Status.SUCCEEDED
            assert stored.texts == reference.texts
            assert (stored.cost_nusd, stored.seed) == (reference.cost_nusd, reference.seed)
            assert stored.receipt is not None
            assert reference.receipt is not None
            assert stored.receipt["tokens_digest"] == reference.receipt["tokens_digest"]
            await harness.balanced()


async def test_reader_resumes_where_it_stopped_across_a_restart(database: Path) -> None:
    async with ready_engine(step_s=0.003) as engine:
        async with serving(database, engine) as harness:
            await open_account(harness)
            async with harness.service.open(harness.ask(GREEDY)) as run:
                whole = await numbered(run)
                text = text_of([pair async for pair in run.events()])
            read: list[tuple[int, object]] = []
            async with harness.service.open(harness.ask(GREEDY, idempotency=once())) as run:
                async for number, event in run.events():
                    read.append((number, event))
                    if number > 30:
                        break
            before = harness
        async with serving(database, engine) as harness:
            harness.use_account_of(before)
            again = await harness.service.attach(before.caller, run.id)
            rest = await numbered(again, after=read[-1][0])
            assert rest == whole[read[-1][0] :]
            assert again.digest(read[-1][0]) == run.digest(read[-1][0])
            stored = await harness.settled(run.id)
            assert stored.texts == [text]
            await harness.balanced()


async def test_stop_ends_all_readers_and_settles_only_the_plain_run(database: Path) -> None:
    async with ready_engine(step_s=0.003) as engine:
        async with serving(database, engine) as harness:
            await open_account(harness)
            before = harness

            async def read(**terms: object) -> str:
                async with harness.service.open(harness.ask(limited(300), **terms)) as run:
                    with pytest.raises(ServerStopping):
                        async for _, event in run.events():
                            if isinstance(event, Delta):
                                seen.set()
                return run.id

            seen = asyncio.Event()
            alone = asyncio.create_task(read())
            background = asyncio.create_task(read(background=True))
            await seen.wait()
        alone_id, background_id = await alone, await background
        async with serving(database, engine) as harness:
            harness.use_account_of(before)
            stored = await harness.service.get(before.caller, alone_id)
            assert (stored.status, stored.stopped_by) == (Status.CANCELED, StoppedBy.RESTART)
            assert stored.completion_tokens > 0
            assert (await harness.settled(background_id)).completion_tokens == 300
            await harness.balanced()


async def test_unfinished_run_can_be_canceled_and_read_while_the_engine_loads(database: Path) -> None:
    async with ready_engine(step_s=0.003) as engine, serving(database, engine) as harness:
        await open_account(harness)
        async with harness.service.open(harness.ask(GREEDY, background=True)) as run:
            await until_token(run, 20)
        before = harness
    loading = scripted_engine(vocab_size=ByteTokenizer.vocab_size, load_s=60)
    async with loading.run(), serving(database, loading) as harness:
        harness.use_account_of(before)
        waiting = await harness.service.get(before.caller, run.id)
        assert waiting.status is Status.PROCESSING
        cancelled = await harness.service.cancel(before.caller, run.id)
        assert (cancelled.status, cancelled.stopped_by) == (Status.CANCELED, StoppedBy.CALLER)
        assert cancelled.output is not None
        assert cancelled.completion_tokens >= 20
        with pytest.raises(Canceled):
            await collected(await harness.service.attach(before.caller, run.id))
        await harness.balanced()


async def test_run_stays_unfinished_until_a_start_with_an_engine(database: Path) -> None:
    async with ready_engine(step_s=0.003) as engine, serving(database, engine) as harness:
        await open_account(harness)
        expected = await harness.answer(GREEDY)
        async with harness.service.open(harness.ask(GREEDY, background=True)) as run:
            await until_token(run, 20)
        before = harness
    broken = scripted_engine(vocab_size=ByteTokenizer.vocab_size, refuse_load=True)
    async with broken.run(), serving(database, broken) as harness:
        with pytest.raises(EngineUnavailable, match="resumes when the server restarts"):
            await harness.service.attach(before.caller, run.id)
    async with ready_engine() as engine, serving(database, engine) as harness:
        harness.use_account_of(before)
        assert await collected(await harness.service.attach(before.caller, run.id)) == expected
        await harness.balanced()


async def test_run_is_settled_for_its_output_if_other_weights_are_served_now(database: Path) -> None:
    async with ready_engine(step_s=0.003, weights_id="9f3c:int8") as engine, serving(database, engine) as harness:
        await open_account(harness)
        async with harness.service.open(harness.ask(GREEDY, background=True)) as run:
            await until_token(run, 20)
        before = harness
    async with ready_engine(weights_id="9f3c:int4") as engine, serving(database, engine) as harness:
        harness.use_account_of(before)
        stored = await harness.settled(run.id)
        assert (stored.status, stored.stopped_by) == (Status.FAILED, StoppedBy.RESTART)
        assert 20 <= stored.completion_tokens < 120
        assert (stored.receipt or {})["weights_id"] == "9f3c:int8"
        await harness.balanced()


@pytest.mark.parametrize(
    ("column", "missing"), [("weights_id", "the id of its weights"), ("prompt_digest", "the digest of its prompt")]
)
async def test_run_stored_by_an_earlier_version_is_settled_and_not_resumed(
    database: Path, column: str, missing: str
) -> None:
    async with ready_engine(step_s=0.003) as engine, serving(database, engine) as harness:
        await open_account(harness)
        async with harness.service.open(harness.ask(GREEDY, background=True)) as run:
            await until_token(run, 20)
        before = harness
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(f"UPDATE predictions SET {column} = NULL")
    with capture_logs() as logs:
        async with ready_engine() as engine, serving(database, engine) as harness:
            harness.use_account_of(before)
            stored = await harness.settled(run.id)
            assert (stored.status, stored.stopped_by) == (Status.FAILED, StoppedBy.RESTART)
            await harness.balanced()
    reasons = [entry["reason"] for entry in logs if entry["event"] == "run_not_resumed"]
    assert reasons == [f"an earlier version stored it, without {missing}"]


async def begun_before_the_first_load(database: Path) -> tuple[ServiceHarness, str]:
    """Start a background run before its weights are loaded; stop the server; return its harness and the run's id."""
    unloaded = scripted_engine(vocab_size=ByteTokenizer.vocab_size)
    async with serving(database, unloaded) as harness:
        await open_account(harness)
        async with harness.service.open(harness.ask(GREEDY, background=True)) as run:
            pass
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT weights_id FROM predictions").fetchall() == [(None,)]
    return harness, run.id


async def test_run_that_waited_for_the_first_load_is_computed_after_a_restart(database: Path) -> None:
    before, run_id = await begun_before_the_first_load(database)
    async with ready_engine(weights_id="9f3c:int8") as engine, serving(database, engine, drawn_seed=99) as harness:
        harness.use_account_of(before)
        result = await collected(await harness.service.attach(before.caller, run_id))
        stored = await harness.settled(run_id)
        assert (stored.status, stored.completion_tokens) == (Status.SUCCEEDED, 120)
        assert (stored.receipt or {})["weights_id"] == "9f3c:int8"
        assert (await harness.answer(GREEDY)).choices[0].ids == result.choices[0].ids
        await harness.balanced()


async def test_run_that_waited_for_the_first_load_costs_nothing_if_its_prompt_ids_changed(
    database: Path,
) -> None:
    before, run_id = await begun_before_the_first_load(database)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE predictions SET prompt_digest = ?", (bytes(32),))
    async with ready_engine() as engine, serving(database, engine) as harness:
        harness.use_account_of(before)
        stored = await harness.settled(run_id)
        assert (stored.status, stored.stopped_by) == (Status.FAILED, StoppedBy.RESTART)
        assert (stored.completion_tokens, stored.cost_nusd) == (0, 0)
        await harness.balanced()


async def test_server_stops_at_once_while_it_loads(database: Path) -> None:
    loading = scripted_engine(load_s=600)
    async with loading.run(), asyncio.timeout(60), serving(database, loading):
        pass


async def test_recovery_ignores_runs_of_this_process(database: Path) -> None:
    """The runs start when the engine becomes ready, which is when recovery starts."""
    engine = scripted_engine(vocab_size=ByteTokenizer.vocab_size, load_s=0.2)
    async with engine.run(), serving(database, engine) as harness:
        await open_account(harness)
        await engine.ready()
        answers = await asyncio.gather(*(harness.answer(limited(10)) for _ in range(20)))
        assert all(len(answer.choices[0].ids) == 10 for answer in answers)
        assert {one.status for one in await harness.service.page(harness.caller)} == {Status.SUCCEEDED}
        await harness.balanced()
