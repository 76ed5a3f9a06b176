"""Incremental decoding gives the same text as decoding all ids at once."""

from hypothesis import given
from hypothesis import strategies as st

from corral.text.decode import IncrementalDecoder
from corral.text.tokenizer import Tokenizer

BYTE_IDS = st.integers(3, 258)
IDS = st.lists(st.integers(0, 31_999) | BYTE_IDS | st.integers(3 + 0xC0, 3 + 0xF4))
CUT = st.lists(IDS)


def whole(tokenizer: Tokenizer, ids: list[int]) -> str:
    return b"".join(map(tokenizer.piece_bytes, ids)).decode(errors="replace")


@given(parts=CUT)
def test_decoded_parts_join_to_the_whole_answer(any_tokenizer: Tokenizer, parts: list[list[int]]) -> None:
    decoder = IncrementalDecoder(any_tokenizer)
    text = "".join([*map(decoder.feed, parts), decoder.flush()])
    assert text == whole(any_tokenizer, [token_id for part in parts for token_id in part])


@given(text=st.text() | st.text("é👩‍🚀中a ", max_size=20))
def test_a_character_is_never_split(any_tokenizer: Tokenizer, text: str) -> None:
    decoder = IncrementalDecoder(any_tokenizer)
    ids = any_tokenizer.encode(text)
    parts = [decoder.feed([token_id]) for token_id in ids]
    assert decoder.flush() == ""
    assert "".join(parts) == whole(any_tokenizer, ids)
    assert all("\ufffd" not in part for part in parts) or "\ufffd" in text


def test_an_emoji_of_four_byte_tokens_comes_with_the_last(any_tokenizer: Tokenizer) -> None:
    decoder = IncrementalDecoder(any_tokenizer)
    assert [decoder.feed([3 + byte]) for byte in "🦙".encode()] == ["", "", "", "🦙"]


def test_a_character_cut_off_by_the_end_is_replaced(any_tokenizer: Tokenizer) -> None:
    decoder = IncrementalDecoder(any_tokenizer)
    assert decoder.feed([3 + 0xF0, 3 + 0x9F]) == ""
    assert decoder.flush() == "\ufffd"
    assert decoder.flush() == ""


def test_the_leading_space_of_an_answer_is_kept(either_llama2: Tokenizer) -> None:
    assert IncrementalDecoder(either_llama2).feed([15043, 29991, 2]) == " Hello!"
