"""Daily usage by model, key or API, for a chart and its table."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from corral.service.accounts.usage import Usage

By = Literal["model", "key", "door"]
BY: Final[tuple[By, ...]] = ("model", "key", "door")
Measure = Literal["cost", "tokens", "predictions"]
MEASURES: Final[tuple[Measure, ...]] = ("cost", "tokens", "predictions")
MOST_SERIES: Final = 6
"""More colours cannot be told apart; the rest is shown as one part."""
OTHERS: Final = "all others"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """Totals of requests, tokens and cost."""

    predictions: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_nusd: int = 0

    @property
    def tokens(self) -> int:
        """Input and output tokens together."""
        return self.prompt_tokens + self.completion_tokens

    def of(self, measure: Measure) -> int:
        """The figure that a chart shows."""
        match measure:
            case "cost":
                return self.cost_nusd
            case "tokens":
                return self.tokens
            case "predictions":
                return self.predictions


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Usage of one model, key or API."""

    label: str
    days: tuple[Sum, ...]
    """One for each day of the breakdown."""
    total: Sum


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakdown:
    """Usage in parts, largest first, by day."""

    days: tuple[str, ...]
    parts: tuple[Part, ...]
    total: Sum

    def by_day(self) -> list[tuple[str, Sum, list[tuple[str, Sum]]]]:
        """Days with usage, latest first, each with its total and parts."""
        found: list[tuple[str, Sum, list[tuple[str, Sum]]]] = []
        for index in reversed(range(len(self.days))):
            parts = [(part.label, part.days[index]) for part in self.parts if part.days[index].predictions]
            if parts:
                found.append((self.days[index], _added(each for _, each in parts), parts))
        return found


def break_down(usage: Sequence[Usage], *, days: Sequence[str], by: By, label: Callable[[str], str]) -> Breakdown:
    """Group *usage* into parts.

    Args:
        usage: with day and what it is broken down by.
        days: to be shown, in order; those without usage as well.
        by: what the parts are.
        label: what a part is called, by its model, key's id or door.
    """
    cells: dict[str, dict[str, list[Usage]]] = {}
    for each in usage:
        name = {"model": each.model, "key": each.key_id, "door": each.door}[by] or ""
        cells.setdefault(name, {}).setdefault(each.day or "", []).append(each)
    parts = [_part(label(name), [cell.get(day, []) for day in days]) for name, cell in cells.items()]
    parts.sort(key=lambda part: (-part.total.cost_nusd, -part.total.tokens, part.label))
    shown = tuple(parts)
    if len(parts) > MOST_SERIES:
        rest = parts[MOST_SERIES - 1 :]
        others = tuple(_added(part.days[index] for part in rest) for index in range(len(days)))
        shown = (*parts[: MOST_SERIES - 1], Part(label=OTHERS, days=others, total=_added(others)))
    return Breakdown(days=tuple(days), parts=shown, total=_added(part.total for part in shown))


def _part(label: str, days: Iterable[Sequence[Usage]]) -> Part:
    sums = tuple(_added(map(_sum, used)) for used in days)
    return Part(label=label, days=sums, total=_added(sums))


def _sum(used: Usage) -> Sum:
    return Sum(
        predictions=used.predictions,
        prompt_tokens=used.prompt_tokens,
        completion_tokens=used.completion_tokens,
        cost_nusd=used.cost_nusd,
    )


def _added(sums: Iterable[Sum]) -> Sum:
    predictions = prompt_tokens = completion_tokens = cost_nusd = 0
    for each in sums:
        predictions += each.predictions
        prompt_tokens += each.prompt_tokens
        completion_tokens += each.completion_tokens
        cost_nusd += each.cost_nusd
    return Sum(
        predictions=predictions,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        cost_nusd=cost_nusd,
    )
