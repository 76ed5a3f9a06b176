"""Ids that end an answer: of both configuration files, of all the keys of a GGUF file, and none that cannot be."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from corral.checkpoints.end_tokens import end_token_ids
from corral.checkpoints.source import open_source
from corral.core.errors import CheckpointRefused
from tests.oracle.gguf_llama import GgufLlama

TINY = GgufLlama(kv_heads=2)


def write(directory: Path, config: dict[str, object], generation: dict[str, object] | None = None) -> Path:
    (directory / "config.json").write_text(json.dumps({"vocab_size": 300, **config}))
    if generation is not None:
        (directory / "generation_config.json").write_text(json.dumps(generation))
    return directory


def ends_of(path: Path) -> Mapping[int, str]:
    source = open_source(path)
    return end_token_ids(source.read_config(), source.read_generation_config())


@pytest.mark.parametrize(
    ("config", "generation", "ids"),
    [
        ({"eos_token_id": 2}, None, {2: "config.json"}),
        ({"eos_token_id": [7, 9]}, None, {7: "config.json", 9: "config.json"}),
        ({"eos_token_id": 9}, {"eos_token_id": [7, 9]}, {7: "generation_config.json", 9: "config.json"}),
        ({}, {"eos_token_id": 299}, {299: "generation_config.json"}),
        ({"eos_token_id": None}, {"eos_token_id": None}, {}),
        ({"eos_token_id": []}, {}, {}),
        ({"bos_token_id": 10**9, "pad_token_id": -1, "eos_token_id": 0}, {"pad_token_id": "x"}, {0: "config.json"}),
    ],
)
def test_end_ids_are_those_of_both_files(
    config: dict[str, object], generation: dict[str, object] | None, ids: dict[int, str], tmp_path: Path
) -> None:
    assert ends_of(write(tmp_path, config, generation)) == ids


@pytest.mark.parametrize(
    ("file", "value", "named"),
    [
        ("config.json", 300, "300"),
        ("config.json", -1, "-1"),
        ("config.json", [2, 300], "300"),
        ("config.json", True, "true"),
        ("config.json", 2.0, "2.0"),
        ("config.json", "2", '"2"'),
        ("generation_config.json", [2, None], "null"),
        ("generation_config.json", {"id": 2}, '{"id": 2}'),
    ],
)
def test_an_id_outside_the_vocabulary_is_refused_by_file_and_id(
    file: str, value: object, named: str, tmp_path: Path
) -> None:
    directory = write(tmp_path, {"eos_token_id": 2}, {})
    document = {"vocab_size": 300, "eos_token_id": value}
    (directory / file).write_text(json.dumps(document))
    with pytest.raises(CheckpointRefused) as refused:
        ends_of(directory)
    assert str(refused.value).startswith(f"{file}: eos_token_id is {json.dumps(value)}; {named} is no token id")
    assert "[0, 299]" in str(refused.value)


def test_a_long_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointRefused, match="it has 65 ids; at most 64 are read"):
        ends_of(write(tmp_path, {"eos_token_id": list(range(65))}))


def test_a_generation_config_that_is_no_json_is_refused_by_name(tmp_path: Path) -> None:
    (write(tmp_path, {}) / "generation_config.json").write_text("{")
    with pytest.raises(CheckpointRefused, match=r"^generation_config\.json is not valid JSON"):
        ends_of(tmp_path)


def test_a_gguf_file_has_ends_of_sequence_turn_and_message(tmp_path: Path) -> None:
    path = TINY.write_gguf(tmp_path / "tiny.gguf", tokenizer__ggml__eot_token_id=5, tokenizer__ggml__eom_token_id=2)
    assert ends_of(path) == {2: "tiny.gguf", 5: "tiny.gguf"}


def test_an_end_id_of_a_gguf_file_outside_the_vocabulary_is_refused_by_its_key(tmp_path: Path) -> None:
    path = TINY.write_gguf(tmp_path / "tiny.gguf", tokenizer__ggml__eot_token_id=10**6)
    with pytest.raises(CheckpointRefused) as refused:
        ends_of(path)
    assert str(refused.value).startswith("tiny.gguf: tokenizer.ggml.eot_token_id is 1000000; 1000000 is no token id")


def test_a_gguf_file_without_end_ids_has_none(tmp_path: Path) -> None:
    path = TINY.write_gguf(tmp_path / "tiny.gguf", tokenizer__ggml__eos_token_id=None)
    assert ends_of(path) == {}
