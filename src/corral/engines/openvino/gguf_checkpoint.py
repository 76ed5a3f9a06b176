"""Read a checkpoint from a GGUF file, as written by llama.cpp's converter.

Opening checks that all tensors exist with the right shapes; no matrix is read. Two things differ from the Transformers
format: the names and, for some architectures, the row order of query and key projections. Pairs of rows that are
rotated together are then adjacent, ``(i, i + 1)``; in the Transformers format they are half a head apart.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from corral.checkpoints.architectures.registry import find_architecture, read_shape
from corral.checkpoints.architectures.rope import DIVISORS
from corral.checkpoints.architectures.shape import ModelShape
from corral.checkpoints.gguf import GgufFile, GgufTensor
from corral.checkpoints.gguf_config import gguf_config
from corral.checkpoints.gguf_vocabulary import gguf_vocabulary
from corral.checkpoints.vocabulary import Vocabulary
from corral.engines.openvino.gguf_blocks import EXACT, FLOATS, decode_rows, encode_exactly
from corral.engines.openvino.options import WeightsFormat
from corral.engines.openvino.tensors import Encoded, HeldForm, Rows

_GROUP: Final = 32
"""Columns that share a scale."""
_NAMES: Final = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_LAYER_NAMES: Final = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
"""Without ``.weight`` and ``.bias``, which are the same in both."""
_PAIRED: Final = ("self_attn.q_proj", "self_attn.k_proj")


class GgufCheckpoint:
    """An open, checked checkpoint."""

    def __init__(self, path: Path) -> None:
        """Open and check the checkpoint.

        Raises:
            CheckpointRefused: not a supported model, or one with missing, malformed or unsupported parts.
        """
        self.path = path
        self._file = GgufFile(path)
        try:
            self._file.check_supported()
            config = gguf_config(self._file)
            self.shape: ModelShape = read_shape(config)
            self._form = find_architecture(config).gguf
            self._tensors = self._place_tensors()
        except BaseException:
            self._file.close()
            raise
        self.held: Mapping[str, HeldForm] = {
            name: _held_form(tensor) for name, tensor in self._tensors.items() if tensor.type.name not in FLOATS
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def files(self) -> list[Path]:
        """Files with tensors: the GGUF file, or its parts."""
        return [*self._file.paths]

    def vocabulary(self) -> Vocabulary:
        """Get the vocabulary in the file."""
        return gguf_vocabulary(self._file)

    def read_rows(self, name: str, start: int, stop: int) -> Rows:
        """Read rows ``[start, stop)`` of a tensor as float32 ``(rows, columns)``; a vector is one row."""
        rows = decode_rows(self._read_blocks(name, start, stop), self._tensors[name].type.name)
        if len(self._tensors[name].shape) == 1 and self._is_interleaved(name):
            return rows[:, _rows_in_file(np.arange(self._tensors[name].shape[0]), self.shape.attention.head_dim)]
        return rows

    def read_encoded(self, name: str, start: int, stop: int) -> Encoded:
        """Read rows ``[start, stop)`` of an exactly stored matrix, in groups of 32 columns."""
        return encode_exactly(self._read_blocks(name, start, stop), self._tensors[name].type.name)

    def _read_blocks(self, name: str, start: int, stop: int) -> NDArray[np.uint8]:
        """Read encoded rows, ``(rows, bytes)``, in the row order of Transformers."""
        tensor = self._tensors[name]
        if len(tensor.shape) == 1 or not self._is_interleaved(name):
            return self._read_span(tensor, start, stop)
        rows = _rows_in_file(np.arange(start, stop), self.shape.attention.head_dim)
        first = int(rows.min())
        return self._read_span(tensor, first, int(rows.max()) + 1)[rows - first]

    def _is_interleaved(self, name: str) -> bool:
        is_paired = name.rpartition(".")[0].endswith(_PAIRED)
        return is_paired and self._form is not None and self._form.interleaves_heads

    def _read_span(self, tensor: GgufTensor, start: int, stop: int) -> NDArray[np.uint8]:
        raw = self._file.read(tensor.offset + start * tensor.row_bytes, (stop - start) * tensor.row_bytes)
        return np.frombuffer(raw, np.uint8).reshape(stop - start, tensor.row_bytes)

    def _place_tensors(self) -> dict[str, GgufTensor]:
        wanted = {_name_in_file(name): (name, sizes) for name, sizes in self.shape.tensors().items()}
        for name, tensor in self._file.tensors.items():
            if name == DIVISORS and self._form is not None and self._form.has_rope_divisors:
                continue  # in the configuration already
            if name not in wanted:
                raise self._file.refused(f"holds the tensor {name[:100]}, which is not part of the model described")
            _, sizes = wanted[name]
            if tensor.shape != sizes:
                raise self._file.refused(
                    f"gives tensor {name} shape {list(tensor.shape)}; its metadata asks for {list(sizes)}"
                )
        missing = next((name for name in wanted if name not in self._file.tensors), None)
        if missing is not None:
            raise self._file.refused(f"lacks the tensor {missing}")
        return {name: self._file.tensors[in_file] for in_file, (name, _) in wanted.items()}


def _name_in_file(name: str) -> str:
    if name in _NAMES:
        return _NAMES[name]
    layer, _, part = name.removeprefix("model.layers.").partition(".")
    part, _, kind = part.rpartition(".")
    return f"blk.{layer}.{_LAYER_NAMES[part]}.{kind}"


def _rows_in_file(rows: NDArray[np.int64], head_dim: int) -> NDArray[np.int64]:
    """Map rows of a query or key projection to rows in the file: row ``i + half * s`` of a head is row ``2i + s``."""
    half = head_dim // 2
    heads, within = np.divmod(rows, head_dim)
    second, pair = np.divmod(within, half)
    return heads * head_dim + 2 * pair + second


def _held_form(tensor: GgufTensor) -> HeldForm:
    kind = tensor.type.name
    form = WeightsFormat.INT4 if kind in ("Q4_0", "Q4_1") else WeightsFormat.INT8
    return HeldForm(kind=kind, format=form, group=_GROUP, exact=kind in EXACT, has_zeros=kind == "Q4_1")
