"""Tokenizer from a SentencePiece model."""

from collections.abc import Mapping
from typing import Final, cast

from sentencepiece import SentencePieceProcessor

from corral.checkpoints.config import as_written
from corral.checkpoints.tokenizers.byte_fallback import bytes_of_piece, missing_byte_piece
from corral.checkpoints.vocabulary import Vocabulary
from corral.core.errors import CheckpointRefused
from corral.text.tokenizer import longest_piece_chars

_BOS: Final = "<s>"
_EOS: Final = "</s>"
_PROBE: Final = "a  b <s>\n"
"""Text that survives encoding and decoding only if the tokenizer changes nothing but one added leading space."""


class SentencePieceTokenizer:
    """A ``Tokenizer`` with a SentencePiece model. SentencePiece never encodes text to control pieces."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        """Load a serialized SentencePiece model, a ``ModelProto``.

        Raises:
            CheckpointRefused: it is damaged, or encodes text by other rules than Llama 2's tokenizer.
        """
        self._vocabulary = vocabulary
        file = vocabulary.file
        self._processor = _load(vocabulary)
        self._vocab_size = self._processor.GetPieceSize()
        ids = range(self._vocab_size)
        names = [self._processor.IdToPiece(i) for i in ids]
        self._pieces = tuple(b"" if self._is_control(i) else bytes_of_piece(names[i]) for i in ids)
        self._longest_piece_chars = longest_piece_chars(self._pieces)
        self._control_ids = {names[i]: i for i in ids if self._is_control(i)}
        declared = vocabulary.declared
        bos = None if declared.adds_bos is False else _BOS if declared.bos is None else declared.bos
        self._bos_token_id = None if bos is None else self._control_id("bos_token", bos)
        self._end_ids = frozenset(self._control_id("eos_token", end) for end in declared.ends or (_EOS,))
        if missing := missing_byte_piece(names):
            raise CheckpointRefused(f"{file} has no piece {missing}; only byte fallback is served.")
        if b"".join(self._pieces[token_id] for token_id in self.encode(_PROBE)) != f" {_PROBE}".encode():
            raise CheckpointRefused(f"{file} does not keep text and spaces as Llama 2's tokenizer does.")

    @property
    def vocab_size(self) -> int:
        """Size of the vocabulary."""
        return self._vocab_size

    @property
    def control_ids(self) -> Mapping[str, int]:
        """Ids of the control pieces and of ``<unk>``."""
        return self._control_ids

    @property
    def bos_token_id(self) -> int | None:
        """Id of ``<s>``, or of the token that the checkpoint names; None if it wants none."""
        return self._bos_token_id

    @property
    def end_ids(self) -> frozenset[int]:
        """Id of ``</s>``, or of the tokens that the checkpoint names."""
        return self._end_ids

    @property
    def adds_space(self) -> bool:
        """True."""
        return True

    @property
    def longest_piece_chars(self) -> int:
        """Characters of the longest piece."""
        return self._longest_piece_chars

    def encode(self, text: str) -> list[int]:
        """Encode text without control tokens: also ``</s>`` in it is encoded as plain text."""
        return cast("list[int]", self._processor.EncodeAsIds(text))

    def piece_bytes(self, token_id: int) -> bytes:
        """Get the UTF-8 bytes of a token; empty for control tokens and ids outside the vocabulary."""
        return self._pieces[token_id] if 0 <= token_id < self._vocab_size else b""

    def _is_control(self, token_id: int) -> bool:
        return bool(self._processor.IsControl(token_id) or self._processor.IsUnknown(token_id))

    def _control_id(self, field: str, token: str | int) -> int:
        found = self._control_ids.get(token) if isinstance(token, str) else token
        if found is not None and found in self._control_ids.values():
            return found
        stated = self._vocabulary.declared
        if token in (stated.bos, *stated.ends):
            raise CheckpointRefused(
                f"{stated.file}: {field} is {as_written(token)}, which is no control piece of {self._vocabulary.file}."
            )
        raise CheckpointRefused(f"{self._vocabulary.file} has no control piece {token}.")


def _load(vocabulary: Vocabulary) -> SentencePieceProcessor:
    processor = SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(vocabulary.content)
    except RuntimeError as error:
        raise CheckpointRefused(f"{vocabulary.file} holds no SentencePiece model, or a damaged one.") from error
    return processor
