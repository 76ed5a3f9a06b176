"""The estimate of a wait, on figures that can be checked by hand."""

import pytest

from corral.engines.runs import Run
from corral.engines.wait import Pace
from tests.engines import request


def run_of(max_new_tokens: int, *, emitted_tokens: int = 0, prompt_tokens: int = 1, kv_blocks: int = 1) -> Run:
    run = Run(request(*[5] * prompt_tokens, max_new_tokens=max_new_tokens), kv_blocks=kv_blocks)
    run.emitted = [7] * emitted_tokens
    return run


def pace_of(*, tokens_per_s: int, used: float) -> Pace:
    pace = Pace()
    for _ in range(100):
        pace.worked(tokens_per_s // 10, 0.1)
    pace.ended(run_of(1000, emitted_tokens=int(1000 * used)))
    return pace


def test_nothing_is_estimated_before_anything_was_seen() -> None:
    assert Pace().wait_s(running=[run_of(9)], ahead=[], kv_blocks=1, sequences=0) is None


def test_who_fits_does_not_wait() -> None:
    pace = pace_of(tokens_per_s=50, used=1)
    assert pace.wait_s(running=[run_of(100)], ahead=[], kv_blocks=0, sequences=0) == 0


def test_the_wait_lasts_until_enough_blocks_are_free() -> None:
    pace = pace_of(tokens_per_s=50, used=1)
    running = [run_of(100, emitted_tokens=90), run_of(100, emitted_tokens=50), run_of(100, emitted_tokens=10)]
    waits_s = [pace.wait_s(running=running, ahead=[], kv_blocks=blocks, sequences=0) for blocks in (1, 2, 3)]
    assert waits_s == pytest.approx([10 * 3 / 50, 50 * 3 / 50, 90 * 3 / 50])


def test_the_wait_lasts_until_enough_sequences_have_ended() -> None:
    pace = pace_of(tokens_per_s=50, used=1)
    running = [run_of(100, emitted_tokens=50), run_of(100, emitted_tokens=10)]
    assert pace.wait_s(running=running, ahead=[], kv_blocks=-5, sequences=2) == pytest.approx(90 * 2 / 50)


def test_whoever_is_ahead_is_waited_for_with_prompt_and_answer() -> None:
    pace = pace_of(tokens_per_s=50, used=1)
    ahead = [run_of(100, prompt_tokens=20), run_of(100, prompt_tokens=30)]
    running = [run_of(100, emitted_tokens=50)]
    assert pace.wait_s(running=running, ahead=ahead, kv_blocks=3, sequences=0) == pytest.approx((50 + 250) / 50)


def test_runs_are_expected_to_use_as_much_of_what_they_ask_for_as_others_did() -> None:
    pace = pace_of(tokens_per_s=50, used=0.1)
    running = [run_of(1000, emitted_tokens=1)]
    assert pace.wait_s(running=running, ahead=[], kv_blocks=1, sequences=0) == pytest.approx(99.9 / 50)


def test_a_new_speed_replaces_the_old_within_minutes() -> None:
    pace = pace_of(tokens_per_s=1000, used=1)
    for _ in range(1200):
        pace.worked(1, 0.1)
    wait_s = pace.wait_s(running=[run_of(101, emitted_tokens=1)], ahead=[], kv_blocks=1, sequences=0)
    assert wait_s == pytest.approx(10, rel=0.5)
