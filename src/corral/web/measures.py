"""Figures below an answer: time, tokens, speed, cost."""

from dataclasses import dataclass
from typing import Final

from corral.catalog.page import Example
from corral.core.prediction import Prediction
from corral.core.pricing import usd

UNKNOWN: Final = "\N{EN DASH}"
NAMES: Final = ("Generated in", "Input tokens", "Output tokens", "Tokens per second", "Cost")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure and its label."""

    name: str
    value: str


NOTHING_YET: Final = tuple(Figure(name=name, value=UNKNOWN) for name in NAMES)
"""The same figures in the same order, so that the layout does not change when values arrive."""


def of_prediction(prediction: Prediction) -> tuple[Figure, ...]:
    """Figures of a prediction; time counts from its admission by the engine."""
    begun_at_ms = prediction.admitted_at_ms or prediction.started_at_ms
    known = begun_at_ms is not None
    return _figures(
        generated_ms=_between(begun_at_ms, prediction.completed_at_ms),
        prompt_tokens=prediction.prompt_tokens if known else None,
        completion_tokens=prediction.completion_tokens if known else None,
        cost_nusd=prediction.cost_nusd,
    )


def of_example(example: Example) -> tuple[Figure, ...]:
    """Figures of an example run; without cost."""
    return _figures(
        generated_ms=example.completed_at_ms - example.admitted_at_ms,
        prompt_tokens=example.prompt_tokens,
        completion_tokens=example.completion_tokens,
        cost_nusd=None,
    )


def _figures(
    *, generated_ms: int | None, prompt_tokens: int | None, completion_tokens: int | None, cost_nusd: int | None
) -> tuple[Figure, ...]:
    rate = None if not generated_ms or completion_tokens is None else 1000 * completion_tokens / generated_ms
    values = (
        UNKNOWN if generated_ms is None else f"{generated_ms / 1000:.2f} s",
        UNKNOWN if prompt_tokens is None else f"{prompt_tokens:,}",
        UNKNOWN if completion_tokens is None else f"{completion_tokens:,}",
        UNKNOWN if rate is None else f"{rate:,.2f} tokens / second",
        UNKNOWN if cost_nusd is None else f"${usd(cost_nusd)}",
    )
    return tuple(Figure(name=name, value=value) for name, value in zip(NAMES, values, strict=True))


def _between(begun_at_ms: int | None, ended_at_ms: int | None) -> int | None:
    return None if begun_at_ms is None or ended_at_ms is None else max(0, ended_at_ms - begun_at_ms)
