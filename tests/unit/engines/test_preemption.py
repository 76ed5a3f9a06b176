"""Priorities in the queue of an engine: sequences of low priority wait for all others, and make way for them."""

import asyncio
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.core.errors import Overloaded
from corral.core.generation import Constraint, Sampling
from corral.engines.admission import SUSPECT_DEATHS, Admission
from corral.engines.base import EngineInfo
from corral.engines.batch import WorkerBatch
from corral.engines.placement import Placement
from corral.engines.policy import QueuePolicy
from corral.engines.preemption import LOW_PRIORITY_PROMPT_TOKENS, MAX_EVICTIONS_WHILE_READING
from corral.engines.sequences import QueuedSequence
from corral.engines.stepper import SequenceOutput
from tests.engines import DEADLINE_S, generate, request, scripted_engine, until_emitted, until_idle

BLOCK_TOKENS = 10
TOKENS = count(100)


class Workers(Admission):
    """Admission to workers of one size, which read a prompt when they are stepped."""

    def __init__(self, *, workers: int = 1, kv_blocks: int = 10**6, max_sequences: int = 10**6) -> None:
        self.batches = [WorkerBatch(index, max_sequences=max_sequences) for index in range(workers)]
        super().__init__(self.batches, Placement())
        info = EngineInfo(
            engine="test",
            weights="none",
            weights_id="test",
            vocab_size=10**6,
            context_tokens=10**6,
            kv_block_tokens=BLOCK_TOKENS,
            kv_blocks=kv_blocks,
        )
        for batch in self.batches:
            self.worker_ready(batch, info)

    def serve(self) -> list[QueuedSequence]:
        """Submit what fits, as the dispatcher does."""
        served: list[QueuedSequence] = []
        for _, _, sequence in self.admit():
            sequence.submission()
            served.append(sequence)
        return served

    def step(self) -> None:
        """Give each submitted sequence a token."""
        for batch in self.batches:
            for sequence in batch.sequences:
                if sequence.key is not None:
                    one = SequenceOutput(key=sequence.key, ids=(next(TOKENS),), logprobs=(0.0,), end=None)
                    sequence.receive(one)

    def yield_room(self) -> int:
        """Evict what must make way, and confirm it as the workers do; returns how many."""
        evicted = self.make_room()
        for batch, key in evicted:
            batch.remove(key)
        return len(evicted)


def low(flow: str = "batch", *, prompt_tokens: int = 1, cost_tokens: int = 10, **options: object) -> QueuedSequence:
    ids = range(5, 5 + prompt_tokens)
    asked = request(*ids, max_new_tokens=cost_tokens - prompt_tokens, flow=flow, low_priority=True, **options)
    return QueuedSequence(asked)


def normal(flow: str = "person", *, prompt_tokens: int = 1, cost_tokens: int = 10) -> QueuedSequence:
    ids = range(5, 5 + prompt_tokens)
    return QueuedSequence(request(*ids, max_new_tokens=cost_tokens - prompt_tokens, flow=flow))


def enqueue(workers: Workers, *sequences: QueuedSequence) -> None:
    for sequence in sequences:
        workers.append(sequence)


def test_low_priority_is_served_after_every_other_sequence_whoever_came_first() -> None:
    workers = Workers()
    early, late, person = low("a"), low("b"), normal()
    enqueue(workers, early, late, person)
    assert list(workers.in_order()) == [person, early, late]
    assert workers.serve() == [person, early, late]


def test_low_priority_does_not_start_while_another_sequence_waits() -> None:
    workers = Workers(kv_blocks=10)
    running, large, small = normal("a", cost_tokens=60), normal("b", cost_tokens=60), low()
    enqueue(workers, running)
    workers.serve()
    enqueue(workers, large, small)
    assert workers.serve() == []
    assert list(workers.in_order()) == [large, small]


def test_a_waiting_sequence_gets_the_room_of_the_fewest_low_ones_the_latest_first() -> None:
    workers = Workers(kv_blocks=10)
    batch_lines = [low(cost_tokens=20) for _ in range(5)]
    enqueue(workers, *batch_lines)
    assert workers.serve() == batch_lines
    workers.step()
    person = normal(cost_tokens=30)
    enqueue(workers, person)
    assert workers.serve() == []
    assert workers.yield_room() == 2
    assert workers.serve() == [person]
    assert list(workers.in_order()) == batch_lines[3:]
    assert [line.evictions for line in batch_lines] == [0, 0, 0, 1, 1]


def test_room_that_is_being_freed_is_not_asked_for_twice() -> None:
    workers = Workers(kv_blocks=10)
    enqueue(workers, *(low(cost_tokens=20) for _ in range(5)))
    workers.serve()
    workers.step()
    enqueue(workers, normal(cost_tokens=20))
    assert len(workers.make_room()) == 1
    assert workers.serve() == []
    assert workers.make_room() == []


def test_several_waiting_sequences_get_room_in_one_go() -> None:
    workers = Workers(max_sequences=4)
    enqueue(workers, *(low() for _ in range(4)))
    workers.serve()
    workers.step()
    people = [normal("a"), normal("a"), normal("b")]
    enqueue(workers, *people)
    assert workers.yield_room() == 3
    assert set(workers.serve()) == set(people)


def test_nothing_is_evicted_where_that_would_not_make_enough_room() -> None:
    workers = Workers(kv_blocks=10)
    running, line = normal("a", cost_tokens=60), low(cost_tokens=20)
    enqueue(workers, running)
    workers.serve()
    enqueue(workers, line)
    workers.serve()
    workers.step()
    enqueue(workers, normal("b", cost_tokens=70))
    assert workers.make_room() == []


def test_the_worker_where_fewest_must_leave_is_chosen() -> None:
    workers = Workers(workers=2, kv_blocks=4)
    first, second = workers.batches
    large, small = low("a", cost_tokens=40), [low("b", cost_tokens=20), low("b", cost_tokens=20)]
    for one in (large, *small):
        enqueue(workers, one)
        workers.serve()
    workers.step()
    assert sorted(len(batch.low_priority) for batch in (first, second)) == [1, 2]
    enqueue(workers, normal(cost_tokens=40))
    assert workers.yield_room() == 1
    assert all(line.evictions == 0 for line in small)


def test_an_evicted_sequence_goes_on_from_its_tokens_before_others_of_its_flow() -> None:
    workers = Workers(max_sequences=1)
    evicted, behind = low(cost_tokens=20), low()
    enqueue(workers, evicted, behind)
    workers.serve()
    for _ in range(3):
        workers.step()
    person = normal()
    enqueue(workers, person)
    workers.yield_room()
    assert workers.serve() == [person]
    assert person.key is not None
    workers.batches[0].remove(person.key)
    assert workers.serve() == [evicted]
    assert evicted.submission().prompt_ids == (*evicted.request.prompt_ids, *evicted.emitted)
    assert evicted.submission().max_new_tokens == evicted.request.max_new_tokens - 3


def test_a_constrained_answer_that_could_not_be_repeated_is_not_evicted() -> None:
    workers = Workers(max_sequences=1)
    asked = request(
        5, max_new_tokens=10, flow="batch", low_priority=True, constraint=Constraint(kind="regex", source="a+")
    )
    line = QueuedSequence(asked, can_replay=False)
    enqueue(workers, line)
    workers.serve()
    workers.step()
    enqueue(workers, normal())
    assert workers.make_room() == []


def test_a_suspect_is_not_evicted() -> None:
    workers = Workers(max_sequences=1)
    line = low()
    enqueue(workers, line)
    for _ in range(SUSPECT_DEATHS):
        workers.serve()
        workers.worker_died(workers.batches[0])
        workers.worker_ready(workers.batches[0], workers.batches[0].info)
    assert line.is_suspect
    enqueue(workers, normal())
    assert workers.serve() == [line]
    assert workers.make_room() == []


def test_low_sequences_of_a_dead_worker_wait_behind_the_others() -> None:
    workers = Workers(max_sequences=2)
    line, running = low(), normal("a")
    enqueue(workers, running, line)
    workers.serve()
    person = normal("b")
    enqueue(workers, person)
    assert workers.worker_died(workers.batches[0]) == [running, line]
    assert list(workers.in_order()) == [running, person, line]


def test_prompts_of_low_priority_are_read_about_one_step_s_work_at_a_time() -> None:
    workers = Workers()
    third = LOW_PRIORITY_PROMPT_TOKENS // 3
    lines = [low(prompt_tokens=third, cost_tokens=third + 10) for _ in range(6)]
    enqueue(workers, *lines)
    assert workers.serve() == lines[:3]
    assert workers.serve() == []
    workers.step()
    assert workers.serve() == lines[3:]


def test_a_long_prompt_of_low_priority_is_read_alone_and_makes_way_for_another_prompt_at_most_twice() -> None:
    workers = Workers()
    long_tokens = LOW_PRIORITY_PROMPT_TOKENS + 1
    line, short = low(prompt_tokens=long_tokens, cost_tokens=long_tokens + 10), low()
    enqueue(workers, line, short)
    assert workers.serve() == [line]
    for _ in range(MAX_EVICTIONS_WHILE_READING):
        enqueue(workers, normal())
        workers.serve()
        assert workers.yield_room() == 1
        workers.step()
        assert workers.serve() == [line]
    enqueue(workers, normal())
    workers.serve()
    assert workers.yield_room() == 0


def test_waiting_sequences_of_low_priority_take_no_places_from_others() -> None:
    workers = Workers(max_sequences=1)
    enqueue(workers, *(low() for _ in range(50)))
    assert workers.may_wait(normal().request, max_waiting=1)
    assert not workers.may_wait(low("other").request, max_waiting=50)


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abAB"), st.integers(2, 60), st.sampled_from(["add", "serve", "step", "leave", "die"])
        ),
        max_size=80,
    )
)
def test_no_sequence_is_lost_and_no_worker_is_oversubscribed(moves: list[tuple[str, int, str]]) -> None:
    workers = Workers(kv_blocks=8, max_sequences=3)
    (batch,) = workers.batches
    known: set[QueuedSequence] = set()
    for flow, number, move in moves:
        if move == "add":
            made = low(flow, cost_tokens=number) if flow.isupper() else normal(flow, cost_tokens=number)
            workers.append(made)
            known.add(made)
        elif move == "serve":
            workers.serve()
            workers.yield_room()
        elif move == "step":
            workers.step()
        elif move == "leave" and batch.sequences:
            gone = list(batch.sequences)[number % len(batch.sequences)]
            left = workers.leave(gone)
            assert left is not None
            batch.remove(left[1])
            known.discard(gone)
        elif move == "die":
            workers.worker_died(batch)
            workers.worker_ready(batch, batch.info)
        waiting = list(workers.in_order())
        assert len(waiting) == workers.waiting == len(set(waiting))
        assert set(waiting) | set(batch.sequences) == known
        assert batch.kv_blocks_reserved <= 8
        assert batch.submitted <= 3


@pytest.mark.anyio
@pytest.mark.parametrize("sampling", [Sampling(temperature=0), Sampling(temperature=0.8)], ids=["greedy", "seeded"])
async def test_requests_on_a_full_engine_start_at_once_and_the_low_ones_give_the_same_tokens(
    sampling: Sampling,
) -> None:
    engine = scripted_engine(max_sequences=2, step_s=0.002)
    lines = [
        request(5, n, max_new_tokens=120, seed=n, sampling=sampling, flow="batch", low_priority=True) for n in range(4)
    ]
    people = [request(6, n, max_new_tokens=5, flow="person") for n in range(4)]
    async with engine.run(), asyncio.timeout(DEADLINE_S):
        await engine.ready()
        alone = [await generate(engine, one) for one in lines]
        before = engine.stats().emitted_tokens
        running = asyncio.gather(*(generate(engine, one) for one in lines))
        await until_emitted(engine, before + 20)
        answers = await asyncio.gather(*(generate(engine, one) for one in people))
        assert [len(ids) for ids, _ in answers] == [5] * 4
        assert not running.done()
        assert await running == alone
        await until_idle(engine)


@pytest.mark.anyio
async def test_a_request_of_low_priority_is_never_refused_for_its_wait() -> None:
    engine = scripted_engine(QueuePolicy(max_queue_wait_s=1e-3), max_sequences=1, step_s=0.01)
    async with engine.run(), asyncio.timeout(DEADLINE_S):
        await engine.ready()
        await generate(engine, request(5, max_new_tokens=120))  # so that the throughput is known
        await generate(engine, request(5, max_new_tokens=5))
        running = asyncio.ensure_future(generate(engine, request(5, max_new_tokens=100)))
        while not engine.stats().running:
            await asyncio.sleep(0.001)
        with pytest.raises(Overloaded):
            await generate(engine, request(7, max_new_tokens=3))
        ids, _ = await generate(engine, request(7, max_new_tokens=3, flow="batch", low_priority=True))
        assert len(ids) == 3
        await running
