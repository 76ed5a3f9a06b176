"""Random Llama checkpoints from a seed, and the same model as a naive NumPy forward pass in float64."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BF16, F16, F32 = "BF16", "F16", "F32"


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyLlama:
    """Sizes of a model that a test can afford."""

    hidden: int = 64
    intermediate: int = 160
    layers: int = 2
    heads: int = 4
    kv_heads: int = 4
    vocab: int = 300
    context_tokens: int = 512
    tied: bool = False
    rope_theta: float = 10_000.0
    rms_norm_eps: float = 1e-5
    attention_gain: float = 2.0
    """Above 1 attention is sharp, so that a wrong position or head shows in the tokens."""
    logit_gain: float = 2.5
    dtype: str = F32
    shards: int = 1
    seed: int = 0
    extra_config: dict[str, object] = field(default_factory=dict[str, object])

    def config(self) -> dict[str, object]:
        """As in ``config.json``."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_act": "silu",
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "vocab_size": self.vocab,
            "max_position_embeddings": self.context_tokens,
            "tie_word_embeddings": self.tied,
            "rope_theta": self.rope_theta,
            "rope_scaling": None,
            "rms_norm_eps": self.rms_norm_eps,
            "bos_token_id": 1,
            "eos_token_id": 2,
            **self.extra_config,
        }

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """Random weights, already rounded to what ``dtype`` can hold. ``logit_gain`` is the logits' spread."""
        random = np.random.default_rng(self.seed)
        width = self.hidden // self.heads * self.kv_heads

        def matrix(rows: int, columns: int, gain: float = 1.0) -> NDArray[np.float32]:
            return (random.standard_normal((rows, columns)) * gain / np.sqrt(columns)).astype(np.float32)

        def norm() -> NDArray[np.float32]:
            return (1 + 0.1 * random.standard_normal(self.hidden)).astype(np.float32)

        # A tied head sees the embedding itself; a small one keeps the model from repeating its last token for ever.
        tensors = {"model.embed_tokens.weight": matrix(self.vocab, self.hidden, gain=0.5 if self.tied else 8.0)}
        for layer in range(self.layers):
            prefix = f"model.layers.{layer}."
            tensors |= {
                prefix + "input_layernorm.weight": norm(),
                prefix + "self_attn.q_proj.weight": matrix(self.hidden, self.hidden, self.attention_gain),
                prefix + "self_attn.k_proj.weight": matrix(width, self.hidden, self.attention_gain),
                prefix + "self_attn.v_proj.weight": matrix(width, self.hidden),
                prefix + "self_attn.o_proj.weight": matrix(self.hidden, self.hidden),
                prefix + "post_attention_layernorm.weight": norm(),
                prefix + "mlp.gate_proj.weight": matrix(self.intermediate, self.hidden),
                prefix + "mlp.up_proj.weight": matrix(self.intermediate, self.hidden),
                prefix + "mlp.down_proj.weight": matrix(self.hidden, self.intermediate),
            }
        tensors["model.norm.weight"] = norm()
        if self.tied:
            tensors["model.norm.weight"] *= 2 * self.logit_gain
        else:
            tensors["lm_head.weight"] = matrix(self.vocab, self.hidden, self.logit_gain)
        return {name: decode(encode(tensor, self.dtype), self.dtype, tensor.shape) for name, tensor in tensors.items()}

    def write(self, directory: Path) -> Path:
        """Write the checkpoint: ``config.json`` and one or many safetensors files."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "config.json").write_text(json.dumps(self.config()))
        tensors = self.tensors()
        if self.shards == 1:
            (directory / "model.safetensors").write_bytes(pack(tensors, self.dtype))
            return directory
        weight_map: dict[str, str] = {}
        for shard in range(self.shards):
            file_name = f"model-{shard + 1:05}-of-{self.shards:05}.safetensors"
            names = list(tensors)[shard :: self.shards]
            (directory / file_name).write_bytes(pack({name: tensors[name] for name in names}, self.dtype))
            weight_map |= dict.fromkeys(names, file_name)
        (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
        return directory


MHA = TinyLlama(seed=1)
GQA = replace(MHA, kv_heads=2, seed=2)
TIED_MQA = replace(MHA, kv_heads=1, tied=True, seed=3)


def encode(tensor: NDArray[np.float32], dtype: str) -> bytes:
    """Bytes of a tensor as safetensors holds it; BF16 by dropping the low half."""
    match dtype:
        case "BF16":
            return (tensor.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
        case "F16":
            return tensor.astype("<f2").tobytes()
        case _:
            return tensor.astype("<f4").tobytes()


def decode(raw: bytes, dtype: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The inverse of ``encode``."""
    match dtype:
        case "BF16":
            values = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
        case "F16":
            values = np.frombuffer(raw, "<f2").astype(np.float32)
        case _:
            values = np.frombuffer(raw, "<f4").copy()
    return values.reshape(shape)


def pack(tensors: dict[str, NDArray[np.float32]], dtype: str) -> bytes:
    """A safetensors file."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    body = b""
    for name, tensor in tensors.items():
        raw = encode(tensor, dtype)
        offsets = [len(body), len(body) + len(raw)]
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": offsets}
        body += raw
    return pack_header(header) + body


def pack_header(header: dict[str, object]) -> bytes:
    """The beginning of a safetensors file."""
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text


def forward(model: TinyLlama, ids: list[int]) -> Floats:
    """Logits ``(tokens, vocab)``, computed as the papers write it."""
    weights = {name: tensor.astype(np.float64) for name, tensor in model.tensors().items()}
    tokens, head_dim = len(ids), model.hidden // model.heads
    frequencies = model.rope_theta ** (-np.arange(0, head_dim, 2) / head_dim)
    angles = np.outer(np.arange(tokens), frequencies)
    cosines, sines = np.cos(angles), np.sin(angles)

    def norm(hidden: Floats, weight: Floats) -> Floats:
        return hidden / np.sqrt((hidden**2).mean(axis=-1, keepdims=True) + model.rms_norm_eps) * weight

    def rotate(heads: Floats) -> Floats:
        left, right = heads[..., : head_dim // 2], heads[..., head_dim // 2 :]
        return np.concatenate([left * cosines - right * sines, right * cosines + left * sines], axis=-1)

    def split(rows: Floats, heads: int) -> Floats:
        return rows.reshape(tokens, heads, head_dim).transpose(1, 0, 2)

    hidden = weights["model.embed_tokens.weight"][ids]
    future = np.triu(np.full((tokens, tokens), -np.inf), 1)
    for layer in range(model.layers):
        part = {k.split(f"layers.{layer}.")[1]: v for k, v in weights.items() if f"layers.{layer}." in k}
        normed = norm(hidden, part["input_layernorm.weight"])
        query = rotate(split(normed @ part["self_attn.q_proj.weight"].T, model.heads))
        key = rotate(split(normed @ part["self_attn.k_proj.weight"].T, model.kv_heads))
        value = split(normed @ part["self_attn.v_proj.weight"].T, model.kv_heads)
        key, value = (rows.repeat(model.heads // model.kv_heads, axis=0) for rows in (key, value))
        attended = softmax(query @ key.transpose(0, 2, 1) / np.sqrt(head_dim) + future) @ value
        hidden = hidden + attended.transpose(1, 0, 2).reshape(tokens, -1) @ part["self_attn.o_proj.weight"].T
        normed = norm(hidden, part["post_attention_layernorm.weight"])
        gate = normed @ part["mlp.gate_proj.weight"].T
        up = normed @ part["mlp.up_proj.weight"].T
        hidden = hidden + (gate / (1 + np.exp(-gate)) * up) @ part["mlp.down_proj.weight"].T
    head = weights["model.embed_tokens.weight" if model.tied else "lm_head.weight"]
    return norm(hidden, weights["model.norm.weight"]) @ head.T


def softmax(logits: Floats) -> Floats:
    """Over the last axis."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)
