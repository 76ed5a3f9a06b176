"""Placement and admission over several workers without processes: who gets a sequence, and who gets none."""

from collections.abc import Sequence

from corral.engines.admission import Admission
from corral.engines.base import EngineInfo
from corral.engines.batch import WorkerBatch
from corral.engines.placement import FIRST_PAUSE_S, MAX_FAILURES, PREFIX_TOKENS, Placement
from corral.engines.sequences import QueuedSequence
from tests.engines import request

ROOM_TOKENS = 1000
PREFIX = tuple(range(5, 5 + 2 * PREFIX_TOKENS))


class Clock:
    """Time that tests move."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Workers(Admission):
    """Admission to workers that are all ready, with room for ROOM_TOKENS each."""

    def __init__(self, number: int, *, kv_blocks: int | None = ROOM_TOKENS, max_sequences: int = 100) -> None:
        self.batches = [WorkerBatch(index, max_sequences=max_sequences) for index in range(number)]
        self.clock = Clock()
        self.placement = Placement(self.clock)
        super().__init__(self.batches, self.placement)
        self.info = EngineInfo(
            engine="test",
            weights="none",
            weights_id="test",
            vocab_size=1000,
            context_tokens=ROOM_TOKENS,
            kv_block_tokens=None if kv_blocks is None else 1,
            kv_blocks=kv_blocks,
        )
        for batch in self.batches:
            self.worker_ready(batch, self.info)

    def serve(self, *sequences: QueuedSequence) -> list[int]:
        """Number of the worker that each admitted sequence goes to."""
        for sequence in sequences:
            self.append(sequence)
        return [batch.index for batch, _, _ in self.admit()]

    def finish(self, *sequences: QueuedSequence) -> None:
        for sequence in sequences:
            for batch in self.batches:
                if sequence.key is not None and batch.get(sequence.key) is sequence:
                    batch.remove(sequence.key)
                    self.placement.finished(batch)

    def kill(self, index: int, *, times: int = 1) -> list[QueuedSequence]:
        """Let a worker die, each time after it was ready again."""
        orphans: list[QueuedSequence] = []
        for _ in range(times):
            self.worker_ready(self.batches[index], self.info)
            orphans += self.worker_died(self.batches[index])
        return orphans


def sequence_of(cost_tokens: int, *, prompt: Sequence[int] = (5,), flow: str = "") -> QueuedSequence:
    return QueuedSequence(request(*prompt, max_new_tokens=cost_tokens - len(prompt), flow=flow))


def test_the_worker_with_least_outstanding_work_gets_the_next_sequence() -> None:
    workers = Workers(3)
    sequences = [sequence_of(cost_tokens) for cost_tokens in (300, 100, 200, 50, 10)]
    assert workers.serve(*sequences) == [0, 1, 2, 1, 1]
    sequences[0].emitted = [7] * 290
    assert workers.serve(sequence_of(10)) == [0]


def test_a_prompt_prefix_goes_to_the_worker_that_computed_it() -> None:
    workers = Workers(3)
    other, first = sequence_of(90), sequence_of(100, prompt=PREFIX)
    assert workers.serve(other, first) == [0, 1]
    workers.finish(first)
    assert workers.serve(sequence_of(100, prompt=(*PREFIX, 9, 9))) == [1]
    assert workers.serve(sequence_of(100, prompt=(9, *PREFIX))) == [2]


def test_a_worker_with_the_prefix_that_is_much_busier_is_passed_over() -> None:
    workers = Workers(2)
    asked = [sequence_of(100, prompt=PREFIX) for _ in range(4)]
    assert workers.serve(*asked[:1], sequence_of(1)) == [0, 1]
    assert workers.serve(*asked[1:]) == [0, 1, 1]


def test_a_dead_worker_has_no_prefixes() -> None:
    workers = Workers(2)
    first = sequence_of(100, prompt=PREFIX)
    workers.serve(first)
    workers.finish(first)
    workers.kill(0)
    workers.worker_ready(workers.batches[0], workers.info)
    assert workers.serve(sequence_of(1)) == [0]
    assert workers.serve(sequence_of(100, prompt=PREFIX)) == [1]


def test_a_sequence_that_fits_the_sum_of_all_room_but_no_worker_waits() -> None:
    workers = Workers(2)
    running = [sequence_of(600) for _ in range(2)]
    assert workers.serve(*running) == [0, 1]
    assert workers.serve(sequence_of(500)) == []
    workers.finish(running[1])
    assert [batch.index for batch, _, _ in workers.admit()] == [1]


def test_without_kv_blocks_only_number_and_context_limit_a_worker() -> None:
    workers = Workers(1, kv_blocks=None, max_sequences=3)
    assert workers.serve(*(sequence_of(ROOM_TOKENS) for _ in range(5))) == [0, 0, 0]
    assert (workers.waiting, workers.batches[0].kv_blocks_reserved) == (2, 0)


def test_sequences_of_a_dead_worker_move_to_another_before_all_others() -> None:
    workers = Workers(2, max_sequences=2)
    running = [sequence_of(10) for _ in range(4)]
    workers.serve(*running)
    workers.serve(sequence_of(10))
    orphans = workers.kill(0)
    assert len(orphans) == 2
    workers.finish(*(one for one in running if one not in orphans))
    assert [sequence for _, _, sequence in workers.admit()] == orphans
    assert workers.waiting == 1


def test_a_worker_that_died_repeatedly_gets_nothing_for_a_growing_time_and_then_one_sequence() -> None:
    workers = Workers(2)
    workers.kill(0, times=MAX_FAILURES)
    workers.worker_ready(workers.batches[0], workers.info)
    assert workers.serve(*(sequence_of(10) for _ in range(4))) == [1, 1, 1, 1]
    workers.clock.now_s += FIRST_PAUSE_S
    trial = sequence_of(10)
    assert workers.serve(trial, sequence_of(10)) == [0, 1]
    workers.kill(0)
    workers.worker_ready(workers.batches[0], workers.info)
    workers.clock.now_s += FIRST_PAUSE_S
    assert [batch.index for batch, _, _ in workers.admit()] == [1]
    workers.clock.now_s += FIRST_PAUSE_S
    trial = sequence_of(10)
    assert workers.serve(trial) == [0]
    workers.finish(trial)
    assert workers.serve(sequence_of(10), sequence_of(10)) == [0, 0]


def test_a_full_sound_worker_is_waited_for_rather_than_one_that_died_repeatedly() -> None:
    workers = Workers(2, max_sequences=1)
    workers.kill(0, times=MAX_FAILURES)
    workers.worker_ready(workers.batches[0], workers.info)
    assert workers.serve(sequence_of(10), sequence_of(10)) == [1]


def test_the_only_worker_gets_everything_however_often_it_died() -> None:
    workers = Workers(1)
    workers.kill(0, times=3 * MAX_FAILURES)
    workers.worker_ready(workers.batches[0], workers.info)
    assert workers.serve(sequence_of(10), sequence_of(10)) == [0, 0]


def test_a_suspect_is_computed_alone_on_its_worker_while_another_takes_the_rest() -> None:
    workers = Workers(2)
    suspect = sequence_of(10)
    workers.serve(suspect)
    for _ in range(2):
        computes = next(batch for batch in workers.batches if suspect in batch.sequences)
        workers.kill(computes.index)
        workers.worker_ready(computes, workers.info)
        list(workers.admit())
    assert suspect.is_suspect
    alone = next(batch.index for batch in workers.batches if batch.computes_suspect)
    assert workers.serve(*(sequence_of(10) for _ in range(5))) == [1 - alone] * 5
    assert not workers.only_suspects


def test_a_waiting_suspect_reserves_the_emptiest_worker_and_the_others_go_on() -> None:
    workers = Workers(3, max_sequences=2)
    longs = [sequence_of(400) for _ in range(3)]
    suspect, other = sequence_of(10), sequence_of(10)
    assert workers.serve(*longs, suspect, other) == [0, 1, 2, 0, 1]
    suspect.suspicion = 1
    workers.kill(0)
    workers.worker_lost(workers.batches[0])
    assert list(workers.admit()) == []
    workers.finish(other)
    assert [(batch.index, sequence) for batch, _, sequence in workers.admit()] == [(2, longs[0])]
    workers.finish(longs[1])
    assert [(batch.index, sequence) for batch, _, sequence in workers.admit()] == [(1, suspect)]
    workers.finish(longs[2])
    assert workers.serve(sequence_of(10), sequence_of(10)) == [2]
