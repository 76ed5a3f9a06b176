"""Convert the metadata of a GGUF file to the configuration fields of ``config.json``.

Keys that begin with the name of the architecture change the computation, so unknown keys and unsupported values are
refused. The keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

import struct
from array import array
from collections.abc import Mapping
from typing import Final

from corral.checkpoints.architectures.architecture import GgufForm
from corral.checkpoints.architectures.registry import find_gguf_architecture, gguf_names
from corral.checkpoints.architectures.rope import DIVISORS
from corral.checkpoints.config import Config, as_written
from corral.checkpoints.gguf import GgufFile
from corral.checkpoints.gguf_values import Value
from corral.core.errors import CheckpointRefused

_QUANTIZATION_VERSION: Final = 2
"""Block layout since May 2023. Earlier layouts have the same sizes but other values."""
_SIZES: Final = {
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "vocab_size": "vocab_size",
    "max_position_embeddings": "context_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    "rope_theta": "rope.freq_base",
    "sliding_window": "attention.sliding_window",
}
"""Keys after the architecture's name and a dot."""
_GENERAL: Final = {
    "eos_token_id": "tokenizer.ggml.eos_token_id",
    "eot_token_id": "tokenizer.ggml.eot_token_id",
    "eom_token_id": "tokenizer.ggml.eom_token_id",
}
_REQUIRED: Final = ("rms_norm_eps",)
"""Fields that are optional in ``config.json`` but required in GGUF files."""
_SCALING_TYPE: Final = "rope.scaling.type"
_SCALING_FACTORS: Final = ("rope.scaling.factor", "rope.scale_linear")
"""The factor of a linear scaling, and its name in old files."""
_ONLY: Final[Mapping[str, tuple[Value, ...]]] = {
    _SCALING_TYPE: ("none", "linear"),
    "rope.scaling.finetuned": (False,),
    "expert_count": (0,),
    "expert_used_count": (0,),
    "use_parallel_residual": (False,),
    "attention.causal": (True,),
}
"""Supported values; 0 means that a feature is not used."""
_ONLY_GENERAL: Final[Mapping[str, tuple[Value, ...]]] = {"general.quantization_version": (_QUANTIZATION_VERSION,)}
_HEAD_WIDTHS: Final = ("rope.dimension_count", "attention.value_length")
"""Other keys for the width of a head; all must have the same value."""
_IGNORED: Final = ("tensor_data_layout",)
"""Row order of the source of the conversion; GGUF files all have the same order."""
_REMEDIES: Final[Mapping[str, str]] = {
    _SCALING_TYPE: "choose a file without it",
    "expert_count": "choose a dense model, whose layers have one feed-forward part each",
}
_FIRST_BIAS: Final = "blk.0.attn_q.bias"
_MOST_DIVISORS: Final = 2048


def gguf_config(file: GgufFile) -> Config:
    """Read the model's configuration.

    Raises:
        CheckpointRefused: the architecture or a value is not supported; the message names the key and its value.
    """
    metadata, name = file.metadata, file.path.name
    given = metadata.get("general.architecture")
    found = find_gguf_architecture(given)
    if found is None:
        supported = ", ".join(map(as_written, gguf_names()))
        raise _refused(name, "general.architecture", given, f"supported are {supported}: choose another file")
    architecture, form = found
    spellings = {field: f"{form.name}.{key}" for field, key in _SIZES.items()} | _GENERAL
    _check_keys(metadata, name, form, known={*spellings.values()})
    values: dict[str, object] = {field: metadata[key] for field, key in spellings.items() if key in metadata}
    for field in _REQUIRED:
        if field not in values:
            raise _refused(name, spellings[field], None, "GGUF files of this architecture have it")
    values |= {"architectures": [architecture.class_name], "model_type": architecture.name}
    values |= {"tie_word_embeddings": "output.weight" not in file.tensors}
    values |= {"attention_bias": _FIRST_BIAS in file.tensors}
    if values.get("sliding_window") == 0:
        del values["sliding_window"]
    values |= {"use_sliding_window": "sliding_window" in values, "max_window_layers": 0}
    # Null is as many as there are heads, and hidden_size / num_attention_heads, for every architecture.
    values = {"num_key_value_heads": None, "head_dim": None, "sliding_window": None} | values
    _add_vocab_size(values, metadata, name, spellings)
    _add_scaling(values, metadata, name, form, spellings)
    _check_head_widths(values, metadata, name, form)
    if form.has_rope_divisors and DIVISORS in file.tensors:
        values[DIVISORS] = _read_divisors(file)
    return Config(file=name, values=values, spellings=spellings)


def _check_keys(metadata: Mapping[str, Value], name: str, form: GgufForm, known: set[str]) -> None:
    only = {f"{form.name}.{key}": values for key, values in _ONLY.items()} | dict(_ONLY_GENERAL)
    known |= only.keys() | {f"{form.name}.{key}" for key in (*_HEAD_WIDTHS, *_SCALING_FACTORS, *_IGNORED)}
    for key, value in metadata.items():
        if key.startswith(f"{form.name}.") and key not in known:
            raise _refused(name, key, value, "this key is not supported, and may change the computation")
        if key in known and isinstance(value, list | array):
            raise CheckpointRefused(f"{name}: {key[:100]} is an array; only a single value is supported.")
        if key in only and value not in only[key]:
            remedy = _REMEDIES.get(key.removeprefix(f"{form.name}."), "choose another file")
            raise _refused(name, key, value, f"only {' or '.join(map(as_written, only[key]))} is supported: {remedy}")


def _add_vocab_size(
    values: dict[str, object], metadata: Mapping[str, Value], name: str, spellings: Mapping[str, str]
) -> None:
    pieces = metadata.get("tokenizer.ggml.tokens")
    if not isinstance(pieces, list):
        return
    # The embedding may have padding rows, but needs a row for each piece.
    vocab_size = values.setdefault("vocab_size", len(pieces))
    if isinstance(vocab_size, int) and vocab_size < len(pieces):
        raise _refused(name, spellings["vocab_size"], vocab_size, f"tokenizer.ggml.tokens has {len(pieces)} pieces")


def _add_scaling(
    values: dict[str, object],
    metadata: Mapping[str, Value],
    name: str,
    form: GgufForm,
    spellings: dict[str, str],
) -> None:
    """Add a linear scaling, which is meant wherever there is a factor; a factor of 0 or 1 scales nothing."""
    factors = {f"{form.name}.{key}": metadata.get(f"{form.name}.{key}", 1) for key in _SCALING_FACTORS}
    scaling = {key: factor for key, factor in factors.items() if factor not in (0, 1)}
    if not scaling:
        return
    key, factor = next(iter(scaling.items()))
    if metadata.get(f"{form.name}.{_SCALING_TYPE}", "linear") != "linear" or len(scaling) > 1:
        raise _refused(name, key, factor, "other keys of the file scale positions otherwise: choose another file")
    values["rope_scaling"] = {"rope_type": "linear", "factor": factor}
    spellings["rope_scaling.factor"] = key


def _check_head_widths(values: Mapping[str, object], metadata: Mapping[str, Value], name: str, form: GgufForm) -> None:
    hidden, heads, width = (values.get(field) for field in ("hidden_size", "num_attention_heads", "head_dim"))
    said = "attention.key_length"
    if width is None:
        if type(hidden) is not int or type(heads) is not int or not heads or hidden % heads:
            return  # refused where the shape is read
        said, width = "embedding_length / attention.head_count", hidden // heads
    for key in _HEAD_WIDTHS:
        value = metadata.get(f"{form.name}.{key}", width)
        if value != width:
            raise _refused(name, f"{form.name}.{key}", value, f"{said} is {as_written(width)}: choose another file")


def _read_divisors(file: GgufFile) -> list[float]:
    tensor = file.tensors[DIVISORS]
    if tensor.type.name != "F32" or len(tensor.shape) != 1 or tensor.shape[0] > _MOST_DIVISORS:
        raise file.refused(
            f"holds the tensor {DIVISORS} as {tensor.type.name} of shape {list(tensor.shape)}; "
            f"one row of at most {_MOST_DIVISORS} F32 numbers is read"
        )
    return list(struct.unpack(f"<{tensor.shape[0]}f", file.read(tensor.offset, tensor.size_bytes)))


def _refused(file: str, key: str, value: object, why: str) -> CheckpointRefused:
    return Config(file=file, values={} if value is None else {key[:100]: value}).refused(key[:100], value, why)
