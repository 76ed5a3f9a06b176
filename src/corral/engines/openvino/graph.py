"""Build the OpenVINO graph of a model from its shape and weights.

The graph is stateful: past keys and values are variables, which GenAI's pipeline rewrites to paged attention. RMS
norm, rotary embeddings (half-rotation form, https://arxiv.org/abs/2104.09864), grouped-query attention and SwiGLU are
those of Llama 2 (https://arxiv.org/abs/2307.09288). The shape switches biases and the norms of queries and keys.
"""

from pathlib import Path
from typing import Protocol

import numpy as np
import openvino as ov
from openvino import Node
from openvino import opset13 as ops
from openvino.op.util import Variable, VariableInfo

from corral.checkpoints.architectures.shape import AttentionShape, ModelShape
from corral.engines.openvino.options import WeightsFormat
from corral.engines.openvino.quantize import StoredTensor


class WeightNodes(Protocol):
    """Provides weights as graph nodes, by their Transformers names."""

    def matrix(self, name: str) -> Node:
        """Float32 ``(out, in)``."""
        ...

    def vector(self, name: str) -> Node:
        """Float32 ``(1, 1, width)``."""
        ...


class BlobWeights:
    """Weights in a file written by ``quantize.write_tensors``.

    The constants refer to the memory-mapped file, so this object must outlive the model.
    """

    def __init__(self, path: Path, plan: list[StoredTensor]) -> None:
        self._blob = np.memmap(path, np.uint8, mode="r+")
        self._tensors = {tensor.name: tensor for tensor in plan}
        self._matrices: dict[str, Node] = {}

    def vector(self, name: str) -> Node:
        """Float32 ``(1, 1, width)``."""
        tensor = self._tensors[name]
        return self._constant(tensor.offset, tensor.size_bytes, (1, 1, tensor.columns), ov.Type.f32)

    def matrix(self, name: str) -> Node:
        """Float32 ``(out, in)``, in the form that the CPU plugin keeps compressed; cached."""
        if name not in self._matrices:
            self._matrices[name] = self._decompressed(self._tensors[name])
        return self._matrices[name]

    def _decompressed(self, tensor: StoredTensor) -> Node:
        rows, columns = tensor.rows, tensor.columns
        match tensor.format:
            case WeightsFormat.F32:
                return self._constant(tensor.offset, tensor.size_bytes, (rows, columns), ov.Type.f32)
            case WeightsFormat.BF16:
                values = self._constant(tensor.offset, tensor.size_bytes, (rows, columns), ov.Type.bf16)
                return ops.convert(values, "f32")
            case WeightsFormat.INT8:
                return self._groups(tensor, ov.Type.i8)
            case WeightsFormat.INT4:
                return self._groups(tensor, ov.Type.u4 if tensor.zeros_bytes else ov.Type.i4)

    def _groups(self, tensor: StoredTensor, kind: ov.Type) -> Node:
        rows, columns = tensor.rows, tensor.columns
        groups = columns // tensor.group
        if groups == 1:
            return ops.convert(self._scaled(tensor, (rows, columns), (rows, 1), kind), "f32")
        scaled = self._scaled(tensor, (rows, groups, tensor.group), (rows, groups, 1), kind)
        return ops.convert(ops.reshape(scaled, _ints(rows, columns), special_zero=False), "f32")

    def _scaled(
        self, tensor: StoredTensor, shape: tuple[int, ...], scales_shape: tuple[int, ...], kind: ov.Type
    ) -> Node:
        values = self._constant(tensor.offset, tensor.size_bytes, shape, kind)
        scales = self._constant(tensor.scales_offset, tensor.scales_bytes, scales_shape, ov.Type.f16)
        if not tensor.zeros_bytes:
            return ops.multiply(ops.convert(values, "f16"), scales)
        zeros = self._constant(tensor.zeros_offset, tensor.zeros_bytes, scales_shape, ov.Type.f32)
        return ops.multiply(ops.subtract(ops.convert(values, "f32"), zeros), ops.convert(scales, "f32"))

    def _constant(self, offset: int, size_bytes: int, shape: tuple[int, ...], kind: ov.Type) -> Node:
        raw = self._blob[offset : offset + size_bytes]
        return ops.constant(ov.Tensor(raw, ov.Shape(list(shape)), kind), shared_memory=True)


def build_model(shape: ModelShape, weights: WeightNodes) -> ov.Model:
    """Build the graph with token ids ``(batch, tokens)`` as input and logits ``(batch, tokens, vocab)`` as output."""
    ids = _input("input_ids", [-1, -1], ov.Type.i64)
    padding = _input("attention_mask", [-1, -1], ov.Type.i64)
    positions = _input("position_ids", [-1, -1], ov.Type.i64)
    beams = _input("beam_idx", [-1], ov.Type.i32)
    embedding = weights.matrix("model.embed_tokens.weight")
    # Ids beyond the vocabulary are aliases (modulo its size), which match no prefix in the cache; see ``echo``.
    hidden = ops.gather(embedding, ops.mod(ids, _ints(shape.vocab_size)), _ints(0))
    layers = _Layers(shape, weights, positions=positions, padding=padding, beams=beams)
    for layer in range(shape.layers):
        hidden = layers.apply(layer, hidden)
    hidden = _rms_norm(hidden, weights.vector("model.norm.weight"), shape.rms_norm_eps)
    head = embedding if shape.tied_embeddings else weights.matrix("lm_head.weight")
    # The pipeline computes only the last row of each sequence if this product is connected directly to the result.
    logits = _linear(hidden, head)
    logits.output(0).set_names({"logits"})
    result = ops.result(logits)
    # The type stubs declare only the constructor of the wrapped class.
    return ov.Model([result], layers.sinks, [ids, padding, positions, beams], shape.architecture)  # pyright: ignore[reportGeneralTypeIssues]


class _Layers:
    """Builds the decoder layers and holds their shared nodes."""

    def __init__(self, shape: ModelShape, weights: WeightNodes, *, positions: Node, padding: Node, beams: Node) -> None:
        self.sinks: list[Node] = []
        self._shape = shape
        self._weights = weights
        self._beams = beams
        self._cos, self._sin = _rotary_tables(positions, shape.attention)
        self._mask = _causal_mask(positions, padding)
        self._batch = ops.gather(ops.shape_of(positions, "i64"), _ints(0), _ints(0))

    def apply(self, layer: int, hidden: Node) -> Node:
        """Build one decoder layer; input and output are ``(batch, tokens, hidden)``."""
        prefix, eps = f"model.layers.{layer}.", self._shape.rms_norm_eps
        normed = _rms_norm(hidden, self._weights.vector(prefix + "input_layernorm.weight"), eps)
        hidden = ops.add(hidden, self._attend(layer, prefix + "self_attn.", normed))
        normed = _rms_norm(hidden, self._weights.vector(prefix + "post_attention_layernorm.weight"), eps)
        gate = ops.swish(_linear(normed, self._weights.matrix(prefix + "mlp.gate_proj.weight")))
        up = _linear(normed, self._weights.matrix(prefix + "mlp.up_proj.weight"))
        return ops.add(hidden, _linear(ops.multiply(gate, up), self._weights.matrix(prefix + "mlp.down_proj.weight")))

    def _attend(self, layer: int, prefix: str, normed: Node) -> Node:
        shape = self._shape.attention
        query = self._rotate(self._normed_heads(normed, prefix + "q", shape.heads))
        key = self._rotate(self._normed_heads(normed, prefix + "k", shape.kv_heads))
        value = self._heads(normed, prefix + "v_proj", shape.kv_heads)
        key = self._repeat(self._remember(f"past_key_values.{layer}.keypresent.{layer}.key", key))
        value = self._repeat(self._remember(f"past_key_values.{layer}.valuepresent.{layer}.value", value))
        attended = ops.scaled_dot_product_attention(query, key, value, self._mask)
        joined = ops.reshape(ops.transpose(attended, _ints(0, 2, 1, 3)), _ints(0, 0, shape.query_width), True)
        return self._project(joined, prefix + "o_proj", has_bias=shape.output_bias)

    def _normed_heads(self, normed: Node, prefix: str, heads: int) -> Node:
        """Project to queries or keys, with a norm over each head where the architecture has one."""
        split = self._heads(normed, prefix + "_proj", heads)
        if not self._shape.attention.qk_norm:
            return split
        return _rms_norm(split, self._weights.vector(prefix + "_norm.weight"), self._shape.rms_norm_eps)

    def _heads(self, normed: Node, name: str, heads: int) -> Node:
        """Project and split into heads: ``(batch, heads, tokens, head_dim)``."""
        shape = self._shape.attention
        projected = self._project(normed, name, has_bias=shape.qkv_bias)
        split = ops.reshape(projected, _ints(0, 0, heads, shape.head_dim), True)
        return ops.transpose(split, _ints(0, 2, 1, 3))

    def _project(self, rows: Node, name: str, *, has_bias: bool) -> Node:
        projected = _linear(rows, self._weights.matrix(name + ".weight"))
        return ops.add(projected, self._weights.vector(name + ".bias")) if has_bias else projected

    def _rotate(self, heads: Node) -> Node:
        """Apply rotary embeddings to the pairs ``(i, i + head_dim / 2)``."""
        half = self._shape.attention.head_dim // 2
        split = ops.variadic_split(heads, _ints(3).output(0), _ints(half, half).output(0))
        swapped = ops.concat([ops.multiply(split.output(1), _float(-1.0)), split.output(0)], -1)
        return ops.add(ops.multiply(heads, self._cos), ops.multiply(swapped, self._sin))

    def _remember(self, name: str, rows: Node) -> Node:
        """Append to the past keys or values: ``(batch, kv_heads, past + tokens, head_dim)``."""
        shape = self._shape.attention
        info = VariableInfo()
        info.data_shape = ov.PartialShape([-1, shape.kv_heads, -1, shape.head_dim])
        info.data_type = ov.Type.f32
        info.variable_id = name
        variable = Variable(info)
        sizes = ops.concat([self._batch, _ints(shape.kv_heads), _ints(0), _ints(shape.head_dim)], 0)
        past = ops.read_value(ops.broadcast(_float(0.0), sizes), variable)
        joined = ops.concat([ops.gather(past, self._beams, _ints(0)), rows], 2)
        self.sinks.append(ops.assign(joined, variable))
        return joined

    def _repeat(self, rows: Node) -> Node:
        """Repeat key or value heads for each query head: ``(batch, heads, tokens, head_dim)``."""
        shape = self._shape.attention
        times = shape.heads // shape.kv_heads
        if times == 1:
            return rows
        wide = ops.broadcast(ops.unsqueeze(rows, _ints(2)), _ints(1, 1, times, 1, 1), broadcast_spec="BIDIRECTIONAL")
        return ops.reshape(wide, _ints(0, shape.heads, -1, shape.head_dim), True)


def _rotary_tables(positions: Node, shape: AttentionShape) -> tuple[Node, Node]:
    """Compute cosines and sines, ``(batch, 1, tokens, head_dim)``."""
    frequencies = np.array(shape.rope.frequencies(shape.head_dim), np.float32).reshape(1, -1, 1)
    rows = ops.convert(ops.unsqueeze(positions, _ints(1)), "f32")
    angles = ops.transpose(ops.matmul(ops.constant(frequencies), rows, False, False), _ints(0, 2, 1))
    both = ops.unsqueeze(ops.concat([angles, angles], -1), _ints(1))
    return ops.cos(both), ops.sin(both)


def _causal_mask(positions: Node, padding: Node) -> Node:
    """Compute the attention mask, true where attended: ``(batch, 1, tokens, past + tokens)``."""
    length = ops.gather(ops.shape_of(padding, "i64"), _ints(1), _ints(0))
    keys = ops.range(ops.constant(np.int64(0)), ops.squeeze(length, _ints(0)), ops.constant(np.int64(1)), "i64")
    causal = ops.less_equal(keys, ops.unsqueeze(ops.unsqueeze(positions, _ints(1)), _ints(3)))
    present = ops.not_equal(ops.unsqueeze(ops.unsqueeze(padding, _ints(1)), _ints(1)), _ints(0))
    return ops.logical_and(causal, present)


def _rms_norm(hidden: Node, weight: Node, eps: float) -> Node:
    """RMS norm over the last axis, https://arxiv.org/abs/1910.07467."""
    mean = ops.reduce_mean(ops.power(hidden, _float(2.0)), _ints(-1), True)
    inverse = ops.divide(_float(1.0), ops.sqrt(ops.add(mean, _float(eps))))
    return ops.multiply(weight, ops.multiply(hidden, inverse))


def _linear(hidden: Node, matrix: Node) -> Node:
    return ops.matmul(hidden, matrix, False, True)


def _input(name: str, shape: list[int], kind: ov.Type) -> Node:
    node = ops.parameter(shape, kind, name)
    # The rewrite to paged attention finds inputs by friendly name, the pipeline by tensor name.
    node.set_friendly_name(name)
    node.output(0).set_names({name})
    return node


def _ints(*values: int) -> Node:
    return ops.constant(np.array(values, np.int64))


def _float(value: float) -> Node:
    return ops.constant(np.float32(value))
