"""Byte-level tokenizers encode text as the library's own full pipeline does, from both kinds of files."""

import json
import unicodedata
from pathlib import Path
from typing import Any

import gguf
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Original

from corral.checkpoints.tokenizers.byte_level import LETTERS
from corral.checkpoints.vocabulary import Declared
from corral.text.load import load_tokenizer
from corral.text.tokenizer import Tokenizer
from tests.byte_level_vocabulary import (
    CONTROL,
    PRE_TOKENIZERS,
    TEXT,
    byte_level_bytes,
    byte_level_config,
    byte_level_document,
    byte_level_metadata,
    pieces,
)
from tests.documents import from_json
from tests.hard_strings import hard_strings
from tests.oracle.gguf_llama import finish, write_metadata

FAMILIES = tuple(PRE_TOKENIZERS)


def write_gguf(path: Path, metadata: dict[str, object]) -> Path:
    """A GGUF file with a tokenizer and nothing else."""
    writer = gguf.GGUFWriter(path, "llama")
    write_metadata(writer, metadata)
    finish(writer)
    return path


def original(family: str) -> Original:
    """The library's reading of the published form. Control tokens, which it would find in text, are taken out."""
    document = byte_level_document(family)
    document["added_tokens"] = [token for token in document["added_tokens"] if not token["special"]]
    document["model"]["vocab"] |= {piece: pieces().index(piece) for piece in TEXT}
    document["post_processor"] = None
    return Original.from_str(json.dumps(document))


@pytest.mark.parametrize("family", FAMILIES)
def test_ids_of_hard_strings_are_the_librarys_own(family: str, tmp_path: Path) -> None:
    expected = original(family)
    from_file = from_json(byte_level_bytes(family))
    from_gguf = load_tokenizer(write_gguf(tmp_path / "tiny.gguf", byte_level_metadata(family)))
    for text in hard_strings():
        ids = expected.encode(text, add_special_tokens=False).ids
        assert from_file.encode(text) == ids, text
        assert from_gguf.encode(text) == ids, text


def test_families_split_text_differently() -> None:
    tokenizers = {family: from_json(byte_level_bytes(family)) for family in FAMILIES if family != "smaug-bpe"}
    ids = {family: tuple(map(tuple, map(tokenizer.encode, hard_strings()))) for family, tokenizer in tokenizers.items()}
    assert len(set(ids.values())) == len(ids)


@given(text=st.lists(st.sampled_from([*CONTROL, *TEXT, " ", "\0"]) | st.text(max_size=8)).map("".join))
def test_text_never_encodes_to_control_tokens_and_round_trips(byte_level: Tokenizer, text: str) -> None:
    ids = byte_level.encode(text)
    assert not set(byte_level.control_ids.values()).intersection(ids)
    shown = b"".join(map(byte_level.piece_bytes, ids)).decode()
    assert shown in (text, unicodedata.normalize("NFC", text))
    assert len(ids) * byte_level.longest_piece_chars >= len(text)


def test_a_word_that_is_a_piece_is_merged_whole_only_where_merges_are_ignored() -> None:
    document = byte_level_document("llama-bpe")
    document["model"]["vocab"]["zqzq"] = 5_000
    assert from_json(document).encode("zqzq") == [5_000]
    document["model"]["ignore_merges"] = False
    assert 5_000 not in from_json(document).encode("zqzq")


def test_a_control_token_in_the_vocabulary_is_no_word() -> None:
    document = byte_level_document("llama-bpe")
    document["model"]["vocab"]["zqzq"] = 5_000
    document["added_tokens"].append({"id": 5_000, "content": "zqzq", "special": True})
    tokenizer = from_json(document)
    assert 5_000 not in tokenizer.encode("zqzq")
    assert tokenizer.control_ids["zqzq"] == 5_000


def test_tokens_spelled_as_control_tokens_are_never_text() -> None:
    document = byte_level_document("qwen2")
    document["added_tokens"].append({"id": 5_000, "content": "<|fim_prefix|>", "special": False})
    tokenizer = from_json(document)
    assert 5_000 not in tokenizer.encode("<|fim_prefix|>")
    assert tokenizer.control_ids["<|fim_prefix|>"] == 5_000


def test_text_tokens_are_found_in_text_as_a_whole(byte_level: Tokenizer) -> None:
    think = pieces().index("<think>")
    assert byte_level.encode("a<think>b") == [*byte_level.encode("a"), think, *byte_level.encode("b")]
    assert byte_level.piece_bytes(think) == b"<think>"
    assert "<think>" not in byte_level.control_ids


def test_pieces_are_bytes_and_control_tokens_and_padding_stand_for_nothing(byte_level: Tokenizer) -> None:
    first = len(CONTROL)
    assert [byte_level.piece_bytes(first + byte) for byte in range(256)] == [bytes([byte]) for byte in range(256)]
    beyond = (0, 1, 2, 3, -1, byte_level.vocab_size, 10**9)
    assert [byte_level.piece_bytes(token_id) for token_id in beyond] == [b""] * len(beyond)
    assert (byte_level.adds_space, byte_level.encode("")) == (False, [])
    assert {piece: index for index, piece in enumerate(CONTROL)} == dict(byte_level.control_ids)


def test_padding_of_gguf_files_stands_for_nothing(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(write_gguf(tmp_path / "tiny.gguf", byte_level_metadata("qwen2")))
    padding = len(pieces())
    assert tokenizer.piece_bytes(padding) == b""
    assert padding not in tokenizer.encode("[PAD0]")
    assert "[PAD0]" not in tokenizer.control_ids


@pytest.mark.parametrize("family", ["smollm", "qwen2"])
def test_the_longest_piece_bounds_the_characters_of_a_token(family: str) -> None:
    tokenizer = from_json(byte_level_bytes(family))
    for text in (*hard_strings(), "\u03b1\u0313\u0300\u0345" * 50, "\u1100\u1161\u11a8" * 50):
        assert len(tokenizer.encode(text)) * tokenizer.longest_piece_chars >= len(text)


def test_nfc_joins_at_most_four_characters() -> None:
    decomposed = (unicodedata.normalize("NFD", chr(code)) for code in range(0x110000) if not 0xD800 <= code <= 0xDFFF)
    assert max(map(len, decomposed)) == 4


def test_characters_without_bytes_are_replaced() -> None:
    missing = {0x04, 0x1D, 0x7F, 0xC0, 0xF1, 0xFF}
    document = byte_level_document("smollm")
    for byte in missing:
        del document["model"]["vocab"][LETTERS[byte]]
    tokenizer, whole = from_json(document), from_json(byte_level_bytes("smollm"))
    text = "a\x04b\x7f \U00040000\U0007ffff c\x05\U0003ffff\U00080000"
    assert tokenizer.encode(text) == whole.encode("a\ufffdb\ufffd \ufffd\ufffd c\x05\U0003ffff\U00080000")


@pytest.mark.parametrize(
    ("family", "config", "expected"),
    [
        ("llama-bpe", None, 0),
        ("llama-bpe", {"add_bos_token": False}, None),
        ("llama-bpe", {"add_bos_token": True}, 0),
        ("llama-bpe", {"add_bos_token": None, "bos_token": "<|im_start|>"}, 0),
        ("llama-bpe", {"add_bos_token": True, "bos_token": "<|im_start|>"}, 1),
        ("qwen2", None, None),
        ("qwen2", {"bos_token": "<|im_start|>"}, None),
        ("qwen2", {"add_bos_token": True, "bos_token": "<|im_start|>"}, 1),
    ],
)
def test_bos_leads_only_where_the_vocabulary_wants_one(
    family: str, config: dict[str, Any] | None, expected: int | None, tmp_path: Path
) -> None:
    (tmp_path / "tokenizer.json").write_bytes(byte_level_bytes(family))
    if config is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert load_tokenizer(tmp_path).bos_token_id == expected


def test_end_tokens_are_those_of_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(byte_level_bytes("qwen2"))
    assert load_tokenizer(tmp_path).end_ids == frozenset()
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(byte_level_config()))
    assert load_tokenizer(tmp_path).end_ids == {2}


@pytest.mark.parametrize(
    ("family", "change", "bos", "ends"),
    [
        ("llama-bpe", {}, 0, {2}),
        ("llama-bpe", {"add_bos_token": False}, None, {2}),
        ("smaug-bpe", {}, None, {2}),
        ("smollm", {}, None, {2}),
        ("smollm", {"add_bos_token": True}, 0, {2}),
        ("qwen2", {"eot_token_id": 3, "eom_token_id": 4}, None, {2, 3, 4}),
        ("qwen2", {"eos_token_id": None}, None, frozenset()),
    ],
)
def test_gguf_files_say_bos_and_end_tokens(
    family: str, change: dict[str, object], bos: int | None, ends: frozenset[int], tmp_path: Path
) -> None:
    changed = {f"tokenizer.ggml.{key}": value for key, value in change.items()}
    tokenizer = load_tokenizer(write_gguf(tmp_path / "tiny.gguf", byte_level_metadata(family) | changed))
    assert (tokenizer.bos_token_id, tokenizer.end_ids) == (bos, ends)


def test_a_declared_end_token_that_is_not_marked_special_is_no_text() -> None:
    document = byte_level_document("qwen2")
    for token in document["added_tokens"]:
        token["special"] = False
    end = CONTROL.index("[INST]")
    plain = from_json(document)
    assert plain.encode("[INST]") == [end]
    declared = from_json(document, Declared(file="tokenizer_config.json", ends=("[INST]",)))
    assert end not in declared.encode("[INST]")
    assert declared.end_ids == {end}
