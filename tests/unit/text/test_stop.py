"""Stop strings end a text wherever its parts are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.core.errors import InvalidRequest
from corral.text.stop import StopFilter, StopResult

STOPS = st.lists(st.text("ab", min_size=1, max_size=4), max_size=4)
PARTS = st.lists(st.text("abc", max_size=5))


def naive(text: str, stops: list[str]) -> tuple[str, str | None]:
    """Read character by character; the first ending that is a stop string ends the text before it."""
    for end in range(len(text) + 1):
        endings = [stop for stop in stops if text[:end].endswith(stop)]
        if endings:
            longest = max(endings, key=len)
            return text[: end - len(longest)], longest
    return text, None


def run(stops: list[str], parts: list[str]) -> tuple[str, str | None]:
    stop_filter = StopFilter(stops)
    results = [stop_filter.feed(part) for part in parts]
    shown = "".join(result.text for result in results) + stop_filter.flush()
    return shown, results[-1].matched if results else None


@given(stops=STOPS, parts=PARTS)
def test_chunked_stop_search_equals_search_of_the_whole_text(stops: list[str], parts: list[str]) -> None:
    assert run(stops, parts) == naive("".join(parts), stops)


@given(stops=STOPS, parts=PARTS)
def test_only_a_possible_stop_string_prefix_is_held_back(stops: list[str], parts: list[str]) -> None:
    stop_filter = StopFilter(stops)
    seen = shown = ""
    for part in parts:
        result = stop_filter.feed(part)
        seen, shown = seen + part, shown + result.text
        if result.matched is not None:
            return
        held = len(seen) - len(shown)
        fitting = [n for stop in stops for n in range(len(stop)) if seen.endswith(stop[:n])]
        assert held == max(fitting, default=0)


def test_a_stop_string_across_parts_is_found_and_what_precedes_it_kept() -> None:
    stop_filter = StopFilter(["</s>"])
    assert stop_filter.feed("Hi <") == StopResult(text="Hi ", matched=None)
    assert stop_filter.feed("/s") == StopResult(text="", matched=None)
    assert stop_filter.feed("> more") == StopResult(text="", matched="</s>")
    assert stop_filter.feed("later") == StopResult(text="", matched="</s>")
    assert stop_filter.flush() == ""


def test_the_stop_string_that_is_complete_first_wins() -> None:
    assert run(["abcd", "bc"], ["abcd"]) == ("a", "bc")
    assert run(["bc", "abc"], ["xabc"]) == ("x", "abc")


def test_partial_stop_string_is_emitted_at_the_end() -> None:
    stop_filter = StopFilter(["STOP"])
    assert stop_filter.feed("end ST") == StopResult(text="end ", matched=None)
    assert stop_filter.flush() == "ST"
    assert stop_filter.flush() == ""


def test_without_stop_strings_text_passes_at_once() -> None:
    assert StopFilter([]).feed("text") == StopResult(text="text", matched=None)


@given(stops=st.lists(st.text(" ab", min_size=1, max_size=3), max_size=4), parts=st.lists(st.text(" ab", max_size=4)))
def test_no_stop_string_begins_in_the_hidden_lead(stops: list[str], parts: list[str]) -> None:
    stop_filter = StopFilter(stops, hidden_lead=" ")
    shown = "".join(stop_filter.feed(part).text for part in parts) + stop_filter.flush()
    text = "".join(parts)
    lead = text[: len(text) - len(text.removeprefix(" "))]
    assert shown == lead + naive(text.removeprefix(" "), stops)[0]


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(InvalidRequest) as refusal:
        StopFilter(["a", ""])
    assert refusal.value.param == "stop"
