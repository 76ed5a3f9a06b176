"""The KV pool: what fits together runs without preemption, and what leaves is free within a step."""

import random
from dataclasses import replace

import pytest

from corral.core.generation import Sampling
from corral.engines.openvino.stepper import OpenVinoStepper
from tests.oracle.batches import BLOCK_TOKENS, POOL_BLOCKS, Batch, ask, prompt, run


@pytest.mark.parametrize(("prompt_tokens", "new_tokens"), [(1, 127), (33, 31), (64, 64), (65, 63), (127, 1)])
@pytest.mark.parametrize("together", [True, False], ids=["together", "one per step"])
def test_requests_that_reserve_the_whole_pool_run_without_preemption(
    stepper: OpenVinoStepper, prompt_tokens: int, new_tokens: int, together: bool
) -> None:
    blocks = -(-(prompt_tokens + new_tokens) // BLOCK_TOKENS)
    batch = Batch(stepper)
    for n in range(POOL_BLOCKS // blocks):
        batch.add(ask(*prompt(prompt_tokens, seed=n), max_new_tokens=new_tokens))
        if not together:
            assert_everyone_advances(batch, batch.step())
    while stepper.sequences():
        assert_everyone_advances(batch, batch.step())
    assert {len(answer.ids) for answer in batch.answers.values()} == {new_tokens}


def assert_everyone_advances(batch: Batch, advanced: set[int]) -> None:
    """A sequence that has begun gets a token in every step; one that was preempted would miss some."""
    begun = {key for key, answer in batch.answers.items() if len(answer.ids) > 1 and answer.end is None}
    assert begun <= advanced


def test_a_full_pool_takes_a_newcomer_right_after_a_cancel_without_preemption(stepper: OpenVinoStepper) -> None:
    batch = Batch(stepper)
    keys = [batch.add(ask(*prompt(33, seed=n), max_new_tokens=95)) for n in range(4)]
    for _ in range(50):
        batch.step()
    for n, key in enumerate(keys[:2]):
        stepper.cancel(key)
        del batch.answers[key]
        batch.add(ask(*prompt(100, seed=10 + n), max_new_tokens=28))
    while stepper.sequences():
        assert_everyone_advances(batch, batch.step())
    assert sorted(len(answer.ids) for answer in batch.answers.values()) == [28, 28, 95, 95]


@pytest.mark.parametrize("prompt_tokens", [64, 400, 500])
def test_an_echo_needs_no_more_of_the_pool_than_its_answer(stepper: OpenVinoStepper, prompt_tokens: int) -> None:
    size = POOL_BLOCKS * BLOCK_TOKENS
    asked = replace(ask(*prompt(prompt_tokens), max_new_tokens=size - prompt_tokens), echo=True)
    batch = Batch(stepper)
    key = batch.add(asked)
    while stepper.sequences():
        assert_everyone_advances(batch, batch.step())
    assert len(batch.answers[key].ids) == size - prompt_tokens


def test_a_prompt_that_fills_the_pool_can_be_echoed_alone(stepper: OpenVinoStepper) -> None:
    size = POOL_BLOCKS * BLOCK_TOKENS
    [answer] = run(stepper, replace(ask(*prompt(size), max_new_tokens=0), echo=True))
    assert answer.prompt_logprobs is not None
    assert len(answer.prompt_logprobs) == size - 1


# Leaving


@pytest.mark.parametrize("steps", [0, 1, 3, 20], ids=["waiting", "prefill", "late prefill", "decode"])
def test_a_cancelled_sequence_frees_its_blocks_within_one_step(stepper: OpenVinoStepper, steps: int) -> None:
    batch = Batch(stepper)
    leaving = batch.add(ask(*prompt(300), max_new_tokens=200))
    for _ in range(steps):
        batch.step()
    stepper.cancel(leaving)
    assert stepper.sequences() == 0
    assert stepper.step() == []
    # Nothing less than the whole pool holds this one.
    [whole] = run(stepper, ask(*prompt(60, seed=1), max_new_tokens=452))
    assert len(whole.ids) == 452


def test_usage_is_true_one_step_after_a_cancel(stepper: OpenVinoStepper) -> None:
    batch = Batch(stepper)
    leaving = batch.add(ask(*prompt(60), max_new_tokens=200))
    for _ in range(10):
        batch.step()
    assert stepper.kv_usage_percent() == pytest.approx(100 * 3 / POOL_BLOCKS)
    stepper.cancel(leaving)
    stepper.step()
    stepper.step()
    assert stepper.kv_usage_percent() == 0


def test_a_cancel_leaves_the_neighbours_alone(stepper: OpenVinoStepper) -> None:
    whole = run(stepper, ask(max_new_tokens=60))[0].ids
    batch = Batch(stepper)
    stays = batch.add(ask(max_new_tokens=60))
    for n in range(10):
        leaving = batch.add(ask(*prompt(30, seed=n), max_new_tokens=30))
        batch.step()
        batch.step()
        stepper.cancel(leaving)
    batch.drain()
    assert batch.answers[stays].ids == whole


def test_cancelling_what_is_unknown_or_finished_is_ignored(stepper: OpenVinoStepper) -> None:
    batch = Batch(stepper)
    key = batch.add(ask())
    batch.drain()
    stepper.cancel(key)
    stepper.cancel(10**9)
    assert stepper.step() == []


def test_three_hundred_random_adds_and_cancels_leave_nothing_behind(stepper: OpenVinoStepper) -> None:
    dice, batch = random.Random(0), Batch(stepper)
    running: list[int] = []
    for n in range(300):
        if dice.random() < 0.5 and stepper.sequences() < 5:
            request = ask(*prompt(dice.randint(1, 64), seed=n), max_new_tokens=dice.randint(1, 32), sampling=Sampling())
            running.append(batch.add(request))
        elif running and dice.random() < 0.3:
            stepper.cancel(running.pop(dice.randrange(len(running))))
        batch.step()
    for key in running:
        stepper.cancel(key)
    stepper.step()
    stepper.step()
    assert stepper.sequences() == 0
    assert stepper.kv_usage_percent() == 0
