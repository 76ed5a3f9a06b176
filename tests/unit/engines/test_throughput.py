"""The estimate of a wait, on figures that can be checked by hand."""

import pytest

from corral.engines.sequences import QueuedSequence
from corral.engines.throughput import ThroughputEstimator
from tests.engines import request


def sequence_of(max_new_tokens: int, *, emitted_tokens: int = 0, prompt_tokens: int = 1) -> QueuedSequence:
    sequence = QueuedSequence(request(*[5] * prompt_tokens, max_new_tokens=max_new_tokens))
    sequence.emitted = [7] * emitted_tokens
    return sequence


def estimator_of(*, tokens_per_s: int, used: float) -> ThroughputEstimator:
    estimator = ThroughputEstimator()
    for _ in range(100):
        estimator.step_done(tokens_per_s // 10, 0.1)
    estimator.sequence_ended(sequence_of(1000, emitted_tokens=int(1000 * used)))
    return estimator


def test_no_estimate_without_samples() -> None:
    assert ThroughputEstimator().wait_s(running=[sequence_of(9)], ahead=[], tokens=1, sequences=0) is None


def test_queue_wait_is_zero_when_the_request_fits() -> None:
    estimator = estimator_of(tokens_per_s=50, used=1)
    assert estimator.wait_s(running=[sequence_of(100)], ahead=[], tokens=0, sequences=0) == 0


def test_the_wait_lasts_until_enough_tokens_are_free() -> None:
    estimator = estimator_of(tokens_per_s=50, used=1)
    running = [
        sequence_of(100, emitted_tokens=90),
        sequence_of(100, emitted_tokens=50),
        sequence_of(100, emitted_tokens=10),
    ]
    waits_s = [estimator.wait_s(running=running, ahead=[], tokens=tokens, sequences=0) for tokens in (101, 102, 303)]
    assert waits_s == pytest.approx([10 * 3 / 50, 50 * 3 / 50, 90 * 3 / 50])


def test_the_wait_lasts_until_enough_sequences_have_ended() -> None:
    estimator = estimator_of(tokens_per_s=50, used=1)
    running = [sequence_of(100, emitted_tokens=50), sequence_of(100, emitted_tokens=10)]
    assert estimator.wait_s(running=running, ahead=[], tokens=-5, sequences=2) == pytest.approx(90 * 2 / 50)


def test_queue_wait_includes_prompts_and_answers_of_requests_ahead() -> None:
    estimator = estimator_of(tokens_per_s=50, used=1)
    ahead = [sequence_of(100, prompt_tokens=20), sequence_of(100, prompt_tokens=30)]
    running = [sequence_of(100, emitted_tokens=50)]
    assert estimator.wait_s(running=running, ahead=ahead, tokens=303, sequences=0) == pytest.approx((50 + 250) / 50)


def test_queue_wait_estimate_uses_past_answer_lengths() -> None:
    estimator = estimator_of(tokens_per_s=50, used=0.1)
    running = [sequence_of(1000, emitted_tokens=1)]
    assert estimator.wait_s(running=running, ahead=[], tokens=1, sequences=0) == pytest.approx(99.9 / 50)


def test_throughput_estimate_adapts_within_minutes() -> None:
    estimator = estimator_of(tokens_per_s=1000, used=1)
    for _ in range(1200):
        estimator.step_done(1, 0.1)
    wait_s = estimator.wait_s(running=[sequence_of(101, emitted_tokens=1)], ahead=[], tokens=1, sequences=0)
    assert wait_s == pytest.approx(10, rel=0.5)


def test_two_workers_are_twice_as_fast() -> None:
    estimator, running = estimator_of(tokens_per_s=50, used=1), [sequence_of(100, emitted_tokens=50)]
    one_s, two_s = (estimator.wait_s(running=running, ahead=[], tokens=1, sequences=0, workers=n) for n in (1, 2))
    assert (one_s, two_s) == (pytest.approx(1), pytest.approx(0.5))
