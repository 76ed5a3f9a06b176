"""Samples and padded batches, drawn from a seed."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random

import torch
from torch import Tensor

from training.demo.corpus import Corpus, draw_conversation
from training.demo.encoding import IGNORED, Encoder, Sample

MAX_TOKENS = 768
CONTEXT_TOKENS = 4096
_POOL_BATCHES = 32  # this many batches are sorted by length together
_GAP_SHARE = 0.10  # this share of samples has a gap in its positions, so that long ones are seen


@dataclass(frozen=True)
class Batch:
    """Right-padded ids, labels and positions, (samples, tokens) each."""

    ids: Tensor
    labels: Tensor
    positions: Tensor


def draw_sample(corpus: Corpus, encoder: Encoder, rng: Random, cut_share: float) -> Sample:
    """Draw one sample that fits; some get distant positions.

    A share of the last answers is cut short, so that more questions are seen in the same time.
    """
    while True:
        conversation = draw_conversation(corpus, rng)
        if conversation.kind == "continued":
            sample = encoder.continued(conversation, rng)
        else:
            sample = encoder.sample(conversation)
        if rng.random() < cut_share:
            sample = _cut(sample, len(encoder.prompt(conversation)) + rng.randint(8, 40))
        if len(sample.ids) <= MAX_TOKENS:
            break
    return _with_gap(sample, rng) if rng.random() < _GAP_SHARE else sample


def _cut(sample: Sample, tokens: int) -> Sample:
    return Sample(sample.ids[:tokens], sample.labels[:tokens], sample.positions[:tokens])


def _with_gap(sample: Sample, rng: Random) -> Sample:
    """Move everything after a random place further away; only distances matter to RoPE."""
    at = rng.randrange(1, len(sample.ids))
    gap = rng.randint(1, CONTEXT_TOKENS - len(sample.ids))
    moved = [*sample.positions[:at], *(position + gap for position in sample.positions[at:])]
    return replace(sample, positions=moved)


def draw_batches(corpus: Corpus, encoder: Encoder, rng: Random, batch_tokens: int, cut_share: float) -> Iterator[Batch]:
    """Yield batches without end; each has at most about ``batch_tokens`` padded tokens."""
    while True:
        pool: list[Sample] = []
        while sum(len(sample.ids) for sample in pool) < _POOL_BATCHES * batch_tokens:
            pool += [draw_sample(corpus, encoder, rng, cut_share) for _ in range(64)]
        pool.sort(key=lambda sample: len(sample.ids))
        groups: list[list[Sample]] = [[]]
        for sample in pool:
            if (len(groups[-1]) + 1) * len(sample.ids) > batch_tokens and groups[-1]:
                groups.append([])
            groups[-1].append(sample)
        rng.shuffle(groups)
        yield from (pad(group) for group in groups)


def pad(samples: list[Sample]) -> Batch:
    """Pad samples on the right; a padded label is ignored."""
    width = max(len(sample.ids) for sample in samples)

    def padded(rows: list[list[int]], filler: int) -> Tensor:
        return torch.tensor([row + [filler] * (width - len(row)) for row in rows])

    return Batch(
        padded([sample.ids for sample in samples], 0),
        padded([sample.labels for sample in samples], IGNORED),
        padded([sample.positions for sample in samples], 0),
    )
