"""Byte-level vocabularies that would be encoded differently, or are damaged, are refused by field and value."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest

from corral.checkpoints.tokenizers.byte_level import LETTERS
from corral.core.errors import CheckpointRefused
from corral.text.load import load_tokenizer
from tests.byte_level_vocabulary import byte_level_document, byte_level_metadata, pieces
from tests.documents import from_json
from tests.oracle.gguf_llama import finish, write_metadata

QUADRATIC = r"(\s+)+$|\p{L}+"


def split_with(**changes: object) -> Callable[[dict[str, Any]], None]:
    """Change the Split step."""

    def change(document: dict[str, Any]) -> None:
        document["pre_tokenizer"]["pretokenizers"][0].update(changes)

    return change


def ending_with(**changes: object) -> Callable[[dict[str, Any]], None]:
    """Change the ByteLevel step."""

    def change(document: dict[str, Any]) -> None:
        document["pre_tokenizer"]["pretokenizers"][-1].update(changes)

    return change


def with_fields(**changes: object) -> Callable[[dict[str, Any]], None]:
    """Change fields of the document, or of its model."""

    def change(document: dict[str, Any]) -> None:
        for name, value in changes.items():
            target = document["model"] if name in document["model"] else document
            target[name] = value

    return change


def without_byte(document: dict[str, Any]) -> None:
    del document["model"]["vocab"][LETTERS[ord("e")]]
    document["model"]["merges"] = []


def template(*names: str) -> dict[str, Any]:
    """A template that puts tokens before a text."""
    parts = [{"SpecialToken": {"id": name, "type_id": 0}} for name in names]
    return {"type": "TemplateProcessing", "single": [*parts, {"Sequence": {"id": "A", "type_id": 0}}]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (split_with(pattern={"Regex": QUADRATIC}), 'pretokenizers[0].pattern is {"Regex": "(\\\\s+)+$|\\\\p{L}+"}'),
        (split_with(pattern={"Regex": QUADRATIC}), "only the patterns of these families are supported: llama-3, qwen2"),
        (split_with(pattern={"String": " "}), "pretokenizers[0].pattern is"),
        (split_with(pattern=None), "pretokenizers[0].pattern is null"),
        (split_with(pattern="x"), "an object is needed"),
        (split_with(behavior="Removed"), 'pretokenizers[0].behavior is "Removed"; only Isolated is supported'),
        (split_with(invert=True), "pretokenizers[0].invert is true; only false is supported here"),
        (split_with(type="Punctuation"), "only ByteLevel alone, or after one Digits or one Split step, is supported"),
        (split_with(type="Digits"), "pretokenizers[0].individual_digits is missing; only true is supported here"),
        (ending_with(add_prefix_space=True), "pretokenizers[1].add_prefix_space is true; only false is supported"),
        (ending_with(use_regex=True), "pretokenizers[1].use_regex is true; only false is supported here"),
        (with_fields(pre_tokenizer={"type": "ByteLevel"}), "pre_tokenizer.add_prefix_space is missing"),
        (with_fields(pre_tokenizer={"type": "Sequence", "pretokenizers": []}), 'type is "Sequence"; only Metaspace, '),
        (with_fields(pre_tokenizer={"type": "Sequence", "pretokenizers": 5}), "pretokenizers is 5; a list is needed"),
        (with_fields(normalizer={"type": "NFKC"}), 'normalizer.type is "NFKC"; only null and "NFC" are supported'),
        (with_fields(byte_fallback=True), "model.byte_fallback is true; with a ByteLevel step, only false"),
        (with_fields(continuing_subword_prefix="##"), 'model.continuing_subword_prefix is "##"'),
        (with_fields(dropout=0.5), "model.dropout is 0.5"),
        (with_fields(ignore_merges="yes"), 'model.ignore_merges is "yes"; only true and false are supported'),
        (with_fields(post_processor=template("[INST]", "<|im_start|>")), "only one token before a text is supported"),
        (with_fields(post_processor=template("<nowhere>")), 'bos_token is "<nowhere>", which the vocabulary does not'),
        (with_fields(post_processor=template("t")), 'bos_token is "t", which is an ordinary piece'),
        (with_fields(post_processor={"type": "RobertaProcessing"}), 'post_processor.type is "RobertaProcessing"'),
        (with_fields(added_tokens={}), "added_tokens is {}; a list is needed"),
        (with_fields(model=None), "model is null; an object is needed"),
        (without_byte, "model.vocab has no piece for the byte 0x65"),
    ],
)
def test_a_foreign_tokenizer_json_is_refused(change: Callable[[dict[str, Any]], None], said: str) -> None:
    document = byte_level_document("qwen2")
    change(document)
    with pytest.raises(CheckpointRefused, match=r"^tokenizer\.json") as refused:
        from_json(document)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"eos_token": "<nowhere>"}, 'eos_token is "<nowhere>", which the vocabulary does not have'),
        ({"eos_token": "t"}, 'eos_token is "t", which is an ordinary piece of the vocabulary, and text may become it'),
        ({"eos_token": 5}, "eos_token is 5; only a string is supported"),
        ({"eos_token": {"special": True}}, "eos_token.content is missing; a string is needed"),
        ({"add_bos_token": 1}, "add_bos_token is 1; only true and false are supported"),
        ({"add_bos_token": True}, "add_bos_token is true, but bos_token is missing"),
    ],
)
def test_declared_tokens_must_be_control_tokens(config: dict[str, object], said: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(byte_level_document("qwen2")))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointRefused, match=r"^tokenizer_config\.json") as refused:
        load_tokenizer(tmp_path)
    assert said in str(refused.value)


ORDINARY = pieces().index("t")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"pre": "deepseek-llm"},
            'tokenizer.ggml.pre is "deepseek-llm"; only gpt-2, llama-bpe, llama-v3, llama3, qwen2, ',
        ),
        ({"pre": None}, "tokenizer.ggml.pre is missing; only gpt-2"),
        ({"pre": 5}, "tokenizer.ggml.pre is 5; only a string is supported"),
        ({"merges": None}, "tokenizer.ggml.merges is no list of strings"),
        ({"merges": ["t"]}, 'model.merges[0] is "t", whose parts or result are no pieces'),
        ({"token_type": None}, "tokenizer.ggml.token_type is no array"),
        ({"tokens": [*pieces(), "t", "[PAD]"]}, 'tokenizer.ggml.tokens has the piece "t" twice'),
        ({"tokens": ["", *pieces()[1:], "[PAD0]", "[PAD1]"]}, 'content is ""; it must not be empty'),
        ({"add_space_prefix": True}, "tokenizer.ggml.add_space_prefix is true; only false is supported"),
        ({"add_bos_token": "yes"}, 'tokenizer.ggml.add_bos_token is "yes"; only true and false are supported'),
        ({"bos_token_id": None, "add_bos_token": True}, "tokenizer.ggml.bos_token_id is missing, but add_bos_token"),
        ({"bos_token_id": 10**6, "add_bos_token": True}, "tokenizer.ggml.bos_token_id is 1000000; the vocabulary has"),
        ({"eos_token_id": ORDINARY}, f'tokenizer.ggml.eos_token_id is {ORDINARY}, but "t" is an ordinary piece'),
        ({"eot_token_id": ORDINARY}, f"tokenizer.ggml.eot_token_id is {ORDINARY}"),
        ({"eom_token_id": 10**6}, "tokenizer.ggml.eom_token_id is 1000000"),
        ({"eos_token_id": True}, "tokenizer.ggml.eos_token_id is true"),
    ],
)
def test_a_foreign_gguf_vocabulary_is_refused(change: dict[str, object], said: str, tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "tiny.gguf", "llama")
    changed = {f"tokenizer.ggml.{key}": value for key, value in change.items()}
    write_metadata(writer, byte_level_metadata("qwen2") | changed)
    finish(writer)
    with pytest.raises(CheckpointRefused, match=r"^tiny\.gguf") as refused:
        load_tokenizer(tmp_path / "tiny.gguf")
    assert said in str(refused.value)


def test_too_many_tokens_that_text_becomes_are_refused() -> None:
    document = byte_level_document("qwen2")
    long = [{"id": 1_000 + n, "content": f"{n:05}" * 60, "special": False} for n in range(1_000)]
    document["added_tokens"] += long
    with pytest.raises(CheckpointRefused, match="added_tokens has 3000"):
        from_json(document)
