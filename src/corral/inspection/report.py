"""What is known of a checkpoint, and why it cannot be served."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsFacts:
    """The files with the weights."""

    format: str
    """For people: ``safetensors``, ``GGUF, 3 parts``."""
    files: tuple[str, ...]
    size_bytes: int
    types: tuple[str, ...]
    """Data types of the tensors, the one of most bytes first: ``BF16``, ``Q4_K``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """The model that the configuration describes. None where the configuration does not say."""

    architecture: str | None
    """As the configuration names it: ``LlamaForCausalLM``, ``llama``."""
    parameters: int | None
    context_tokens: int | None
    vocab_size: int | None
    """Rows of the embedding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerFacts:
    """The tokenizer that would be used."""

    file: str
    kind: str
    """For people: ``SentencePiece``, ``byte-level BPE``."""
    vocab_size: int
    bos: str | None
    """Text of the token that leads each prompt; None if none does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndToken:
    """A token that ends an answer."""

    token_id: int
    text: str
    sources: tuple[str, ...]
    """The files that say so, and ``the chat format``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A conversation as the model would read it."""

    text: str
    """With control tokens as their texts."""
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatFacts:
    """The chat format."""

    format: str | None
    """None: chats are refused, and raw prompts are answered."""
    evidence: str
    """Why it is this one, or why there is none; a sentence."""
    example: Example | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageFacts:
    """Memory of the model with its weights in one storage format."""

    quantize: str
    """The value of ``--quantize``: ``f32``, ``bf16``, ``int8``, ``int4``."""
    stored_as: str
    """What most weights become: ``int8``, ``int8 from Q4_K``."""
    weights_bytes: int
    loaded_bytes: int
    """Weights, processes, and a KV cache of one whole context."""
    conversion_bytes: int
    """Most memory of the first start, which converts the weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointReport:
    """What is known of a checkpoint. Parts that could not be found out are None or empty."""

    path: str
    weights: WeightsFacts | None
    model: ModelFacts | None
    tokenizer: TokenizerFacts | None
    end_tokens: tuple[EndToken, ...]
    chat: ChatFacts | None
    storage: tuple[StorageFacts, ...]
    warnings: tuple[str, ...]
    """Sentences about what is served and may surprise."""
    refusals: tuple[str, ...]
    """Sentences about why it is not served; empty if it is."""

    @property
    def is_served(self) -> bool:
        """Whether ``corral serve`` would serve it, given enough memory."""
        return not self.refusals
