"""SentencePiece vocabularies of other families than Llama 2: more control tokens, more pieces, BOS or none."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.checkpoints.gguf import GgufFile
from corral.checkpoints.gguf_vocabulary import gguf_vocabulary
from corral.core.errors import CheckpointRefused
from corral.text.load import load_tokenizer
from corral.text.tokenizer import Tokenizer
from tests.documents import from_json
from tests.oracle.gguf_llama import GgufLlama, vocabulary_metadata
from tests.vocabulary import PIECES, WORD_BORDER

MISTRAL = ("[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[control_9]")
"""Control pieces after the first three, as Mistral's third version has them."""
INFILL = (f"{WORD_BORDER}<P", f"{WORD_BORDER}<PRE", f"{WORD_BORDER}<PRE>", "<P", "PR", "RE", "PRE", "E>")
"""Pieces that merge to a token for filling in, as CodeLlama's model has them."""
USER_DEFINED = "<think>"


def write_model(directory: Path, metadata: dict[str, object]) -> Path:
    """A directory with the ``tokenizer.model`` of a vocabulary in GGUF's terms."""
    directory.mkdir(exist_ok=True)
    changes = {key.replace(".", "__"): value for key, value in metadata.items()}
    path = GgufLlama(vocab=len(PIECES) + 100).write_gguf(directory / "source.gguf", **changes)
    with GgufFile(path) as file:
        (directory / "tokenizer.model").write_bytes(gguf_vocabulary(file).content)
    path.unlink()
    return directory


def with_pieces(after_control: tuple[str, ...] = (), at_end: tuple[str, ...] = (), kind: int = 1) -> dict[str, object]:
    """Metadata of ``PIECES`` with control pieces after the first three, and others of a kind at the end."""
    pieces = [*PIECES[:3], *after_control, *PIECES[3:], *at_end]
    plain = len(PIECES) - 259
    kinds = [2, 3, 3, *[3] * len(after_control), *[6] * 256, *[1] * plain, *[kind] * len(at_end)]
    scores = [0.0] * (259 + len(after_control)) + [-float(rank) for rank in range(plain + len(at_end))]
    return vocabulary_metadata(pieces, scores, kinds)


@pytest.fixture(scope="module")
def mistral(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return load_tokenizer(write_model(tmp_path_factory.mktemp("mistral"), with_pieces(MISTRAL)))


@given(text=st.lists(st.sampled_from([*MISTRAL, "<s>", "</s>", " ", "a"]) | st.text(max_size=5)).map("".join))
def test_control_pieces_of_mistral_are_never_text(mistral: Tokenizer, text: str) -> None:
    assert list(mistral.control_ids) == ["<unk>", "<s>", "</s>", *MISTRAL]
    ids = mistral.encode(text)
    assert not set(mistral.control_ids.values()).intersection(ids)
    shown = b"".join(map(mistral.piece_bytes, ids)).decode()
    assert shown == (" " + text.replace(WORD_BORDER, " ") if text else "")


def test_control_pieces_stand_for_nothing(mistral: Tokenizer) -> None:
    assert [mistral.piece_bytes(n) for n in range(7)] == [b""] * 7
    assert mistral.piece_bytes(7 + 0x0A) == b"\n"
    assert (mistral.bos_token_id, mistral.end_ids) == (1, {2})


def test_infill_pieces_of_a_model_are_text(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(write_model(tmp_path, with_pieces(at_end=INFILL)))
    infill = len(PIECES) + INFILL.index(f"{WORD_BORDER}<PRE>")
    assert infill in tokenizer.encode("<PRE>")
    assert f"{WORD_BORDER}<PRE>" not in tokenizer.control_ids
    assert tokenizer.piece_bytes(infill) == b" <PRE>"


def test_user_defined_pieces_are_found_in_text_unless_they_look_like_control_tokens(tmp_path: Path) -> None:
    metadata = with_pieces(at_end=(USER_DEFINED, "<|im_end|>"), kind=4)
    tokenizer = load_tokenizer(write_model(tmp_path, metadata))
    think, end = len(PIECES), len(PIECES) + 1
    assert think in tokenizer.encode("a<think>b")
    assert end not in tokenizer.encode("a<|im_end|>b")
    assert tokenizer.control_ids["<|im_end|>"] == end


@pytest.mark.parametrize(
    ("config", "bos", "ends"),
    [
        (None, 1, {2}),
        ({"add_bos_token": True, "bos_token": "<s>", "eos_token": "</s>"}, 1, {2}),
        ({"add_bos_token": False}, None, {2}),
        ({"eos_token": {"content": "[/INST]"}}, 1, {4}),
        ({"bos_token": "[INST]"}, 3, {2}),
    ],
)
def test_bos_and_end_are_those_of_the_configuration(
    config: dict[str, Any] | None, bos: int | None, ends: set[int], tmp_path: Path
) -> None:
    write_model(tmp_path, with_pieces(MISTRAL))
    if config is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = load_tokenizer(tmp_path)
    assert (tokenizer.bos_token_id, tokenizer.end_ids) == (bos, ends)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"eos_token": "<|im_end|>"}, 'eos_token is "<|im_end|>", which is no control piece of tokenizer.model'),
        ({"bos_token": "a"}, 'bos_token is "a", which is no control piece of tokenizer.model'),
    ],
)
def test_a_declared_token_that_is_no_control_piece_is_refused(
    config: dict[str, Any], said: str, tmp_path: Path
) -> None:
    write_model(tmp_path, with_pieces())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointRefused, match=r"^tokenizer_config\.json") as refused:
        load_tokenizer(tmp_path)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("change", "bos", "ends"),
    [
        ({}, 1, {2}),
        ({"add_bos_token": False}, None, {2}),
        ({"bos_token_id": None, "eos_token_id": None}, 1, {2}),
        ({"eot_token_id": 4, "eom_token_id": 5}, 1, {2, 4, 5}),
        ({"add_bos_token": False, "bos_token_id": 300}, None, {2}),
    ],
)
def test_gguf_files_say_bos_and_end_tokens(
    change: dict[str, object], bos: int | None, ends: set[int], tmp_path: Path
) -> None:
    metadata = with_pieces(MISTRAL) | {f"tokenizer.ggml.{key}": value for key, value in change.items()}
    changes = {key.replace(".", "__"): value for key, value in metadata.items()}
    tokenizer = load_tokenizer(GgufLlama(vocab=len(PIECES) + 9).write_gguf(tmp_path / "tiny.gguf", **changes))
    assert (tokenizer.bos_token_id, tokenizer.end_ids) == (bos, ends)


@pytest.mark.parametrize(
    "rules",
    [
        {"pre_tokenizer": {"type": "Metaspace", "replacement": WORD_BORDER, "prepend_scheme": "first", "split": False}},
        {"pre_tokenizer": {"type": "Metaspace", "replacement": WORD_BORDER, "add_prefix_space": True, "split": False}},
        {
            "pre_tokenizer": {
                "type": "Metaspace", "replacement": WORD_BORDER, "prepend_scheme": "always", "split": False
            },
            "normalizer": {"type": "Sequence", "normalizers": []},
        },
    ],
    ids=["first", "older versions", "empty normalizer"],
)  # fmt: skip
def test_all_spellings_of_the_rules_give_the_same_ids(rules: dict[str, Any], tiny_document: dict[str, Any]) -> None:
    expected = from_json(tiny_document)
    changed = from_json(tiny_document | {"normalizer": None} | rules)
    for text in ("hello", " hello  hello", "", "  ", "</s>hello\n"):
        assert changed.encode(text) == expected.encode(text)


def test_an_infill_token_of_a_tokenizer_json_is_a_control_token(tiny_document: dict[str, Any]) -> None:
    model, plain = tiny_document["model"], from_json(tiny_document)
    infill = f"{WORD_BORDER}<PRE>"
    for piece in ("P", "R", "E", f"{WORD_BORDER}<", "PR", "PRE", "PRE>", infill):
        model["vocab"].setdefault(piece, len(model["vocab"]))
    model["merges"] += [["P", "R"], ["PR", "E"], ["PRE", ">"], [WORD_BORDER, "<"], [f"{WORD_BORDER}<", "PRE>"]]
    tiny_document["added_tokens"].append({"id": model["vocab"][infill], "content": infill, "special": True})
    tokenizer = from_json(tiny_document)
    assert tokenizer.control_ids[infill] == model["vocab"][infill]
    assert tokenizer.control_ids[infill] not in tokenizer.encode("<PRE>")
    assert b"".join(map(tokenizer.piece_bytes, tokenizer.encode("<PRE>"))) == b" <PRE>"
    assert plain.encode("hello") == tokenizer.encode("hello")
