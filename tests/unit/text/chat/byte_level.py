"""A small byte-level tokenizer: every byte, merges of a few words, and control tokens by their texts."""

from collections.abc import Sequence

from tokenizers import Tokenizer as Bpe
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

_WORDS = (
    *("user", "assistant", "system", "USER", "ASSISTANT", "INST", "SYS"),
    *("Instruction", "Response", "###", "<|", "|>"),
)


class ByteLevelTokenizer:
    """Encodes bytes, and merges the words that chat formats use, with and without a space in front."""

    adds_space = False

    def __init__(self, control: Sequence[str], *, bos: str | None = None, ends: Sequence[str] = ()) -> None:
        alphabet = sorted(ByteLevel.alphabet())
        vocab = {piece: index for index, piece in enumerate(alphabet)}
        merges: list[tuple[str, str]] = []
        for word in [spelled for each in _WORDS for spelled in (each, f"\u0120{each}")]:
            for cut in range(1, len(word)):
                if word[: cut + 1] not in vocab:
                    vocab[word[: cut + 1]] = len(vocab)
                    merges.append((word[:cut], word[cut]))
        self.control_ids = {text: len(vocab) + index for index, text in enumerate(control)}
        self.bos_token_id = None if bos is None else self.control_ids[bos]
        self.end_ids = frozenset(self.control_ids[text] for text in ends)
        self.vocab_size = len(vocab) + len(control)
        self._bpe = Bpe(BPE(vocab=vocab, merges=merges))
        self._bpe.pre_tokenizer = ByteLevel(add_prefix_space=False)
        byte_of = {piece: byte for byte, piece in _bytes_by_letter().items()}
        self._pieces = {index: bytes(byte_of[letter] for letter in piece) for piece, index in vocab.items()}
        self.longest_piece_chars = max(map(len, vocab))

    def encode(self, text: str) -> list[int]:
        """Encode text; never a control token."""
        return self._bpe.encode(text).ids

    def piece_bytes(self, token_id: int) -> bytes:
        """Get the bytes of a token; empty for control tokens."""
        return self._pieces.get(token_id, b"")


def _bytes_by_letter() -> dict[int, str]:
    """Get the letter that stands for each byte, by the rule of GPT-2: printable ones stand for themselves."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("\u00a1"), ord("\u00ac") + 1), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + index) for index, byte in enumerate(others)}
