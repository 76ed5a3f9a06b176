"""Random Llama models as GGUF files, written and decoded by the ``gguf`` package: the reference for what is read."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind
from gguf.quants import dequantize, quantize
from numpy.typing import NDArray

from tests.oracle.llama import TinyLlama, frequencies
from tests.vocabulary import PIECES

KINDS = ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K")
K_QUANTS = ("Q4_K", "Q5_K", "Q6_K")
_PARTS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "model.layers": "blk",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufLlama(TinyLlama):
    """A model whose weights are exactly what its GGUF file holds."""

    vocab: int = len(PIECES) + 5
    kind: str = "Q8_0"
    mixture: dict[str, str] = field(default_factory=dict[str, str])
    """Other kinds for the tensors whose name has a part."""

    def blocks(self) -> dict[str, tuple[Kind, NDArray[np.uint8]]]:
        """Every tensor as the file has it, by its name in Transformers."""
        found: dict[str, tuple[Kind, NDArray[np.uint8]]] = {}
        for number, (name, tensor) in enumerate(TinyLlama.tensors(self).items()):
            chosen = next((kind for part, kind in self.mixture.items() if part in name), self.kind)
            kind = Kind.F32 if tensor.ndim == 1 else Kind[chosen]
            if kind.name in K_QUANTS:  # The package reads these and cannot make them.
                found[name] = kind, random_blocks(kind, tensor.shape, float(tensor.std()), seed=number)
            else:
                values = permute(tensor, self.head_count(name)) if self.head_count(name) else tensor
                found[name] = kind, quantize(np.ascontiguousarray(values), kind)
        return found

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """What the file's bytes say, in Transformers' order."""
        decoded: dict[str, NDArray[np.float32]] = {}
        for name, (kind, raw) in self.blocks().items():
            values = np.ascontiguousarray(dequantize(raw, kind))
            decoded[name] = unpermute(values, self.head_count(name)) if self.head_count(name) else values
        return decoded

    def head_count(self, name: str) -> int:
        """Heads of a projection whose rows llama.cpp reorders; 0 for other tensors."""
        if self.prefix != "llama":
            return 0
        return self.heads if "q_proj" in name else self.kv_heads if "k_proj" in name else 0

    @property
    def prefix(self) -> str:
        """Name of the architecture in the file."""
        return "llama" if self.architecture == "mistral" else self.architecture

    def write_gguf(self, path: Path, **changes: object) -> Path:
        """Write the file; *changes* replace metadata, by keys with ``__`` for each dot, and None leaves one out."""
        path.parent.mkdir(parents=True, exist_ok=True)
        metadata = self.metadata() | {key.replace("__", "."): value for key, value in changes.items()}
        writer = gguf.GGUFWriter(path, "llama")
        write_metadata(writer, metadata)
        for name, (kind, raw) in self.blocks().items():
            writer.add_tensor(name_in_file(name), raw, raw_dtype=kind)
        if self.rope_scaling is not None and self.rope_scaling["rope_type"] == "llama3":
            divisors = frequencies(replace(self, rope_scaling=None)) / frequencies(self)
            writer.add_tensor("rope_freqs.weight", divisors.astype(np.float32))
        finish(writer)
        return path

    def metadata(self) -> dict[str, object]:
        """What llama.cpp's converter writes for such a model."""
        sizes: dict[str, object] = {
            "context_length": self.context_tokens,
            "embedding_length": self.hidden,
            "feed_forward_length": self.intermediate,
            "block_count": self.layers,
            "attention.head_count": self.heads,
            "attention.head_count_kv": self.kv_heads,
            "attention.layer_norm_rms_epsilon": self.rms_norm_eps,
            "rope.freq_base": self.rope_theta,
        }
        if self.prefix == "llama":
            sizes |= {"rope.dimension_count": self.head_dim, "vocab_size": self.vocab}
        if self.own_head_dim is not None:
            sizes |= {"attention.key_length": self.own_head_dim, "attention.value_length": self.own_head_dim}
        if self.rope_scaling is not None and self.rope_scaling["rope_type"] == "linear":
            sizes |= {"rope.scaling.type": "linear", "rope.scaling.factor": self.rope_scaling["factor"]}
        pieces = [*PIECES, *(f"padding {number}" for number in range(self.vocab - len(PIECES)))]
        return {
            **{f"{self.prefix}.{key}": value for key, value in sizes.items()},
            **vocabulary_metadata(list(PIECES) if self.prefix == "llama" else pieces),
            "general.architecture": self.prefix,
            "general.quantization_version": 2,
        }


def write_split(
    model: GgufLlama, path: Path, *, tensors: int = 8, small_first: bool = False, drop: tuple[str, ...] = ()
) -> list[Path]:
    """Write a model as llama.cpp's converter splits it; return the paths of its parts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, "llama", split_max_tensors=tensors, small_first_shard=small_first)
    write_metadata(writer, model.metadata())
    for name, (kind, raw) in model.blocks().items():
        if name not in drop:
            writer.add_tensor(name_in_file(name), raw, raw_dtype=kind)
    finish(writer)
    return sorted(path.parent.glob(f"{path.stem}-*-of-*.gguf"))


def vocabulary_metadata(
    pieces: list[str], scores: list[float] | None = None, kinds: list[int] | None = None
) -> dict[str, object]:
    """Metadata of a tokenizer; by default later pieces score less, and the first three are the control pieces."""
    usual = [2, 3, 3, *(6 if piece.startswith("<0x") else 1 for piece in pieces[3:])]
    return {
        "general.architecture": "llama",
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": pieces,
        "tokenizer.ggml.scores": scores or [0.0] * 259 + [-float(rank) for rank in range(len(pieces) - 259)],
        "tokenizer.ggml.token_type": kinds or usual,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.chat_template": "{{ messages }}",
    }


def write_metadata(writer: gguf.GGUFWriter, metadata: dict[str, object]) -> None:
    """Add pairs with the types that llama.cpp's converter gives them; the writer's own architecture goes."""
    writer.kv_data[0].clear()
    for key, value in metadata.items():
        match value:
            case None:
                pass
            case bool():
                writer.add_bool(key, value)
            case int():
                writer.add_uint32(key, value)
            case float():
                writer.add_float32(key, value)
            case str():
                writer.add_string(key, value)
            case _:
                writer.add_array(key, value)


def finish(writer: gguf.GGUFWriter) -> None:
    """Write everything out."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def name_in_file(name: str) -> str:
    """A tensor's name in GGUF files."""
    for ours, theirs in _PARTS.items():
        name = name.replace(ours, theirs)
    return name


def permute(tensor: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows as llama.cpp has them: the two that rotate together side by side."""
    rows = len(tensor)
    return tensor.reshape(heads, 2, rows // heads // 2, -1).swapaxes(1, 2).reshape(tensor.shape)


def unpermute(tensor: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """The inverse of ``permute``."""
    rows = len(tensor)
    return tensor.reshape(heads, rows // heads // 2, 2, -1).swapaxes(1, 2).reshape(tensor.shape)


def random_blocks(kind: Kind, shape: tuple[int, ...], deviation: float, seed: int) -> NDArray[np.uint8]:
    """Random bits for everything but the scale of a block, which gives the values the deviation that is asked for."""
    elements, size_bytes = gguf.GGML_QUANT_SIZES[kind]
    rows, columns = shape
    blocks = np.random.default_rng(seed).integers(0, 256, (rows * columns // elements, size_bytes), np.uint8)
    scale_at = 208 if kind is Kind.Q6_K else 0

    def set_scale(scale: float) -> None:
        blocks[:, scale_at : scale_at + 2] = np.array([scale], "<f2").view(np.uint8)
        if kind is not Kind.Q6_K:  # The mean of the integers, taken away.
            blocks[:, 2:4] = np.array([scale * (7.5 if kind is Kind.Q4_K else 15.5)], "<f2").view(np.uint8)

    set_scale(1.0)
    set_scale(deviation / float(dequantize(blocks, kind).std()))
    return blocks.reshape(rows, columns // elements * size_bytes)
