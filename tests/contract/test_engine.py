"""Contract of all engines, on each engine, with real worker processes."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from corral.core.errors import InvalidRequest
from corral.core.generation import Sampling
from corral.engines.base import EndReason, Engine, TokenBatch
from tests.engines import GREEDY, STOP_IDS, generate, pieces, request, until_idle, worker_pid

pytestmark = pytest.mark.anyio

SEEDED = Sampling(temperature=0.9, top_p=0.95)


@pytest.mark.parametrize("sampling", [GREEDY, SEEDED], ids=["greedy", "seeded"])
async def test_answer_alone_equals_answer_in_a_batch(engine: Engine, sampling: Sampling) -> None:
    asked = [
        request(5, 7 + n, 30 + 2 * n, max_new_tokens=24 + n, seed=n, sampling=sampling, ignore_eos=True)
        for n in range(8)
    ]
    alone = [await generate(engine, one) for one in asked]
    together = await asyncio.gather(*(generate(engine, one) for one in asked))
    assert together == alone


async def test_another_seed_gives_another_text_and_the_same_seed_the_same(engine: Engine) -> None:
    asked = request(sampling=SEEDED, seed=1, max_new_tokens=32, ignore_eos=True)
    first, second = await generate(engine, asked), await generate(engine, asked)
    other, _ = await generate(engine, replace(asked, seed=2))
    beyond_32_bits, _ = await generate(engine, replace(asked, seed=1 + 2**32))
    assert first == second
    assert other != first[0]
    assert beyond_32_bits != first[0]


@pytest.mark.parametrize("max_new_tokens", [1, 2, 31, 32, 33, 100])
async def test_max_new_tokens_is_exact(engine: Engine, max_new_tokens: int) -> None:
    ids, end = await generate(engine, request(max_new_tokens=max_new_tokens, ignore_eos=True))
    assert (len(ids), end) == (max_new_tokens, EndReason.LENGTH)


async def test_one_step_answer_frees_its_resources(engine: Engine) -> None:
    await generate(engine, request(max_new_tokens=1))
    await until_idle(engine)


async def test_closing_the_stream_frees_all_resources(engine: Engine) -> None:
    async with engine.open(request(max_new_tokens=200, ignore_eos=True)) as batches:
        async for _ in batches:
            break
    await until_idle(engine)


async def test_cancelling_the_task_frees_its_resources_and_not_those_of_others(engine: Engine) -> None:
    asked = request(max_new_tokens=60, ignore_eos=True)
    expected = await generate(engine, asked)
    doomed = [asyncio.ensure_future(generate(engine, replace(asked, max_new_tokens=200))) for _ in range(3)]
    kept = asyncio.ensure_future(generate(engine, asked))
    while engine.stats().running < 4:
        await asyncio.sleep(0)
    for task in doomed:
        task.cancel()
    assert await kept == expected
    await asyncio.gather(*doomed, return_exceptions=True)
    await until_idle(engine)


async def test_invalid_request_is_rejected_before_the_engine(engine: Engine) -> None:
    vocab_size = engine.info.vocab_size
    emitted_tokens = engine.stats().emitted_tokens
    broken = [
        replace(request(), prompt_ids=()),
        request(vocab_size),
        request(-1),
        request(10**9),
        request(max_new_tokens=0),
        request(max_new_tokens=engine.info.context_tokens),
        request(min_new_tokens=17),
        request(seed=2**64),
        request(seed=-1),
        replace(request(max_new_tokens=4), emitted_ids=(5, 6, 7, 8)),
        replace(request(), emitted_ids=(5, vocab_size)),
        replace(request(), emitted_ids=(5, -1)),
        replace(request(), stop_ids=frozenset({2, vocab_size})),
        replace(request(), emitted_ids=(5, min(STOP_IDS))),
        *(
            request(sampling=replace(SEEDED, **{name: value}))
            for name, value in [
                ("temperature", -0.1),
                ("temperature", float("nan")),
                ("temperature", float("inf")),
                ("top_p", 0.0),
                ("top_p", 1.01),
                ("top_k", -1),
                ("min_p", 1.0),
                ("min_p", -0.1),
                ("repetition_penalty", 0.0),
                ("repetition_penalty", 1e-300),
                ("repetition_penalty", 0.0099),
                ("repetition_penalty", 100.1),
                ("presence_penalty", 2.1),
                ("frequency_penalty", -2.1),
            ]
        ),
    ]
    for one in broken:
        with pytest.raises(InvalidRequest):
            await generate(engine, one)
    assert engine.stats().emitted_tokens == emitted_tokens
    await generate(engine, request())


async def test_failing_request_does_not_affect_others(engine: Engine) -> None:
    asked = request(max_new_tokens=40, ignore_eos=True)
    expected = await generate(engine, asked)
    answers = await asyncio.gather(
        generate(engine, asked), generate(engine, request(-1)), generate(engine, asked), return_exceptions=True
    )
    assert [answers[0], answers[2]] == [expected, expected]
    assert isinstance(answers[1], InvalidRequest)


async def test_every_token_has_a_log_probability(engine: Engine) -> None:
    async with engine.open(request(max_new_tokens=20, ignore_eos=True)) as batches:
        async for batch in batches:
            assert len(batch.ids) == len(batch.logprobs)
            assert all(logprob <= 0 for logprob in batch.logprobs)


async def test_a_run_can_fill_the_whole_context(engine: Engine) -> None:
    prompt = [5] * (engine.info.context_tokens - 8)
    ids, end = await generate(engine, request(*prompt, max_new_tokens=8, ignore_eos=True))
    assert (len(ids), end) == (8, EndReason.LENGTH)


async def test_the_largest_runs_that_fit_together_all_finish(engine: Engine) -> None:
    info = engine.info
    assert info.kv_blocks is not None
    assert info.kv_block_tokens is not None
    share_tokens = info.kv_blocks // 4 * info.kv_block_tokens
    size = min(share_tokens, info.context_tokens) - 40
    asked = request(*([5] * size), max_new_tokens=40, ignore_eos=True)
    restarts = engine.stats().restarts
    answers = await asyncio.gather(*(generate(engine, asked) for _ in range(6)))
    assert all(len(ids) == 40 for ids, _ in answers)
    assert engine.stats().restarts == restarts


PENALISED = Sampling(temperature=0, frequency_penalty=0.5)


@pytest.mark.parametrize("sampling", [GREEDY, SEEDED, PENALISED], ids=["greedy", "seeded", "penalised"])
async def test_killing_the_worker_mid_run_changes_nothing_but_the_time(engine: Engine, sampling: Sampling) -> None:
    asked = request(5, 6, 7, sampling=sampling, seed=3, max_new_tokens=300, ignore_eos=True)
    undisturbed = await generate(engine, asked)
    before = engine.stats()
    restarts = before.restarts
    ids: list[int] = []
    end = None
    computed_tokens = 0
    async with engine.open(asked) as batches:
        async for batch in batches:
            ids, end = [*ids, *batch.ids], batch.end
            if len(ids) >= 40 and engine.stats().restarts == restarts and (pid := worker_pid(engine)):
                os.kill(pid, signal.SIGKILL)
                while engine.stats().restarts == restarts:
                    await asyncio.sleep(0)
                computed_tokens = engine.stats().emitted_tokens - before.emitted_tokens
    assert (ids, end) == undisturbed
    after = engine.stats()
    assert after.restarts == restarts + 1
    assert after.delivered_tokens == before.delivered_tokens + 300
    assert after.discarded_tokens == before.discarded_tokens
    # On a busy machine the worker may have computed the whole answer before it was killed.
    was_cut = computed_tokens < len(ids)
    assert (after.replayed_tokens > before.replayed_tokens) is (was_cut and sampling is not GREEDY)
    await until_idle(engine)


@pytest.mark.parametrize("sampling", [GREEDY, SEEDED, PENALISED], ids=["greedy", "seeded", "penalised"])
@pytest.mark.parametrize("done", [1, 30, 99])
async def test_resumed_answer_of_an_earlier_process_continues_with_the_same_tokens(
    engine: Engine, sampling: Sampling, done: int
) -> None:
    asked = request(5, 6, 7, sampling=sampling, seed=3, max_new_tokens=100, ignore_eos=True)
    whole, end = await generate(engine, asked)
    resumed = replace(asked, emitted_ids=tuple(whole[:done]))
    assert await generate(engine, resumed) == (whole[done:], end)
    await until_idle(engine)


async def test_resumed_answer_of_another_model_continues_from_its_tokens(engine: Engine) -> None:
    asked = request(5, 6, 7, sampling=SEEDED, max_new_tokens=40, ignore_eos=True)
    whole, _ = await generate(engine, asked)
    foreign = tuple(8 if token_id == 9 else 9 for token_id in whole[:10])
    ids, end = await generate(engine, replace(asked, emitted_ids=foreign))
    assert (len(ids), end) == (30, EndReason.LENGTH)
    await until_idle(engine)


async def test_every_token_is_counted_as_delivered_discarded_or_replayed(engine: Engine) -> None:
    before = engine.stats()
    asked = request(5, 6, 7, sampling=SEEDED, max_new_tokens=100, ignore_eos=True)
    whole, _ = await generate(engine, asked)
    await generate(engine, replace(asked, emitted_ids=tuple(whole[:60])))
    taken_tokens = 0
    async with engine.open(replace(asked, max_new_tokens=300)) as batches:
        async for batch in batches:
            taken_tokens += len(batch.ids)
            if taken_tokens >= 3:
                break
    await until_idle(engine)
    after = engine.stats()
    assert after.delivered_tokens - before.delivered_tokens == 100 + 40 + taken_tokens
    assert after.replayed_tokens - before.replayed_tokens == 60
    # The reader left at once, but how far the engine had come by then is a matter of time.
    discarded_tokens = after.discarded_tokens - before.discarded_tokens
    assert 0 <= discarded_tokens <= 300 - taken_tokens
    assert after.emitted_tokens - before.emitted_tokens == 100 + 40 + taken_tokens + 60 + discarded_tokens


async def test_buffered_tokens_of_a_closed_stream_are_discarded(engine: Engine) -> None:
    before = engine.stats()
    async with engine.open(request(max_new_tokens=20, ignore_eos=True)):
        while engine.stats().emitted_tokens < before.emitted_tokens + 20:
            await asyncio.sleep(0)
        assert engine.stats().delivered_tokens == before.delivered_tokens + 20
    assert engine.stats().delivered_tokens == before.delivered_tokens
    assert engine.stats().discarded_tokens == before.discarded_tokens + 20


async def test_a_run_in_the_batch_has_position_0(engine: Engine) -> None:
    async with engine.open(request(max_new_tokens=20, ignore_eos=True)) as run:
        assert run.position == 0


async def test_requests_beyond_the_pool_are_queued_with_positions(engine: Engine) -> None:
    asked = request(5, 6, max_new_tokens=engine.info.room_tokens - 2, ignore_eos=True)
    async with AsyncExitStack() as stack:
        runs = [await stack.enter_async_context(engine.open(asked)) for _ in range(12)]
        waiting = engine.stats().waiting
        assert waiting >= 8
        assert [run.position for run in runs] == [0] * (12 - waiting) + list(range(1, waiting + 1))
    await until_idle(engine)


ECHOED = (5, 6, 7, 8, 9)


async def test_an_echo_gives_the_log_probabilities_of_the_prompt_once_and_first(engine: Engine) -> None:
    plain = request(*ECHOED, sampling=SEEDED, max_new_tokens=20, ignore_eos=True)
    batches = await pieces(engine, replace(plain, echo=True))
    first, *rest = [batch.prompt_logprobs for batch in batches]
    assert first is not None
    assert len(first) == len(ECHOED) - 1
    assert all(logprob <= 0 for logprob in first)
    assert rest == [None] * len(rest)
    ids = [token_id for batch in batches for token_id in batch.ids]
    assert (ids, batches[-1].end) == await generate(engine, plain)


@pytest.mark.parametrize("tokens", [1, 2, 200])
async def test_an_echo_without_an_answer_only_scores_the_prompt(engine: Engine, tokens: int) -> None:
    emitted_tokens = engine.stats().emitted_tokens
    for _ in range(2):  # the second time the prompt could be in a cache
        asked = replace(request(*range(5, 5 + tokens)), max_new_tokens=0, echo=True)
        (only,) = await pieces(engine, asked)
        assert only.prompt_logprobs is not None
        assert (only.ids, only.end, len(only.prompt_logprobs)) == ((), EndReason.LENGTH, tokens - 1)
    assert engine.stats().emitted_tokens == emitted_tokens
    await until_idle(engine)


async def test_cancelling_an_echo_frees_everything(engine: Engine) -> None:
    for _ in range(20):
        async with engine.open(replace(request(*range(5, 205)), echo=True)):
            await asyncio.sleep(0)
    await until_idle(engine)


async def test_an_echo_survives_the_death_of_its_worker(engine: Engine) -> None:
    asked = replace(request(*ECHOED, max_new_tokens=200, ignore_eos=True), echo=True)
    whole = await pieces(engine, asked)
    restarts = engine.stats().restarts
    got: list[TokenBatch] = []
    async with engine.open(asked) as run:
        async for batch in run:
            got.append(batch)
            if engine.stats().restarts == restarts and (pid := worker_pid(engine)):
                os.kill(pid, signal.SIGKILL)
                while engine.stats().restarts == restarts:
                    await asyncio.sleep(0)
    assert [batch.prompt_logprobs for batch in got if batch.prompt_logprobs] == [whole[0].prompt_logprobs]
    assert [i for batch in got for i in batch.ids] == [i for batch in whole for i in batch.ids]


MOVES = st.lists(
    st.tuples(st.sampled_from(["add", "add", "cancel", "wait"]), st.integers(0, 2**16)), min_size=200, max_size=200
)


@settings(
    max_examples=5,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.large_base_example, HealthCheck.too_slow],
    derandomize=True,
)
@given(moves=MOVES)
async def test_a_thousand_random_adds_and_cancels_leak_nothing(engine: Engine, moves: list[tuple[str, int]]) -> None:
    async with AsyncExitStack() as stack:
        opened: list[tuple[AsyncExitStack, AsyncIterator[object]]] = []
        for move, number in moves:
            if move == "add":
                own = await stack.enter_async_context(AsyncExitStack())
                asked = request(5, 6 + number % 50, max_new_tokens=1 + number % 90, ignore_eos=True)
                opened.append((own, await own.enter_async_context(engine.open(asked))))
            elif opened:
                own, batches = opened.pop(number % len(opened))
                if move == "wait":
                    await anext(batches)
                await own.aclose()
    await until_idle(engine)
    ids, _ = await generate(engine, request(max_new_tokens=5, ignore_eos=True))
    assert len(ids) == 5
