"""The tokenizer in a GGUF file gives the ids of the SentencePiece model that it was made from."""

from pathlib import Path
from typing import Any

import gguf
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor

from corral.core.errors import CheckpointRefused
from corral.text.load import load_tokenizer
from corral.text.tokenizer import Tokenizer
from tests.documents import from_sentencepiece
from tests.oracle.gguf_llama import finish, vocabulary_metadata, write_metadata
from tests.vocabulary import PIECES, WORD_BORDER

LLAMA2_MODEL = Path(__file__).parents[4] / "shared" / "data" / "llama2-tokenizer.model"
TRICKY = st.sampled_from(
    [
        "<s>",
        "</s>",
        "<unk>",
        "<0x0A>",
        "[INST]",
        " ",
        "  ",
        "\n",
        WORD_BORDER,
        "\u00e9",
        "\U0001f469\u200d\U0001f680",
        "\0",
    ]
)
TEXT = st.lists(TRICKY | st.text(max_size=8) | st.text("abcde nt", max_size=12)).map("".join)


def write_vocabulary(path: Path, metadata: dict[str, object]) -> Path:
    """A GGUF file with a tokenizer and nothing else."""
    writer = gguf.GGUFWriter(path, "llama")
    write_metadata(writer, metadata)
    finish(writer)
    return path


@pytest.fixture(scope="session")
def original() -> SentencePieceProcessor:
    """The real model, as SentencePiece reads it."""
    if not LLAMA2_MODEL.is_file():
        pytest.skip("needs ../shared/data/llama2-tokenizer.model, which is not part of the repository")
    processor = SentencePieceProcessor()
    processor.LoadFromSerializedProto(LLAMA2_MODEL.read_bytes())
    return processor


@pytest.fixture(scope="session")
def from_gguf(original: SentencePieceProcessor, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """The same, by way of the metadata that llama.cpp's converter makes of it."""
    ids = range(original.GetPieceSize())
    kinds = [
        2 if original.IsUnknown(n) else 3 if original.IsControl(n) else 6 if original.IsByte(n) else 1 for n in ids
    ]
    pieces, scores = [original.IdToPiece(n) for n in ids], [original.GetScore(n) for n in ids]
    path = tmp_path_factory.mktemp("vocabulary") / "llama2.gguf"
    return load_tokenizer(write_vocabulary(path, vocabulary_metadata(pieces, scores, kinds)))


@given(text=TEXT)
@example(text=" leading")
@example(text="trailing ")
@example(text="")
@example(text="[INST] <<SYS>>\nYou are a helpful assistant.\n<</SYS>>\n\nHow's the weather? [/INST]")
def test_ids_are_those_of_the_original_model(original: SentencePieceProcessor, from_gguf: Tokenizer, text: str) -> None:
    assert from_gguf.encode(text) == original.EncodeAsIds(text)


def test_pieces_and_control_ids_are_those_of_the_original_file(
    original: SentencePieceProcessor, from_gguf: Tokenizer
) -> None:
    file = from_sentencepiece(LLAMA2_MODEL.read_bytes())
    assert (from_gguf.vocab_size, from_gguf.bos_token_id, from_gguf.end_ids) == (original.GetPieceSize(), 1, {2})
    assert [from_gguf.piece_bytes(n) for n in range(32_001)] == [file.piece_bytes(n) for n in range(32_001)]


def test_a_better_score_is_merged_first(tmp_path: Path) -> None:
    pieces = [*PIECES[:259], *WORD_BORDER, *"abc", "ab", "bc"]
    for scores, expected in (([-1.0, -2.0], ["ab", "c"]), ([-2.0, -1.0], ["a", "bc"])):
        metadata = vocabulary_metadata(pieces, [0.0] * (len(pieces) - 2) + scores)
        ids = load_tokenizer(write_vocabulary(tmp_path / "tiny.gguf", metadata)).encode("abc")
        assert [pieces[n] for n in ids] == [WORD_BORDER, *expected]


def test_pieces_of_padding_are_never_found_in_text(tmp_path: Path) -> None:
    unused = vocabulary_metadata([*PIECES, "[PAD]"], kinds=[2, 3, 3, *[6] * 256, *[1] * (len(PIECES) - 259), 5])
    tokenizer = load_tokenizer(write_vocabulary(tmp_path / "tiny.gguf", unused))
    assert len(PIECES) not in tokenizer.encode("[PAD]")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"model": "bert"},
            'tokenizer.ggml.model is "bert"; only "llama" (SentencePiece) and "gpt2" (byte-level) are read',
        ),
        ({"model": None}, "tokenizer.ggml.model is missing"),
        ({"model": ["llama"]}, 'tokenizer.ggml.model is ["llama"]'),
        ({"add_space_prefix": False}, "tokenizer.ggml.add_space_prefix is false; only true is supported"),
        ({"remove_extra_whitespaces": True}, "tokenizer.ggml.remove_extra_whitespaces is true"),
        ({"precompiled_charsmap": [1, 2]}, "tokenizer.ggml.precompiled_charsmap would change characters"),
        ({"tokens": None}, "tokenizer.ggml.tokens is no list"),
        ({"tokens": "text"}, "tokenizer.ggml.tokens is no list"),
        ({"tokens": [*PIECES[:-1], "a\0"]}, "tokenizer.ggml.tokens holds a piece with a zero byte"),
        ({"tokens": [*PIECES[:-1], PIECES[-2]]}, "no SentencePiece model"),
        ({"tokens": [*PIECES[:-1], ""]}, "no SentencePiece model"),
        ({"tokens": PIECES[:100]}, "tokenizer.ggml.token_type is no array of 100 numbers"),
        ({"scores": None}, "tokenizer.ggml.scores is no array"),
        ({"scores": [1] * len(PIECES)}, "tokenizer.ggml.scores is no array"),
        ({"scores": [float("nan")] * len(PIECES)}, "tokenizer.ggml.scores holds a value that is not finite"),
        ({"scores": ["a"] * len(PIECES)}, "tokenizer.ggml.scores is no array"),
        ({"token_type": None}, "tokenizer.ggml.token_type is no array"),
        ({"token_type": [1.0] * len(PIECES)}, "tokenizer.ggml.token_type is no array"),
        ({"token_type": [7] * len(PIECES)}, "tokenizer.ggml.token_type holds a value outside [1, 6]"),
        ({"token_type": [2, 1, 3, *[6] * 256, *[1] * (len(PIECES) - 259)]}, "tokenizer.ggml.bos_token_id is 1"),
        ({"token_type": [2, 3, 3, *[1] * (len(PIECES) - 3)]}, "no SentencePiece model"),
        ({"eos_token_id": 300}, 'tokenizer.ggml.eos_token_id is 300, but "J" is an ordinary piece'),
        ({"eos_token_id": 10**6}, "tokenizer.ggml.eos_token_id is 1000000"),
        ({"eos_token_id": "2"}, 'tokenizer.ggml.eos_token_id is "2"'),
    ],
)
def test_a_foreign_tokenizer_is_refused_by_key_and_value(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    changed = {f"tokenizer.ggml.{key}": value for key, value in change.items()}
    path = write_vocabulary(tmp_path / "tiny.gguf", vocabulary_metadata(list(PIECES)) | changed)
    with pytest.raises(CheckpointRefused, match=r"^tiny\.gguf") as refused:
        load_tokenizer(path)
    assert said in str(refused.value)
