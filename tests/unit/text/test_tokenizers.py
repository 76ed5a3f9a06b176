"""Both tokenizer files give the same ids, never control tokens, and foreign ones are refused by name."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from corral.checkpoints.tokenizers.byte_fallback import WORD_BORDER
from corral.core.errors import CheckpointRefused
from corral.text.load import load_tokenizer
from corral.text.tokenizer import Tokenizer
from tests.documents import from_json, from_sentencepiece

TRICKY = st.sampled_from(
    ["<s>", "</s>", "<unk>", "<0x0A>", "[INST]", " ", "  ", "\n", WORD_BORDER, "é", "👩‍🚀", "\x00"]
)
TEXT = st.lists(TRICKY | st.text(max_size=8) | st.text("abcde nt", max_size=12)).map("".join)


@given(text=TEXT)
@example(text=" leading")
@example(text="trailing ")
@example(text="")
def test_both_files_of_a_tokenizer_give_the_same_ids(llama2: Tokenizer, llama2_from_json: Tokenizer, text: str) -> None:
    assert llama2_from_json.encode(text) == llama2.encode(text)


def test_both_files_of_a_tokenizer_give_the_same_bytes_and_control_ids(
    llama2: Tokenizer, llama2_from_json: Tokenizer
) -> None:
    assert llama2.vocab_size == llama2_from_json.vocab_size == 32_000
    assert (llama2.bos_token_id, llama2.end_ids) == (1, {2})
    assert (llama2_from_json.bos_token_id, llama2_from_json.end_ids) == (1, {2})
    ids = range(llama2.vocab_size)
    assert [llama2.piece_bytes(i) for i in ids] == [llama2_from_json.piece_bytes(i) for i in ids]


@given(text=TEXT)
def test_text_never_encodes_to_control_tokens_and_round_trips(any_tokenizer: Tokenizer, text: str) -> None:
    ids = any_tokenizer.encode(text)
    assert not {0, 1, 2}.intersection(ids)
    shown = b"".join(map(any_tokenizer.piece_bytes, ids)).decode()
    assert shown == (" " + text.replace(WORD_BORDER, " ") if text else "")


def test_control_tokens_and_padding_ids_stand_for_nothing(any_tokenizer: Tokenizer) -> None:
    assert [any_tokenizer.piece_bytes(i) for i in (0, 1, 2, 32_000, -1)] == [b""] * 5
    assert any_tokenizer.piece_bytes(3 + 0xF0) == b"\xf0"


def test_special_added_tokens_are_not_found_in_text(tiny_document: dict[str, Any]) -> None:
    plain = from_json(tiny_document)
    added = plain.vocab_size
    tiny_document["added_tokens"] += [
        {"id": added, "content": "<pad>", "special": True},
        {"id": added + 1, "content": "<|im_end|>", "special": False},
    ]
    tokenizer = from_json(tiny_document)
    text = "<pad></s><|im_end|>"
    assert tokenizer.encode(text) == plain.encode(text)
    assert tokenizer.vocab_size == added + 2
    assert [tokenizer.piece_bytes(added), tokenizer.piece_bytes(added + 1)] == [b"", b""]
    assert {"<pad>": added, "<|im_end|>": added + 1}.items() <= tokenizer.control_ids.items()


def test_added_tokens_that_are_not_special_are_found_in_text(tiny_document: dict[str, Any]) -> None:
    plain = from_json(tiny_document)
    added = plain.vocab_size
    tiny_document["added_tokens"] += [
        {"id": added, "content": "[TOOL]", "special": False},
        {"id": added + 1, "content": "[A B]", "special": False},
    ]
    tokenizer = from_json(tiny_document)
    [hello] = plain.encode("hello")
    text = "hello[TOOL] hello[A B]"
    assert tokenizer.encode(text) == [hello, added, hello, added + 1]
    assert b"".join(map(tokenizer.piece_bytes, tokenizer.encode(text))) == f" {text}".encode()
    assert not {"[TOOL]", "[A B]"}.intersection(tokenizer.control_ids)


def test_the_metaspace_spelling_gives_the_ids_of_the_normalizer_spelling(tiny_document: dict[str, Any]) -> None:
    expected = from_json(tiny_document)
    tiny_document["normalizer"] = None
    tiny_document["pre_tokenizer"] = {
        "type": "Metaspace",
        "replacement": WORD_BORDER,
        "prepend_scheme": "first",
        "split": False,
    }
    tokenizer = from_json(tiny_document)
    for text in ("hello", " hello hello", "", "  "):
        assert tokenizer.encode(text) == expected.encode(text)


def test_merges_may_be_strings_or_pairs(tiny_document: dict[str, Any]) -> None:
    pairs = from_json(tiny_document)
    tiny_document["model"]["merges"] = [" ".join(pair) for pair in tiny_document["model"]["merges"]]
    assert from_json(tiny_document).encode("hello </s>") == pairs.encode("hello </s>")


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("model.type", "WordPiece", 'model.type is "WordPiece"'),
        ("pre_tokenizer", {"type": "Whitespace"}, 'pre_tokenizer.type is "Whitespace"'),
        ("pre_tokenizer", {"type": "Metaspace", "split": True}, "pre_tokenizer.replacement is missing"),
        ("normalizer", {"type": "NFKC"}, 'normalizer is {"type": "NFKC"}'),
        ("normalizer", None, "normalizer is null"),
        ("model.byte_fallback", False, "model.byte_fallback is false"),
        ("model.ignore_merges", True, "model.ignore_merges is true"),
        ("model.dropout", 0.1, "model.dropout is 0.1"),
        ("model.merges", [["h", "x"]], "model.merges[0]"),
        ("model.merges", "h e", 'model.merges is "h e"; a list is needed'),
        ("model.merges", [["h", "e", "l"]], "model.merges[0]"),
        ("model.vocab", {"<s>": 1, "</s>": 2}, "model.vocab has no piece <0x00>"),
        ("model.vocab", {"<s>": 1, "</s>": 1}, 'added_tokens[2].id is 2; "</s>" has the id 1 already'),
        ("model.vocab", {"a": 5, "b": 5}, "one id to two pieces"),
        ("model.vocab", {"a": -1}, "ids in [0, 1000000)"),
        ("model.vocab", {"a": 10**12}, "ids in [0, 1000000)"),
        ("model.vocab", {"a": "b"}, 'model.vocab gives "a" the id "b"'),
        ("model.vocab", {"a": True}, 'model.vocab gives "a" the id true'),
        ("model.vocab", {"\ud800": 5}, "model.vocab has a piece that is not valid Unicode"),
        ("added_tokens", [{"id": 7, "content": ""}], 'added_tokens[0].content is ""; it must not be empty'),
        ("added_tokens", [{"content": "a"}], "added_tokens[0].id is missing"),
        ("added_tokens", ["a"], 'added_tokens[0] is "a"; an object is needed'),
        ("added_tokens", [{"id": 900, "content": "a b", "rstrip": True}], "added_tokens[0].rstrip is true"),
        ("post_processor", {"type": "BertProcessing"}, 'post_processor.type is "BertProcessing"'),
    ],
)
def test_unsupported_tokenizer_json_is_rejected_by_field_and_value(
    tiny_document: dict[str, Any], path: str, value: object, named: str
) -> None:
    *parents, last = path.split(".")
    target = tiny_document
    for name in parents:
        target = target[name]
    target[last] = value
    if path == "model.vocab":
        tiny_document["model"]["merges"] = []
    with pytest.raises(CheckpointRefused) as refusal:
        from_json(tiny_document)
    assert named in str(refusal.value)


def test_merges_that_would_make_a_control_token_out_of_text_are_left_out(tiny_document: dict[str, Any]) -> None:
    model = tiny_document["model"]
    model["vocab"]["</s"] = len(model["vocab"])
    model["merges"] += [["</", "s"], ["</s", ">"]]
    ids = from_json(tiny_document).encode("</s>")
    assert ids == [model["vocab"][piece] for piece in (WORD_BORDER, "</s", ">")]


def test_a_merge_that_would_make_a_byte_out_of_text_is_refused(tiny_document: dict[str, Any]) -> None:
    model = tiny_document["model"]
    model["vocab"] |= {"<0x0": 900, "A>": 901}
    model["merges"] += [["<0x0", "A>"]]
    with pytest.raises(CheckpointRefused, match="so that text would become a byte"):
        from_json(tiny_document)


@pytest.mark.parametrize("piece", ["<s>", "</s>"])
def test_a_tokenizer_without_begin_or_end_is_refused(tiny_document: dict[str, Any], piece: str) -> None:
    tiny_document["added_tokens"] = []
    del tiny_document["model"]["vocab"][piece]
    with pytest.raises(CheckpointRefused, match=piece):
        from_json(tiny_document)


@pytest.mark.parametrize("document", [b"", b"{", b"[]", b'{"model": 1}', b'{"a":' * 100_000])
def test_a_damaged_tokenizer_json_is_refused(document: bytes) -> None:
    with pytest.raises(CheckpointRefused, match=r"tokenizer\.json"):
        from_json(document)


@pytest.mark.parametrize("keep", [0, 1_000, 499_000])
def test_a_damaged_tokenizer_model_is_refused(llama2_bytes: bytes, keep: int) -> None:
    with pytest.raises(CheckpointRefused, match=r"tokenizer\.model"):
        from_sentencepiece(llama2_bytes[:keep])


def test_the_json_file_is_preferred(tmp_path: Path, tiny_document: dict[str, Any], llama2_bytes: bytes) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(tiny_document))
    (tmp_path / "tokenizer.model").write_bytes(llama2_bytes)
    assert load_tokenizer(tmp_path).vocab_size < 32_000


def test_the_model_file_serves_when_the_json_file_is_foreign(tmp_path: Path, llama2_bytes: bytes) -> None:
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "Unigram"}}')
    (tmp_path / "tokenizer.model").write_bytes(llama2_bytes)
    assert load_tokenizer(tmp_path).vocab_size == 32_000


def test_a_foreign_json_file_alone_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "Unigram"}}')
    with pytest.raises(CheckpointRefused, match="Unigram"):
        load_tokenizer(tmp_path)


def test_a_directory_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointRefused, match=r"neither tokenizer\.json nor tokenizer\.model"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("content", [b"[" + b"{}," * 2**20 + b"{}]", b"[" + b"0," * 2**22 + b"0,0]"])
def test_a_file_of_millions_of_values_is_refused_before_it_is_parsed(content: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointRefused, match="larger than any known"):
            from_json(content)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "tokenizer.json").open("wb") as sparse:
        sparse.truncate(64 * 1024 * 1024 + 1)
    with pytest.raises(CheckpointRefused, match="67108865 bytes"):
        load_tokenizer(tmp_path)
