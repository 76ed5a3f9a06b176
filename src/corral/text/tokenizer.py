"""Tokenizers of Llama-2 checkpoints, behind the four questions the rest of Corral asks."""

from typing import Protocol


class Tokenizer(Protocol):
    """A Llama-2-style byte-fallback BPE tokenizer. Never adds BOS or EOS by itself."""

    @property
    def vocab_size(self) -> int:
        """Ids are in [0, vocab_size)."""
        ...

    @property
    def bos_token_id(self) -> int:
        """Id of ``<s>``."""
        ...

    @property
    def eos_token_id(self) -> int:
        """Id of ``</s>``."""
        ...

    def encode(self, text: str) -> list[int]:
        """Ids of text as data: no text, ``</s>`` included, becomes a control token."""
        ...

    def piece_bytes(self, token_id: int) -> bytes:
        """UTF-8 bytes that an id stands for, spaces included; a lone byte for byte tokens, nothing for control tokens."""
        ...
