"""Admission on one worker without a process: the order of service, and the room that is reserved."""

from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from corral.engines.admission import Admission
from corral.engines.base import EngineInfo
from corral.engines.batch import WorkerBatch
from corral.engines.placement import Placement
from corral.engines.sequences import QueuedSequence
from tests.engines import request

BLOCK_TOKENS = 10
ROOMY_BLOCKS = 10**6


class OneWorker(Admission):
    """Admission to one worker, whose size each call of ``serve`` may change."""

    def __init__(self) -> None:
        self.batch = WorkerBatch(0, max_sequences=1)
        super().__init__([self.batch], Placement())

    @property
    def reserved_blocks(self) -> int:
        return self.batch.kv_blocks_reserved

    def kill(self) -> list[QueuedSequence]:
        return self.worker_died(self.batch)

    def queued_flows(self) -> int:
        return len(self._queue._flows)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - nothing else shows it


def info_of(kv_blocks: int) -> EngineInfo:
    return EngineInfo(
        engine="test",
        weights="none",
        weights_id="test",
        vocab_size=100,
        context_tokens=10**6,
        kv_block_tokens=BLOCK_TOKENS,
        kv_blocks=kv_blocks,
    )


def run_of(flow: str, *, cost_tokens: int = 10) -> QueuedSequence:
    return QueuedSequence(request(5, max_new_tokens=cost_tokens - 1, flow=flow))


def enqueue(queue: OneWorker, *runs: QueuedSequence) -> None:
    for run in runs:
        queue.append(run)


def serve(queue: OneWorker, *, kv_blocks_total: int = ROOMY_BLOCKS, max_sequences: int = 10**6) -> list[QueuedSequence]:
    queue.batch.max_sequences = max_sequences
    queue.worker_ready(queue.batch, info_of(kv_blocks_total))
    return [run for _, _, run in queue.admit()]


def serve_one_by_one(queue: OneWorker) -> list[QueuedSequence]:
    """As a worker with room for one would."""
    served: list[QueuedSequence] = []
    while batch := serve(queue, max_sequences=1):
        served += batch
        finish(queue, *batch)
    return served


def finish(queue: OneWorker, *runs: QueuedSequence) -> None:
    for run in runs:
        assert run.key is not None
        queue.batch.remove(run.key)


def test_one_flow_is_served_in_order_of_arrival() -> None:
    queue = OneWorker()
    runs = [run_of("a", cost_tokens=10 + 90 * (n % 3)) for n in range(9)]
    enqueue(queue, *runs)
    assert list(queue.in_order()) == runs
    assert serve_one_by_one(queue) == runs


def test_a_flow_with_500_waiting_holds_up_another_by_one_request() -> None:
    queue = OneWorker()
    enqueue(queue, *(run_of("heavy") for _ in range(500)))
    first = serve(queue, max_sequences=1)
    light = run_of("light")
    queue.append(light)
    assert list(queue.in_order()).index(light) <= 1
    finish(queue, *first)
    assert light in serve_one_by_one(queue)[:2]


def test_flows_that_always_wait_get_equal_tokens_whatever_the_size_of_their_requests() -> None:
    queue = OneWorker()
    enqueue(queue, *(run_of("small", cost_tokens=10) for _ in range(1000)))
    enqueue(queue, *(run_of("large", cost_tokens=100) for _ in range(100)))
    served = serve_one_by_one(queue)[:550]
    tokens = {flow: sum(run.cost_tokens for run in served if run.request.flow == flow) for flow in ("small", "large")}
    assert abs(tokens["small"] - tokens["large"]) <= 100


def test_idle_flow_gains_no_priority() -> None:
    queue = OneWorker()
    enqueue(queue, *(run_of("busy") for _ in range(100)))
    for _ in range(50):
        finish(queue, *serve(queue, max_sequences=1))
    enqueue(queue, *(run_of("newcomer") for _ in range(50)))
    flows = [run.request.flow for run in serve_one_by_one(queue)]
    assert 9 <= flows[:20].count("newcomer") <= 11


def test_cancelled_queued_runs_are_not_charged_to_their_flow() -> None:
    queue = OneWorker()
    gone = [run_of("a", cost_tokens=1000) for _ in range(20)]
    kept, other = run_of("a"), [run_of("b") for _ in range(5)]
    enqueue(queue, *gone, *other, kept)
    for run in gone:
        assert queue.leave(run) is None
    assert kept in serve_one_by_one(queue)[:2]
    assert queue.waiting == 0


def test_a_run_that_does_not_fit_holds_up_its_own_flow() -> None:
    queue = OneWorker()
    large, behind = run_of("a", cost_tokens=100), run_of("a")
    enqueue(queue, run_of("a"), large, behind)
    assert len(serve(queue, kv_blocks_total=10)) == 1
    assert list(queue.in_order()) == [large, behind]


def test_a_run_that_does_not_fit_is_overtaken_by_at_most_its_own_cost() -> None:
    queue = OneWorker()
    running, large = run_of("first"), run_of("large", cost_tokens=100)
    enqueue(queue, running)
    serve(queue, kv_blocks_total=10)
    enqueue(queue, large)
    others = count()
    overtaking_tokens = 0
    for _ in range(50):
        enqueue(queue, run_of(f"other {next(others)}"))
        overtaking = serve(queue, kv_blocks_total=10)
        overtaking_tokens += sum(run.cost_tokens for run in overtaking)
        finish(queue, *overtaking)
    assert overtaking_tokens == 100
    finish(queue, running)
    assert serve(queue, kv_blocks_total=10) == [large]


def test_runs_of_a_dead_worker_come_first_in_the_order_they_had() -> None:
    queue = OneWorker()
    runs = [run_of(flow) for flow in "abcd"]
    enqueue(queue, *runs)
    serve(queue, max_sequences=3)
    queue.append(run_of("e"))
    assert queue.kill() == runs[:3]
    assert list(queue.in_order())[:4] == runs
    assert serve(queue, max_sequences=4) == runs
    assert queue.waiting == 1


def test_suspects_are_tried_one_by_one_before_the_others_go_on() -> None:
    queue = OneWorker()
    first, second, third = runs = [run_of(flow) for flow in "abc"]
    enqueue(queue, first, second)
    serve(queue)
    queue.kill()
    serve(queue)
    queue.kill()
    enqueue(queue, third)
    assert queue.has_suspects
    assert serve(queue) == [first]
    queue.acquit(first)
    left = queue.make_way(first)
    assert serve(queue) == []
    assert left is not None
    queue.batch.remove(left[1])
    assert serve(queue) == [second]
    queue.acquit(second)
    assert queue.make_way(second) is None
    assert serve(queue) == [first, third]
    assert not queue.has_suspects
    assert [run.suspicion for run in runs] == [1, 1, 0]


def test_released_suspects_are_computed_together_and_suspected_again_after_a_death() -> None:
    queue = OneWorker()
    runs = [run_of(flow) for flow in "ab"]
    enqueue(queue, *runs)
    for _ in range(2):
        serve(queue)
        queue.kill()
    assert len(serve(queue)) == 1
    queue.release_suspects()
    assert not queue.has_suspects
    assert len(serve(queue)) == 1
    queue.kill()
    assert [run.suspicion for run in runs] == [3, 2]
    assert all(run.is_suspect for run in runs)


def test_run_cancelled_before_its_new_worker_is_removed() -> None:
    queue = OneWorker()
    runs = [run_of("a"), run_of("b")]
    enqueue(queue, *runs)
    serve(queue)
    queue.kill()
    assert queue.leave(runs[0]) is None
    assert queue.waiting == 1
    assert serve(queue) == [runs[1]]


def test_idle_flows_are_purged() -> None:
    queue = OneWorker()
    for n in range(1000):
        enqueue(queue, run_of("steady"), run_of(f"once {n}"))
        finish(queue, *serve(queue))
    assert queue.queued_flows() < 5


@given(
    st.lists(
        st.tuples(st.sampled_from("aaab"), st.integers(2, 100), st.sampled_from(["add", "serve", "leave", "die"])),
        max_size=60,
    )
)
def test_no_run_is_ever_lost_and_the_pool_is_never_oversubscribed(
    moves: list[tuple[str, int, str]],
) -> None:
    queue = OneWorker()
    waiting: set[QueuedSequence] = set()
    running: list[QueuedSequence] = []
    for flow, number, move in moves:
        if move == "add":
            run = run_of(flow, cost_tokens=number)
            queue.append(run)
            waiting.add(run)
        elif move == "serve":
            served = serve(queue, kv_blocks_total=12, max_sequences=4)
            waiting.difference_update(served)
            running += served
        elif move == "leave" and running:
            run = running.pop(number % len(running))
            left = queue.leave(run)
            assert left is not None
            queue.batch.remove(left[1])
        elif move == "die":
            assert set(queue.kill()) == set(running)
            waiting.update(running)
            running = []
        assert set(queue.in_order()) == waiting
        assert queue.waiting == len(waiting)
        assert queue.reserved_blocks == sum(-(-run.cost_tokens // BLOCK_TOKENS) for run in running) <= 12
        assert queue.submitted == len(running) <= 4
    assert set(queue.drain()) == waiting | set(running)
    assert queue.waiting == queue.submitted == 0
