"""Ranges of numbers: exact at their ends, whatever the size, and those of every API within the engine's."""

import math

import pytest

from corral.api.doors.deepinfra.input_table import INPUTS as DEEPINFRA
from corral.api.doors.replicate.input_table import INPUTS as REPLICATE
from corral.core.ranges import COUNT, OPENAI, SAMPLING, SEED, Range

RANGES = {
    "openai": dict(OPENAI),
    "replicate": {field.name: field.accepted for field in REPLICATE.fields},
    "deepinfra": {field.name: field.accepted for field in DEEPINFRA.fields},
}
MAPPED_ENDS = {("top_p", 0), ("min_p", 1)}
"""Values that doors turn into another setting of the same effect, before an engine sees them."""


def test_integers_of_any_size_are_compared_exactly() -> None:
    assert SEED.holds(2**64)
    assert SEED.holds(-(2**63))
    for beyond in (2**64 + 1, -(2**63) - 1, 10**5000, math.nextafter(2.0**64, math.inf)):
        assert not SEED.holds(beyond)
    assert COUNT.holds(2**63 - 1)
    assert not COUNT.holds(2**63)


def test_no_range_holds_what_is_not_finite() -> None:
    for number in (math.nan, math.inf, -math.inf):
        assert not Range().holds(number)
        assert not any(allowed.holds(number) for allowed in (*SAMPLING.values(), *OPENAI.values()))


def test_a_range_is_written_with_every_digit() -> None:
    assert str(SEED) == "at least -9223372036854775808 and at most 18446744073709551616"
    assert str(SAMPLING["top_p"]) == "above 0 and at most 1"
    assert str(SAMPLING["repetition_penalty"]) == "at least 0.01 and at most 100"
    assert str(Range()) == "finite"


@pytest.mark.parametrize("api", RANGES)
def test_both_ends_of_what_an_api_takes_are_within_what_engines_compute_with(api: str) -> None:
    ranges = RANGES[api]
    for name in SAMPLING.keys() & ranges.keys() - {"top_k"}:  # whose ends are off, and more than any vocabulary
        for end in (ranges[name].minimum, ranges[name].maximum):
            if end is not None and (name, end) not in MAPPED_ENDS:
                assert SAMPLING[name].holds(end), (name, end)
