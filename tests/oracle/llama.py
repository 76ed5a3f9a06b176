"""Random checkpoints from a seed, and the same model as a naive NumPy forward pass in float64.

The architectures are Llama's and those that differ from it by biases, by norms of queries and keys, or in nothing.
"""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BF16, F16, F32 = "BF16", "F16", "F32"
CLASSES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
"""Architectures in ``config.json`` by ``model_type``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyLlama:
    """Sizes of a model that a test can afford."""

    architecture: str = "llama"
    hidden: int = 64
    intermediate: int = 160
    layers: int = 2
    heads: int = 4
    kv_heads: int = 4
    own_head_dim: int | None = None
    """None is hidden / heads."""
    attention_bias: bool = False
    """A field of Llama and Qwen3; Qwen2 has biases in any case, though not on the output."""
    vocab: int = 300
    context_tokens: int = 512
    tied: bool = False
    rope_theta: float = 10_000.0
    rope_scaling: dict[str, object] | None = None
    rms_norm_eps: float = 1e-5
    attention_gain: float = 2.0
    """Above 1 attention is sharp, so that a wrong position or head shows in the tokens."""
    logit_gain: float = 2.5
    dtype: str = F32
    shards: int = 1
    seed: int = 0
    extra_config: dict[str, object] = field(default_factory=dict[str, object])

    @property
    def head_dim(self) -> int:
        """Width of a head."""
        return self.own_head_dim or self.hidden // self.heads

    @property
    def query_width(self) -> int:
        """Width of all query heads together."""
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Width of all key heads together."""
        return self.kv_heads * self.head_dim

    def config(self) -> dict[str, object]:
        """As in ``config.json``."""
        own: dict[str, object] = {} if self.own_head_dim is None else {"head_dim": self.own_head_dim}
        if self.architecture in ("llama", "qwen3"):
            own["attention_bias"] = self.attention_bias
        if self.architecture in ("qwen2", "qwen3"):  # a window that is switched off
            own |= {"use_sliding_window": False, "sliding_window": 16, "max_window_layers": 0}
        if self.architecture == "mistral":
            own["sliding_window"] = None
        return {
            "architectures": [CLASSES[self.architecture]],
            "model_type": self.architecture,
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
            "rope_scaling": self.rope_scaling,
            "rms_norm_eps": self.rms_norm_eps,
            "bos_token_id": 1,
            "eos_token_id": 2,
            **own,
            **self.extra_config,
        }

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """Random weights, already rounded to what ``dtype`` can hold. ``logit_gain`` is the logits' spread."""
        random = np.random.default_rng(self.seed)

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
                prefix + "self_attn.q_proj.weight": matrix(self.query_width, self.hidden, self.attention_gain),
                prefix + "self_attn.k_proj.weight": matrix(self.kv_width, self.hidden, self.attention_gain),
                prefix + "self_attn.v_proj.weight": matrix(self.kv_width, self.hidden),
                prefix + "self_attn.o_proj.weight": matrix(self.hidden, self.query_width),
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
        tensors |= self._extra_tensors()
        return {name: decode(encode(tensor, self.dtype), self.dtype, tensor.shape) for name, tensor in tensors.items()}

    def _extra_tensors(self) -> dict[str, NDArray[np.float32]]:
        """Biases and norms that not every architecture has, from a generator of their own."""
        random = np.random.default_rng(self.seed + 1000)
        tensors: dict[str, NDArray[np.float32]] = {}
        for layer in range(self.layers):
            prefix = f"model.layers.{layer}.self_attn."
            if self.attention_bias or self.architecture == "qwen2":
                for part, width in (("q", self.query_width), ("k", self.kv_width), ("v", self.kv_width)):
                    tensors[f"{prefix}{part}_proj.bias"] = random.standard_normal(width).astype(np.float32) / 2
            if self.attention_bias and self.architecture != "qwen2":
                tensors[f"{prefix}o_proj.bias"] = random.standard_normal(self.hidden).astype(np.float32) / 10
            if self.architecture == "qwen3":
                for part, gain in (("q", self.attention_gain), ("k", 1.0)):
                    norm = gain * (1 + 0.3 * random.standard_normal(self.head_dim))
                    tensors[f"{prefix}{part}_norm.weight"] = norm.astype(np.float32)
        return tensors

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


def frequencies(model: TinyLlama) -> Floats:
    """Radians per token of each pair, ``(head_dim / 2,)``."""
    plain = model.rope_theta ** (-np.arange(0, model.head_dim, 2) / model.head_dim)
    match model.rope_scaling:
        case None:
            return plain
        case {"rope_type": "linear", "factor": float(factor)}:
            return plain / factor
        case {"factor": float(factor), "low_freq_factor": float(low), "high_freq_factor": float(high), **rest}:
            tokens = rest["original_max_position_embeddings"]
            assert isinstance(tokens, int)
            wave = 2 * np.pi / plain
            share = (tokens / wave - low) / (high - low)
            between = (1 - share) * plain / factor + share * plain
            return np.where(wave < tokens / high, plain, np.where(wave > tokens / low, plain / factor, between))
        case _:
            raise NotImplementedError


def forward(model: TinyLlama, ids: list[int]) -> Floats:
    """Logits ``(tokens, vocab)``, computed as the papers write it."""
    weights = {name: tensor.astype(np.float64) for name, tensor in model.tensors().items()}
    tokens, head_dim = len(ids), model.head_dim
    angles = np.outer(np.arange(tokens), frequencies(model))
    cosines, sines = np.cos(angles), np.sin(angles)

    def norm(hidden: Floats, weight: Floats) -> Floats:
        return hidden / np.sqrt((hidden**2).mean(axis=-1, keepdims=True) + model.rms_norm_eps) * weight

    def rotate(heads: Floats) -> Floats:
        left, right = heads[..., : head_dim // 2], heads[..., head_dim // 2 :]
        return np.concatenate([left * cosines - right * sines, right * cosines + left * sines], axis=-1)

    def project(rows: Floats, part: dict[str, Floats], name: str) -> Floats:
        return rows @ part[f"self_attn.{name}_proj.weight"].T + part.get(f"self_attn.{name}_proj.bias", 0.0)

    def heads_of(rows: Floats, part: dict[str, Floats], name: str, heads: int) -> Floats:
        split = project(rows, part, name).reshape(tokens, heads, head_dim)
        weight = part.get(f"self_attn.{name}_norm.weight")
        return (split if weight is None else norm(split, weight)).transpose(1, 0, 2)

    hidden = weights["model.embed_tokens.weight"][ids]
    future = np.triu(np.full((tokens, tokens), -np.inf), 1)
    for layer in range(model.layers):
        part = {k.split(f"layers.{layer}.")[1]: v for k, v in weights.items() if f"layers.{layer}." in k}
        normed = norm(hidden, part["input_layernorm.weight"])
        query = rotate(heads_of(normed, part, "q", model.heads))
        key = rotate(heads_of(normed, part, "k", model.kv_heads))
        value = heads_of(normed, part, "v", model.kv_heads)
        key, value = (rows.repeat(model.heads // model.kv_heads, axis=0) for rows in (key, value))
        attended = softmax(query @ key.transpose(0, 2, 1) / np.sqrt(head_dim) + future) @ value
        hidden = hidden + project(attended.transpose(1, 0, 2).reshape(tokens, -1), part, "o")
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
