"""Ten thousand damaged configurations: each is read or refused, soon and without more memory than it merits."""

import json
import random
import time
import tracemalloc
from collections import Counter
from math import inf, nan
from pathlib import Path

from corral.checkpoints.architectures.registry import read_shape
from corral.checkpoints.end_tokens import end_token_ids
from corral.checkpoints.source import open_source
from corral.core.errors import CheckpointRefused
from tests.oracle.llama import TinyLlama
from tests.oracle.variants import VARIANTS

MUTATIONS = 10_000
SLOWEST_S = 2.0
MEASURED_EVERY = 20
MOST_MEMORY_BYTES = 2**24
"""Twice the buffer that a JSON file is read into."""
MODELS = list(VARIANTS.values())
VALUES: tuple[object, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 16, 2**20, 2**31, 2**63, 2**70, 0.0, 0.5, -1.5, 1e300, nan, inf, "", "linear",
    "llama3", "yarn", "full_attention", [], [2, 2], ["full_attention"] * 2, ["sliding_attention"], {}, {"factor": 2.0},
    {"rope_type": "llama3"}, {"type": "linear", "factor": -1}, [[[]]], "\ud800", "x" * 1000,
)  # fmt: skip
FIELDS = ("eos_token_id", "sliding_window", "layer_types", "max_window_layers", "rope_parameters", "no_rope_layers")


def test_a_damaged_configuration_is_read_or_refused(tmp_path: Path) -> None:
    randomness = random.Random(0)
    outcomes: Counter[str] = Counter()
    for number in range(MUTATIONS):
        write(mutated(randomness.choice(MODELS), randomness), tmp_path / "config.json")
        write(
            {"eos_token_id": randomness.choice((2, [2, 3], 2, *VALUES[: number % 9]))},
            tmp_path / "generation_config.json",
        )
        started = time.process_time()
        outcomes[outcome(tmp_path) if number % MEASURED_EVERY else measured_outcome(tmp_path)] += 1
        assert time.process_time() - started < SLOWEST_S, number
    assert outcomes.keys() == {"read", "refused"}
    assert min(outcomes.values()) > MUTATIONS / 20, outcomes


def write(document: object, path: Path) -> None:
    """JSON as Python reads it: NaN and infinities too, and lone surrogates as escapes."""
    path.write_text(json.dumps(document))


def mutated(model: TinyLlama, randomness: random.Random) -> dict[str, object]:
    """One to three fields, at times inside the scaling of positions, with values of other kinds and sizes."""
    values = model.config()
    for _ in range(randomness.choice((1, 1, 2, 3))):
        scaling = values.get("rope_scaling")
        inside = isinstance(scaling, dict) and scaling and randomness.random() < 0.4
        holder: dict[str, object] = dict(scaling) if inside and isinstance(scaling, dict) else values
        field = randomness.choice([*holder, *FIELDS])
        if randomness.random() < 0.2:
            holder.pop(field, None)
        else:
            holder[field] = randomness.choice(VALUES)
        if inside:
            values["rope_scaling"] = holder
    return values


def outcome(directory: Path) -> str:
    try:
        source = open_source(directory)
        config = source.read_config()
        shape = read_shape(config)
        assert len(shape.attention.rope.frequencies(shape.attention.head_dim)) == shape.attention.head_dim // 2
        assert all(
            0 <= token_id < shape.vocab_size for token_id in end_token_ids(config, source.read_generation_config())
        )
    except CheckpointRefused as refused:
        assert len(str(refused)) < 1000
        return "refused"
    return "read"


def measured_outcome(directory: Path) -> str:
    """Seen by an allocator that counts."""
    tracemalloc.start()
    try:
        found = outcome(directory)
        assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY_BYTES
    finally:
        tracemalloc.stop()
    return found
