"""Write a Llama checkpoint with random weights, for speed and memory: ``python bench/engine/random_checkpoint.py DIR``.

Values are drawn once and repeated from changing places, so that writing is as fast as the disk. They mean nothing, but
take as long to multiply as any.
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from corral.checkpoints.architectures.registry import read_shape
from corral.checkpoints.config import Config

_SIZES: dict[str, dict[str, int]] = {
    "15m": {
        "hidden_size": 288, "intermediate_size": 768, "num_hidden_layers": 6, "num_attention_heads": 6,
        "num_key_value_heads": 6, "max_position_embeddings": 1024,
    },
    "1.1b": {
        "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22, "num_attention_heads": 32,
        "num_key_value_heads": 4, "max_position_embeddings": 2048,
    },
    "7b": {
        "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 32, "max_position_embeddings": 4096,
    },
}  # fmt: skip
_POOL_VALUES = 2**24
_SHARD_BYTES = 5 * 10**9


def main() -> None:
    """Parse the arguments and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--size", choices=sorted(_SIZES), default="1.1b")
    parser.add_argument("--tokenizer", type=Path, help="tokenizer.json or tokenizer.model to copy into the directory")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    write_checkpoint(arguments.directory, arguments.size, arguments.seed)
    if arguments.tokenizer is not None:
        shutil.copy(arguments.tokenizer, arguments.directory / f"tokenizer{arguments.tokenizer.suffix}")


def write_checkpoint(directory: Path, size: str, seed: int) -> None:
    """``config.json`` and BF16 shards with an index."""
    config: dict[str, object] = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "vocab_size": 32000,
        "rms_norm_eps": 1e-5, "rope_theta": 10_000.0, "tie_word_embeddings": False, "bos_token_id": 1,
        "eos_token_id": 2, "torch_dtype": "bfloat16", **_SIZES[size],
    }  # fmt: skip
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(config, indent=1))
    random = np.random.default_rng(seed)
    pool = random.standard_normal(_POOL_VALUES, np.float32)
    weight_map: dict[str, str] = {}
    for number, names in enumerate(
        _shards(shapes := read_shape(Config(file="config.json", values=config)).tensors()), start=1
    ):
        file_name = f"model-{number:05}.safetensors"
        _write_shard(directory / file_name, {name: shapes[name] for name in names}, pool, random)
        weight_map |= dict.fromkeys(names, file_name)
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def _shards(shapes: dict[str, tuple[int, ...]]) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    size_bytes = 0
    for name, shape in shapes.items():
        size_bytes += 2 * int(np.prod(shape))
        if size_bytes > _SHARD_BYTES:
            shards.append([])
            size_bytes = 2 * int(np.prod(shape))
        shards[-1].append(name)
    return shards


def _write_shard(
    path: Path, shapes: dict[str, tuple[int, ...]], pool: NDArray[np.float32], random: np.random.Generator
) -> None:
    header: dict[str, object] = {}
    position = 0
    for name, shape in shapes.items():
        end = position + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for shape in shapes.values():
            if len(shape) == 1:
                file.write(_bf16(np.ones(shape, np.float32)))
                continue
            values = _bf16(pool / np.float32(np.sqrt(shape[1])))
            left = int(np.prod(shape))
            while left:
                start = int(random.integers(0, _POOL_VALUES // 2))
                part = values[start : start + left]
                file.write(part)
                left -= len(part)


def _bf16(values: NDArray[np.float32]) -> memoryview:
    return (values.view(np.uint32) >> 16).astype(np.uint16).data


if __name__ == "__main__":
    main()
