"""Sizes and constants of a model: everything that its graph depends on besides the weights."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Rope:
    """Rotary positions, https://arxiv.org/abs/2104.09864: pair ``i`` of a head turns by ``frequencies[i]`` a token."""

    theta: float
    divisors: tuple[float, ...] | None = None
    """Divides each frequency, for contexts longer than those of the first training; None divides none."""

    def frequencies(self, head_dim: int) -> tuple[float, ...]:
        """Compute the radians per token of each of the ``head_dim / 2`` pairs."""
        plain = tuple(self.theta ** (-2 * pair / head_dim) for pair in range(head_dim // 2))
        if self.divisors is None:
            return plain
        return tuple(frequency / divisor for frequency, divisor in zip(plain, self.divisors, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionShape:
    """Sizes and variants of the attention of a layer."""

    heads: int
    kv_heads: int
    head_dim: int
    rope: Rope
    qkv_bias: bool = False
    """The projections to queries, keys and values add a bias."""
    output_bias: bool = False
    """The projection of the output adds a bias."""
    qk_norm: bool = False
    """RMS norm over each head of queries and keys, before the rotation."""

    @property
    def query_width(self) -> int:
        """Width of all query heads together."""
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Width of all key heads together, and of all value heads."""
        return self.kv_heads * self.head_dim


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """Sizes and constants of a decoder with RMS norm, rotary positions and SwiGLU."""

    architecture: str
    """Name in the registry: ``llama``, ``mistral``, ``qwen2``, ``qwen3``."""
    hidden_size: int
    intermediate_size: int
    layers: int
    attention: AttentionShape
    vocab_size: int
    position_tokens: int
    """Context that the model was made for."""
    window_tokens: int | None = None
    """Tokens that a layer looks back on, itself included; None: all."""
    rms_norm_eps: float
    tied_embeddings: bool

    @property
    def context_tokens(self) -> int:
        """Longest context whose answers are exact: within a window, attention over it and over everything are equal."""
        return min(self.position_tokens, self.window_tokens or self.position_tokens)

    @property
    def context_note(self) -> str | None:
        """Why the context is shorter than the model's, as a sentence; None if it is not."""
        if self.context_tokens == self.position_tokens:
            return None
        return (
            f"The context is limited to {self.context_tokens} of the model's {self.position_tokens} tokens: its "
            f"layers look back on a sliding window of {self.window_tokens} tokens, beyond which nothing is computed."
        )

    @property
    def parameters(self) -> int:
        """Number of weights, tied ones counted once."""
        return sum(rows * (columns[0] if columns else 1) for rows, *columns in self.tensors().values())

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """List the model's tensors by their Transformers names, with shapes ``(out, in)`` or ``(width,)``."""
        wanted: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (self.vocab_size, self.hidden_size)}
        for layer in range(self.layers):
            wanted |= {f"model.layers.{layer}.{name}": sizes for name, sizes in self._layer_tensors().items()}
        wanted["model.norm.weight"] = (self.hidden_size,)
        if not self.tied_embeddings:
            wanted["lm_head.weight"] = (self.vocab_size, self.hidden_size)
        return wanted

    def _layer_tensors(self) -> dict[str, tuple[int, ...]]:
        attention, hidden = self.attention, self.hidden_size
        wanted: dict[str, tuple[int, ...]] = {"input_layernorm.weight": (hidden,)}
        projections = {"q": attention.query_width, "k": attention.kv_width, "v": attention.kv_width}
        for part, width in projections.items():
            wanted[f"self_attn.{part}_proj.weight"] = (width, hidden)
            if attention.qkv_bias:
                wanted[f"self_attn.{part}_proj.bias"] = (width,)
        if attention.qk_norm:
            wanted |= {f"self_attn.{part}_norm.weight": (attention.head_dim,) for part in ("q", "k")}
        wanted["self_attn.o_proj.weight"] = (hidden, attention.query_width)
        if attention.output_bias:
            wanted["self_attn.o_proj.bias"] = (hidden,)
        return wanted | {
            "post_attention_layernorm.weight": (hidden,),
            "mlp.gate_proj.weight": (self.intermediate_size, hidden),
            "mlp.up_proj.weight": (self.intermediate_size, hidden),
            "mlp.down_proj.weight": (hidden, self.intermediate_size),
        }
