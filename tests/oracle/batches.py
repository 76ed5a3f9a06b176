"""Tiny OpenVINO steppers in this process, and short ways to run requests through them."""

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openvino_genai as genai

from corral.core.generation import Sampling
from corral.engines.base import EndReason, EngineRequest
from corral.engines.openvino.options import KvPrecision, OpenVinoOptions
from corral.engines.openvino.pipeline import load_pipeline
from corral.engines.openvino.stepper import OpenVinoStepper, build_stepper
from corral.engines.stepper import Progress, SequenceOutput
from tests.oracle.llama import GQA, TinyLlama

GREEDY = Sampling(temperature=0)
STOP_IDS = frozenset({2})
"""EOS of the random models."""
POOL_BLOCKS = 16
BLOCK_TOKENS = 32


def silent(_progress: Progress) -> None:
    """Nobody watches."""


def build_tiny(model: TinyLlama, directory: Path, **options: Any) -> OpenVinoStepper:
    """Write a random checkpoint and start on it; *options* as in OpenVinoOptions."""
    checkpoint = model.write(directory / "checkpoint")
    chosen = OpenVinoOptions(checkpoint=str(checkpoint), cache_dir=str(directory / "cache"), **options)
    return build_stepper(chosen, silent)


def load_converted(
    directory: Path, *, blocks: int, precision: KvPrecision = KvPrecision.F32
) -> genai.ContinuousBatchingPipeline:
    """A bare pipeline on what ``build_tiny`` has converted in the same directory."""
    [model] = (path.parent for path in directory.glob("cache/models/*/openvino_model.xml"))
    return load_pipeline(
        model, blocks=blocks, precision=precision, activation_group=0, max_batched_tokens=64, prefix_caching=False
    )


def ask(
    *prompt_ids: int,
    max_new_tokens: int = 16,
    min_new_tokens: int = 0,
    seed: int = 0,
    sampling: Sampling = GREEDY,
    ignore_eos: bool = True,
    stop_ids: frozenset[int] = STOP_IDS,
) -> EngineRequest:
    """A request with defaults fit for random models, which choose EOS at random."""
    return EngineRequest(
        prompt_ids=prompt_ids or (1, 5, 7, 9),
        max_new_tokens=max_new_tokens,
        min_new_tokens=min_new_tokens,
        seed=seed,
        sampling=sampling,
        stop_ids=stop_ids,
        ignore_eos=ignore_eos,
    )


def prompt(tokens: int, seed: int = 0) -> tuple[int, ...]:
    """Random ids."""
    return tuple(random.Random(seed).choices(range(3, GQA.vocab), k=tokens))


@dataclass(slots=True)
class Answer:
    """What came for one request."""

    ids: list[int] = field(default_factory=list[int])
    logprobs: list[float] = field(default_factory=list[float])
    end: EndReason | None = None
    prompt_logprobs: tuple[float, ...] | None = None

    def extend(self, output: SequenceOutput) -> None:
        """Take in one step's output."""
        assert self.end is None, "output after the end"
        self.ids.extend(output.ids)
        self.logprobs.extend(output.logprobs)
        self.end = output.end
        if output.prompt_logprobs is not None:
            assert self.prompt_logprobs is None
            assert not output.ids
            self.prompt_logprobs = output.prompt_logprobs


class Batch:
    """Runs requests on a stepper with keys of its own."""

    _next_key = 1

    def __init__(self, stepper: OpenVinoStepper) -> None:
        self.stepper = stepper
        self.answers: dict[int, Answer] = {}

    def add(self, request: EngineRequest) -> int:
        """Add a request; return its key."""
        key = Batch._next_key
        Batch._next_key += 1
        self.stepper.add(key, request)
        self.answers[key] = Answer()
        return key

    def step(self) -> set[int]:
        """One step; return the keys that got tokens."""
        outputs = self.stepper.step()
        for output in outputs:
            self.answers[output.key].extend(output)
        return {output.key for output in outputs if output.ids}

    def drain(self) -> None:
        """Step until nothing is left."""
        while self.stepper.sequences():
            self.step()


def run(stepper: OpenVinoStepper, *requests: EngineRequest) -> list[Answer]:
    """Run requests together from the same step on."""
    batch = Batch(stepper)
    keys = [batch.add(request) for request in requests]
    batch.drain()
    return [batch.answers[key] for key in keys]
