"""Convert the metadata of a GGUF file to the configuration fields of ``config.json``.

Keys under ``llama.`` change the computation, so unknown keys and unsupported values are refused. The keys:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from array import array
from collections.abc import Mapping
from typing import Final

from corral.checkpoints.config import Config, as_written
from corral.checkpoints.gguf import GgufFile
from corral.checkpoints.gguf_values import Value
from corral.core.errors import CheckpointRefused

_QUANTIZATION_VERSION: Final = 2
"""Block layout since May 2023. Earlier layouts have the same sizes but other values."""
_FIELDS: Final = {
    "hidden_size": "llama.embedding_length",
    "intermediate_size": "llama.feed_forward_length",
    "num_hidden_layers": "llama.block_count",
    "num_attention_heads": "llama.attention.head_count",
    "num_key_value_heads": "llama.attention.head_count_kv",
    "head_dim": "llama.attention.key_length",
    "vocab_size": "llama.vocab_size",
    "max_position_embeddings": "llama.context_length",
    "rms_norm_eps": "llama.attention.layer_norm_rms_epsilon",
    "rope_theta": "llama.rope.freq_base",
    "rope_scaling": "llama.rope.scaling.type",
    "sliding_window": "llama.attention.sliding_window",
    "eos_token_id": "tokenizer.ggml.eos_token_id",
    "eot_token_id": "tokenizer.ggml.eot_token_id",
    "eom_token_id": "tokenizer.ggml.eom_token_id",
}
_REQUIRED: Final = ("rms_norm_eps",)
"""Fields that are optional in ``config.json`` but required in GGUF files."""
_ONLY: Final[Mapping[str, tuple[Value, ...]]] = {
    "llama.rope.scaling.factor": (0, 1),
    "llama.rope.scale_linear": (1,),
    "llama.rope.scaling.finetuned": (False,),
    "llama.expert_count": (0,),
    "llama.expert_used_count": (0,),
    "llama.use_parallel_residual": (False,),
    "llama.attention.causal": (True,),
    "general.quantization_version": (_QUANTIZATION_VERSION,),
    "split.count": (0, 1),
}
"""Supported values; 0 means that a feature is not used."""
_HEAD_WIDTHS: Final = ("llama.rope.dimension_count", "llama.attention.value_length")
"""Other keys for the width of a head; all must have the same value."""
_IGNORED: Final = ("llama.tensor_data_layout",)
"""Row order of the source of the conversion; GGUF files all have the same order."""


def gguf_config(file: GgufFile) -> Config:
    """Read the model's configuration.

    Raises:
        CheckpointRefused: the architecture or a value is not supported; the message names the key and its value.
    """
    metadata, name = file.metadata, file.path.name
    architecture = metadata.get("general.architecture")
    if architecture != "llama":
        raise _refused(name, "general.architecture", architecture, 'only "llama" is supported')
    _check_keys(metadata, name)
    values: dict[str, object] = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    values |= {field: metadata[key] for field, key in _FIELDS.items() if key in metadata}
    for field in _REQUIRED:
        if field not in values:
            raise _refused(name, _FIELDS[field], None, "GGUF files of this architecture have it")
    if values.get("rope_scaling") == "none":
        del values["rope_scaling"]
    pieces = metadata.get("tokenizer.ggml.tokens")
    if isinstance(pieces, list):
        # The embedding may have padding rows, but needs a row for each piece.
        vocab_size = values.setdefault("vocab_size", len(pieces))
        if isinstance(vocab_size, int) and vocab_size < len(pieces):
            raise _refused(name, _FIELDS["vocab_size"], vocab_size, f"tokenizer.ggml.tokens has {len(pieces)} pieces")
    values["tie_word_embeddings"] = "output.weight" not in file.tensors
    _check_head_widths(metadata, values, name)
    return Config(file=name, values=values, spellings=_FIELDS)


def _check_keys(metadata: Mapping[str, Value], name: str) -> None:
    known = {*_FIELDS.values(), *_ONLY, *_HEAD_WIDTHS, *_IGNORED}
    for key, value in metadata.items():
        if key.startswith("llama.") and key not in known:
            raise _refused(name, key, value, "this key is not supported")
        if key in known and isinstance(value, list | array):
            raise CheckpointRefused(f"{name}: {key[:100]} is an array; only a single value is supported.")
        if key in _ONLY and value not in _ONLY[key]:
            only = " or ".join(map(as_written, _ONLY[key]))
            raise _refused(name, key, value, f"only {only} is supported")


def _check_head_widths(metadata: Mapping[str, Value], values: Mapping[str, object], name: str) -> None:
    hidden, heads = values.get("hidden_size"), values.get("num_attention_heads")
    if type(hidden) is not int or type(heads) is not int or not heads or hidden % heads:
        return  # refused where the shape is read
    for key in _HEAD_WIDTHS:
        value = metadata.get(key, hidden // heads)
        if value != hidden // heads:
            raise _refused(name, key, value, f"embedding_length / attention.head_count is {hidden // heads}")


def _refused(file: str, key: str, value: object, why: str) -> CheckpointRefused:
    return Config(file=file, values={} if value is None else {key[:100]: value}).refused(key[:100], value, why)
