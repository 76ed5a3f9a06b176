"""Inspections of damaged checkpoints: each gives a report that can be printed, and never an exception."""

import json
import random
import time
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from corral.inspection.inspect import inspect_checkpoint
from tests.hub import PIECES
from tests.oracle.gguf_llama import GgufLlama, write_split
from tests.oracle.llama import TinyLlama
from tests.unit.text.conftest import document_of

MUTATIONS = 2000
SLOWEST_S = 2.0
VALUES = (
    "\ud800",
    "\x1b[2J",
    "",
    0,
    -1,
    2**70,
    1e308,
    True,
    None,
    [],
    {},
    [["x"]],
    {"quant_method": "\ud800"},
    "a" * 999,
)


def printed(path: Path) -> bool:
    """Inspect; return whether it would be served."""
    started = time.process_time()
    report = inspect_checkpoint(path)
    assert time.process_time() - started < SLOWEST_S
    json.dumps(msgspec.to_builtins(report))
    assert all(len(sentence) < 2000 for sentence in (*report.refusals, *report.warnings))
    return report.is_served


def test_directories_with_damaged_configurations_are_reported(tmp_path: Path) -> None:
    directory = TinyLlama(hidden=16, intermediate=16, layers=1, heads=2, kv_heads=1, vocab=len(PIECES)).write(tmp_path)
    (directory / "tokenizer.json").write_text(json.dumps(document_of(PIECES, [])))
    (directory / "generation_config.json").write_text('{"eos_token_id": [2]}')
    (directory / "tokenizer_config.json").write_text('{"bos_token": "<s>", "chat_template": "{{ messages }}"}')
    randomness, outcomes = random.Random(5), Counter[bool]()
    names = ("config.json", "generation_config.json", "tokenizer_config.json")
    sound = {name: json.loads((directory / name).read_text()) for name in names}
    for _ in range(MUTATIONS):
        name = randomness.choice(names)
        values = {**sound[name], randomness.choice([*sound[name], "quantization_config"]): randomness.choice(VALUES)}
        content = json.dumps(values).encode()
        if randomness.random() < 0.1:
            content = content[: randomness.randrange(len(content))]
        (directory / name).write_bytes(content)
        outcomes[printed(directory)] += 1
        (directory / name).write_text(json.dumps(sound[name]))
    assert min(outcomes[True], outcomes[False]) > MUTATIONS / 50, outcomes


@pytest.mark.parametrize("share", range(2))
def test_damaged_gguf_models_are_reported(share: int, tmp_path: Path) -> None:
    model = GgufLlama(hidden=32, intermediate=32, layers=1, heads=2, kv_heads=1, tied=True, kind="Q4_0")
    parts = write_split(model, tmp_path / "tiny.gguf", tensors=8)
    sound = [path.read_bytes() for path in parts]
    randomness, outcomes = random.Random(share), Counter[bool]()
    for _ in range(MUTATIONS // 2):
        number = randomness.randrange(len(parts))
        data = bytearray(sound[number])
        at = randomness.randrange(min(len(data), 4000))
        data[at : at + randomness.choice((1, 4, 8))] = randomness.randbytes(randomness.choice((0, 1, 4, 8)))
        parts[number].write_bytes(data)
        outcomes[printed(parts[0])] += 1
        parts[number].write_bytes(sound[number])
    assert min(outcomes[True], outcomes[False]) > MUTATIONS / 200, outcomes
