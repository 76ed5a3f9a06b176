"""Patterns: what is taken, how it is spelled, what is refused."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.core.errors import InvalidRequest
from corral.engines.patterns import read_pattern


def test_a_pattern_may_be_as_long_as_the_stack_is_not_deep() -> None:
    assert read_pattern("a" * 16_000).text == "a" * 16_000
    assert read_pattern("a" * 3000 + "b|" + "a" * 3000 + "c").text == "a" * 3000 + "(b|c)"


@pytest.mark.parametrize(
    ("source", "plain"),
    [
        ("^abc$", "abc"),
        (r"a\$", r"a\$"),
        (r"\d{3}-\d{2,}", r"[0-9]{3,3}\-[0-9]{2,}"),
        ("(?:a+?)*", "(a+)*"),
        ("cat|car|dog", "(ca(t|r)|dog)"),
        ("a|ab", "a(b)?"),
        (r"[\]a-c\-]", r"[\-\]a-c]"),
        (r"\x41\u0042", "AB"),
    ],
)
def test_a_pattern_is_spelled_plainly(source: str, plain: str) -> None:
    assert read_pattern(source).text == plain


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("", "empty"),
        ("(a", "lacks"),
        ("a)", "too many"),
        ("[a", "ends too early"),
        ("a\\", "ends too early"),
        ("*a", "repeats nothing"),
        ("a{2,1}", "repetition"),
        ("a{b}", "repetition"),
        ("a{1000000000000}", "repetition"),
        ("[z-a]", "range"),
        ("(?=a)b", "group"),
        ("(?P<n>a)", "group"),
        (r"(a)\1", "not offered"),
        (r"\bfoo\b", "not offered"),
        (r"\p{L}", "not offered"),
        ("a^b", "middle"),
        ("a\x00b", "cannot stand there"),
        ("[^\\x00-\\uffff\U00010000-\U0010ffff]", "cannot stand there"),
        ("a|", "empty"),
        ("()", "empty"),
        ("a{514}", "writes out"),
        ("((a{10}){10}){10}", "writes out"),
        ("(" * 40 + "a" + ")" * 40, "deeper"),
    ],
)
def test_unsupported_pattern_is_rejected_with_the_reason(source: str, why: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(why)) as refused:
        read_pattern(source)
    assert refused.value.param == "response_format"


@pytest.mark.parametrize("source", [".", r"\S", r"\W", "[^a]", "[ -~]", r"[\x00-\uffff]"])
def test_no_class_within_a_json_string_has_a_character_that_json_escapes(source: str) -> None:
    plain = re.compile(read_pattern(source, in_json=True).text)
    assert plain.fullmatch("x" if source != r"\W" else "-")
    assert not any(plain.fullmatch(character) for character in ('"', "\\", "\n", "\x00", "\x1f"))


ATOMS = st.sampled_from(["a", "b", "[ab]", "[^a]", ".", r"\d", r"\.", "ab"])
PATTERNS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.lists(inner, min_size=2, max_size=4).map(lambda options: f"({'|'.join(options)})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}"])).map(lambda pair: f"({pair[0]}){pair[1]}"),
    ),
    max_leaves=6,
)


@given(PATTERNS, st.lists(st.text("ab.0é", max_size=6), max_size=20))
def test_the_plain_spelling_matches_the_same_texts(source: str, texts: list[str]) -> None:
    plain = read_pattern(source).text
    for text in texts:
        assert bool(re.fullmatch(plain, text)) is bool(re.fullmatch(source, text, re.ASCII)), plain
