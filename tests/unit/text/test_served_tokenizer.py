"""A tokenizer is served only with a model that has its tokens, and whose answers end at control tokens."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from corral.bootstrap import build
from corral.core.errors import CheckpointRefused
from corral.settings import load_settings
from corral.text.served_tokenizer import load_served_tokenizer
from tests.hub import PIECES
from tests.oracle.gguf_llama import GgufLlama
from tests.oracle.llama import TinyLlama
from tests.unit.text.conftest import document_of
from tests.vocabulary import PIECES as GGUF_PIECES

TINY = TinyLlama(vocab=len(PIECES))
LAST = len(PIECES) - 1


def write(
    tmp_path: Path, *, rows: int = len(PIECES), added: dict[int, str] | None = None, **files: dict[str, object]
) -> Path:
    """Write a checkpoint whose model has *rows* tokens; *added* are control tokens, and *files* change JSON files."""
    checkpoint = replace(TINY, vocab=rows).write(tmp_path / "tiny")
    document = document_of(PIECES, [])
    document["added_tokens"] += [
        {"id": token_id, "content": text, "special": True} for token_id, text in (added or {}).items()
    ]
    (checkpoint / "tokenizer.json").write_text(json.dumps(document))
    for name, changes in files.items():
        path = checkpoint / f"{name}.json"
        values = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**values, **changes}))
    return checkpoint


def refusal(checkpoint: Path) -> str:
    """The message, which is the same at the start of a server."""
    with pytest.raises(CheckpointRefused) as refused:
        load_served_tokenizer(checkpoint)
    chosen = {"model": str(checkpoint), "data_dir": checkpoint.parent / "data", "api_key": "ck_of-the-test"}
    with pytest.raises(CheckpointRefused) as at_start:
        build(load_settings(chosen, {}), lambda _: None)
    assert str(at_start.value) == str(refused.value)
    return str(refused.value)


def test_a_piece_of_text_without_a_row_in_the_model_is_refused_with_both_sizes(tmp_path: Path) -> None:
    assert refusal(write(tmp_path, rows=LAST)) == (
        f"tokenizer.json has {LAST + 1} tokens, but the model in config.json has {LAST} (vocab_size), and none for "
        f'{LAST} (" "). Use the tokenizer that belongs to these weights.'
    )


@pytest.mark.parametrize("rows", [len(PIECES), len(PIECES) + 5])
def test_padding_of_the_tokenizer_or_of_the_model_is_served(rows: int, tmp_path: Path) -> None:
    served = load_served_tokenizer(write(tmp_path, rows=rows, added={LAST + 1: "<pad>"}))
    assert (served.file, served.end_ids, served.tokenizer.vocab_size) == (
        "tokenizer.json",
        {2: "config.json"},
        LAST + 2,
    )


def test_an_end_token_without_a_row_in_the_model_is_refused(tmp_path: Path) -> None:
    checkpoint = write(tmp_path, added={LAST + 1: "<|end|>"}, tokenizer_config={"eos_token": "<|end|>"})
    assert f"and none for {LAST + 1} (<|end|>)" in refusal(checkpoint)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"config": {"eos_token_id": 35}}, 'config.json: the end token 35 is " " in tokenizer.json'),
        ({"config": {"eos_token_id": [2, 100]}}, 'config.json: the end token 100 is "a" in tokenizer.json'),
        ({"generation_config": {"eos_token_id": [2, 100]}}, 'generation_config.json: the end token 100 is "a"'),
    ],
)
def test_an_end_token_that_is_ordinary_text_is_refused_with_file_and_id(
    files: dict[str, dict[str, object]], said: str, tmp_path: Path
) -> None:
    message = refusal(write(tmp_path, **files))
    assert message.startswith(said)
    assert message.endswith(
        "a piece of ordinary text. Correct the id to that of a control token; the tokenizer's own is 2 (</s>)."
    )


def test_answers_end_at_the_tokens_of_all_configuration_files(tmp_path: Path) -> None:
    checkpoint = write(
        tmp_path,
        rows=LAST + 2,
        added={LAST + 1: "<|end|>"},
        config={"eos_token_id": 2},
        generation_config={"eos_token_id": [2, LAST + 1]},
    )
    assert load_served_tokenizer(checkpoint).end_ids == {2: "config.json", LAST + 1: "generation_config.json"}
    chosen = {"model": str(checkpoint), "data_dir": tmp_path / "data", "api_key": "ck_of-the-test"}
    [deployment] = build(load_settings(chosen, {}), lambda _: None).deployments
    assert deployment.prompts.end_ids == {2, LAST + 1}


def test_a_gguf_tokenizer_larger_than_the_model_is_refused(tmp_path: Path) -> None:
    model = GgufLlama(hidden=32, intermediate=32, layers=1, heads=2, kv_heads=1, vocab=len(GGUF_PIECES))
    path = model.write_gguf(tmp_path / "tiny.gguf", llama__vocab_size=len(GGUF_PIECES) - 1)
    assert refusal(path).startswith(f"tiny.gguf: llama.vocab_size is {len(GGUF_PIECES) - 1}; tokenizer.ggml.tokens has")
