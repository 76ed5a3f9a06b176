"""Stop sequences as a JSON list instead of a comma-separated string."""

from typing import Any

import pytest

from corral.api.doors.replicate.faults import InvalidInput
from corral.api.doors.replicate.input_table import INPUTS
from corral.api.doors.replicate.inputs import read_input, stops


def read(**given: Any) -> tuple[str, ...]:
    return stops(read_input({"prompt": "Hi", **given}, INPUTS.fields))


def faults(**given: Any) -> list[tuple[str, str]]:
    with pytest.raises(InvalidInput) as caught:
        read(**given)
    return [(fault.type, fault.field) for fault in caught.value.faults]


def test_stop_sequences_may_be_a_list_with_the_same_limits() -> None:
    assert read(stop_sequences=["a,b", "", " and", "a,b"]) == ("a,b", " and")
    assert read(stop_sequences=[]) == ()
    assert len(read(stop_sequences=[str(number) for number in range(16)])) == 16
    for beyond in ([str(number) for number in range(17)], ["x" * 257], ["x"] * 10_000, [""] * 10_000):
        assert faults(stop_sequences=beyond) == [("string_lte", "input.stop_sequences")]
    assert faults(stop_sequences=["a", 5, None]) == [("invalid_type", "input.stop_sequences.1")]
    assert faults(stop_sequences={"a": 1}) == [("invalid_type", "input.stop_sequences")]
    assert faults(prompt=["Hi"]) == [("invalid_type", "input.prompt")]
