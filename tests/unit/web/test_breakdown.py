"""Usage in parts, as the chart and its table show it."""

from corral.service.accounts.usage import Usage
from corral.web.dashboard.breakdown import MOST_SERIES, OTHERS, Sum, break_down

DAYS = ["2026-01-01", "2026-01-02", "2026-01-03"]


def used(day: str, *, model: str = "a/large", key_id: str = "key_1", door: str = "openai", cost_nusd: int = 0) -> Usage:
    return Usage(
        day=day, model=model, key_id=key_id, door=door,
        predictions=1, prompt_tokens=10, completion_tokens=5, cost_nusd=cost_nusd,
    )  # fmt: skip


def test_parts_are_sorted_by_what_they_cost_and_add_up() -> None:
    usage = [used(DAYS[0], model="a/small", cost_nusd=1), used(DAYS[0], cost_nusd=2), used(DAYS[2], cost_nusd=3)]
    found = break_down(usage, days=DAYS, by="model", label=str.upper)
    assert [(part.label, part.total.cost_nusd) for part in found.parts] == [("A/LARGE", 5), ("A/SMALL", 1)]
    assert [each.cost_nusd for each in found.parts[0].days] == [2, 0, 3]
    assert found.total == Sum(predictions=3, prompt_tokens=30, completion_tokens=15, cost_nusd=6)
    assert [found.total.of(measure) for measure in ("cost", "tokens", "predictions")] == [6, 45, 3]


def test_the_same_usage_is_broken_down_by_key_or_door() -> None:
    usage = [used(DAYS[0], key_id="key_2", door="replicate", cost_nusd=1), used(DAYS[1], cost_nusd=2)]
    by_key = break_down(usage, days=DAYS, by="key", label={"key_1": "laptop", "key_2": "server"}.__getitem__)
    by_door = break_down(usage, days=DAYS, by="door", label=str)
    assert [part.label for part in by_key.parts] == ["laptop", "server"]
    assert [part.label for part in by_door.parts] == ["openai", "replicate"]
    assert by_key.total == by_door.total


def test_days_are_listed_from_the_last_to_the_first_without_empty_ones() -> None:
    usage = [used(DAYS[0], cost_nusd=1), used(DAYS[0], model="a/small"), used(DAYS[2])]
    listed = break_down(usage, days=DAYS, by="model", label=str).by_day()
    assert [(day, total.predictions, [name for name, _ in parts]) for day, total, parts in listed] == [
        ("2026-01-03", 1, ["a/large"]),
        ("2026-01-01", 2, ["a/large", "a/small"]),
    ]


def test_parts_beyond_the_colours_are_merged_into_others() -> None:
    usage = [used(DAYS[0], key_id=f"key_{n}", cost_nusd=100 - n) for n in range(20)]
    found = break_down(usage, days=DAYS, by="key", label=str)
    assert len(found.parts) == MOST_SERIES
    assert found.parts[-1].label == OTHERS
    assert found.parts[-1].total.predictions == 20 - MOST_SERIES + 1
    assert found.total.cost_nusd == sum(100 - n for n in range(20))


def test_zero_usage_is_not_listed() -> None:
    found = break_down([], days=DAYS, by="model", label=str)
    assert (found.parts, found.total, found.by_day()) == ((), Sum(), [])
