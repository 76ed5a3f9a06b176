"""The Llama 2 architecture in plain PyTorch, small enough to read in one go.

Parameter names equal those of a Hugging Face ``LlamaForCausalLM`` checkpoint, and the rotary
embedding is the half-rotation form such checkpoints use, so exporting is a plain copy.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class LlamaShape:
    """The numbers that fix the architecture; sizes are counts of elements."""

    vocab: int = 4096
    hidden: int = 256
    layers: int = 6
    heads: int = 4
    ffn: int = 704
    context_tokens: int = 4096
    norm_eps: float = 1e-5
    rope_theta: float = 10000.0

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden // self.heads


class RMSNorm(nn.Module):
    """Root-mean-square norm with a learned gain of shape (hidden,)."""

    def __init__(self, hidden: int, eps: float) -> None:
        """Start with unit gain."""
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis of x, (batch, tokens, hidden), in float32."""
        return functional.rms_norm(x.float(), self.weight.shape, self.weight, self.eps)


def rope_tables(positions: Tensor, shape: LlamaShape) -> tuple[Tensor, Tensor]:
    """Return cos and sin, each (batch, 1, tokens, head_dim), for positions (batch, tokens)."""
    steps = torch.arange(0, shape.head_dim, 2, dtype=torch.float32) / shape.head_dim
    frequencies = 1.0 / shape.rope_theta**steps  # (head_dim / 2,)
    angles = positions.float()[:, None, :, None] * frequencies  # (batch, 1, tokens, head_dim / 2)
    angles = torch.cat((angles, angles), dim=-1)  # (batch, 1, tokens, head_dim)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate x, (batch, heads, tokens, head_dim), by its positions: the pair of i is i + half."""
    first, second = x.chunk(2, dim=-1)
    return (x * cos + torch.cat((-second, first), dim=-1) * sin).to(x.dtype)


class Attention(nn.Module):
    """Causal self-attention with rotary positions and as many K/V heads as heads."""

    def __init__(self, shape: LlamaShape) -> None:
        """Create the four square projections, (hidden, hidden) each, without bias."""
        super().__init__()
        self.heads, self.head_dim = shape.heads, shape.head_dim
        self.q_proj = nn.Linear(shape.hidden, shape.hidden, bias=False)
        self.k_proj = nn.Linear(shape.hidden, shape.hidden, bias=False)
        self.v_proj = nn.Linear(shape.hidden, shape.hidden, bias=False)
        self.o_proj = nn.Linear(shape.hidden, shape.hidden, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Mix x, (batch, tokens, hidden), over earlier tokens; padding must be on the right."""
        batch, tokens, hidden = x.shape
        split = (batch, tokens, self.heads, self.head_dim)
        q = rotate(self.q_proj(x).view(split).transpose(1, 2), cos, sin)
        k = rotate(self.k_proj(x).view(split).transpose(1, 2), cos, sin)
        v = self.v_proj(x).view(split).transpose(1, 2)  # (batch, heads, tokens, head_dim)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(mixed.transpose(1, 2).reshape(batch, tokens, hidden))


class SwiGLU(nn.Module):
    """The gated feed-forward block: down(silu(gate(x)) * up(x))."""

    def __init__(self, shape: LlamaShape) -> None:
        """Create gate and up, (ffn, hidden), and down, (hidden, ffn)."""
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden, shape.ffn, bias=False)
        self.up_proj = nn.Linear(shape.hidden, shape.ffn, bias=False)
        self.down_proj = nn.Linear(shape.ffn, shape.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Transform x, (batch, tokens, hidden), token by token."""
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    """One decoder layer: attention and feed-forward, each on a normed residual."""

    def __init__(self, shape: LlamaShape) -> None:
        """Create the layer with the checkpoint's tensor names."""
        super().__init__()
        self.input_layernorm = RMSNorm(shape.hidden, shape.norm_eps)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = RMSNorm(shape.hidden, shape.norm_eps)
        self.mlp = SwiGLU(shape)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Return x, (batch, tokens, hidden), after this layer."""
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    """Embedding, layers and final norm: the ``model.`` part of the checkpoint."""

    def __init__(self, shape: LlamaShape) -> None:
        """Create an untrained decoder."""
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocab, shape.hidden)
        self.layers = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = RMSNorm(shape.hidden, shape.norm_eps)


class Llama(nn.Module):
    """A causal language model whose output matrix is its embedding, transposed."""

    def __init__(self, shape: LlamaShape) -> None:
        """Create the model with small random weights."""
        super().__init__()
        self.shape = shape
        self.model = Decoder(shape)
        residual_std = 0.02 / (2 * shape.layers) ** 0.5
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                into_residual = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(weight, std=residual_std if into_residual else 0.02)

    def hidden_states(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Return the final (batch, tokens, hidden) for ids and positions, (batch, tokens) each."""
        cos, sin = rope_tables(positions, self.shape)
        x = self.model.embed_tokens(ids)
        for block in self.model.layers:
            x = block(x, cos, sin)
        return self.model.norm(x)

    def logits(self, states: Tensor) -> Tensor:
        """Return (…, vocab) scores for states (…, hidden)."""
        return functional.linear(states, self.model.embed_tokens.weight)

    def parameter_count(self) -> int:
        """Count trained numbers; the shared embedding counts once."""
        return sum(weight.numel() for weight in self.parameters())
