"""JSON as callers send it: numbers of any size, names twice, other encodings; and how long reading takes."""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from corral.api.json_document import MAX_CONTAINERS, MAX_DEPTH, NotJson, parse_json

LARGEST = 1.7976931348623157e308


def test_integers_of_64_bits_are_exact_and_others_are_rounded_away_from_zero() -> None:
    exact = [0, -1, 2**53 + 1, 2**63 - 1, 2**64 - 1, -(2**63)]
    assert parse_json(json.dumps(exact).encode()) == exact
    over: Any = parse_json(
        f"[{2**64}, {2**64 + 1}, {-(2**63) - 1}, {10**29 + 1}, 1{'0' * 400}, -{'9' * 5000}]".encode()
    )
    assert over[0] == 2**64
    assert over[1] > 2**64
    assert over[2] < -(2**63)
    assert over[3:] == [pytest.approx(1e29), LARGEST, -LARGEST]


def test_numbers_beyond_a_double_are_the_largest_double() -> None:
    body = b'{"a": 1e400, "b": [-1E+999], "c": 1e-400, "d": "1e400 and 18446744073709551617"}'
    assert parse_json(body) == {"a": LARGEST, "b": [-LARGEST], "c": 0.0, "d": "1e400 and 18446744073709551617"}


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        (b'{"temperature": NaN}', "temperature", "'temperature' is NaN"),
        (b'{"input": {"a": [1, -Infinity]}}', "input.a[1]", "'input.a[1]' is -Infinity"),
        (b'{"a": 1, "b": {"seed": 1, "seed": 2}}', "seed", "'seed' occurs twice"),
        (b'{"a": 1, "\\u0061": 1}', "a", "'a' occurs twice"),
        (b'{"a": "\xff"}', None, "not UTF-8: byte 0xff at offset 7"),
        (b'{"a": "\xed\xa0\x80"}', None, "not UTF-8: byte 0xed"),
        ('{"a": 1}'.encode("utf-16"), None, "not UTF-8: byte 0xff at offset 0"),
        (b'{"a": "\\ud800"}', None, "surrogate"),
        (b'{"a": "\x00"}', None, "control character"),
        (b"[00000000000000000000000001]", None, "leading zero"),
        (b"01e400", None, "leading zero"),
        (b"1e400 1", None, "unexpected content"),
        (b'{"NaN": NaN, "b": ', None, "not valid JSON"),
        (b"[" * 255 + b"]" * 255, None, f"more than {MAX_DEPTH} levels"),
        (b"[" * 100_000, None, "objects and lists"),
        (b"", None, "not valid JSON"),
        (b"[" + b"[]," * MAX_CONTAINERS + b"[]]", None, f"more than {MAX_CONTAINERS} objects and lists"),
        (b'{"a": "\\u0022:", "a": 1}', "a", "'a' occurs twice"),
        (b'{"a" \t: "\\" :", "a":1}', "a", "'a' occurs twice"),
    ],
)
def test_invalid_json_is_rejected_with_its_position(body: bytes, param: str | None, words: str) -> None:
    with pytest.raises(NotJson) as caught:
        parse_json(body)
    assert words in str(caught.value)
    assert caught.value.param == param


def test_brackets_and_colons_inside_strings_are_ignored() -> None:
    for text in ("[{" * MAX_CONTAINERS, '"a":1,"a" :2', "\\u0022:", '\\" :' * 9, '\u2028": ": "\t:'):
        for escaped in (True, False):
            document = {"a": text, 'b": ': {"a": 1}}
            assert parse_json(json.dumps(document, ensure_ascii=escaped).encode()) == document


def test_a_byte_order_mark_before_the_document_is_skipped() -> None:
    assert parse_json(b'\xef\xbb\xbf{"a": "\xef\xbb\xbfb"}') == {"a": "\ufeffb"}
    assert parse_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)


GROWING: dict[str, Callable[[int], bytes]] = {
    "objects": lambda size: b"[" + b"{}," * (size // 3) + b"{}]",
    "names": lambda size: json.dumps({f"k{n}": n for n in range(size // 12)}).encode(),
    "wide numbers": lambda size: b"[" + b"1e400," * (size // 6) + b"1]",
    "one wide number": lambda size: b"1" * size,
    "quotes": lambda size: b'1e400"' + b'"' * size,
    "backslashes": lambda size: b'1e400"' + b"\\" * size,
    "letters": lambda size: b'["1e400' + b"a" * size + b'"]',
    "nan": lambda size: b"[" + b"NaN," * (size // 4) + b"1]",
    "open objects": lambda size: b'{"a":' * (size // 5),
}


@pytest.mark.parametrize("kind", GROWING)
def test_reading_takes_time_in_proportion_to_the_body(kind: str) -> None:
    def took_s(size: int) -> float:
        body = GROWING[kind](size)
        best_s = float("inf")
        for _ in range(3):
            began_s = time.process_time()
            with suppress(NotJson):  # what matters is how long it took
                parse_json(body)
            best_s = min(best_s, time.process_time() - began_s)
        return best_s

    size = 2**15
    assert took_s(4 * size) < 6.25 * took_s(size) + 0.01
