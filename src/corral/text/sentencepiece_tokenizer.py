"""Tokenizer from a SentencePiece model."""

from collections.abc import Mapping
from typing import cast

from sentencepiece import SentencePieceProcessor

from corral.core.errors import CheckpointRefused
from corral.text.tokenizer import bytes_of_piece, longest_piece_chars, missing_byte_piece

_PROBE = "a  b <s>\n"
"""Text that survives encoding and decoding only if the tokenizer changes nothing but one added leading space."""


class SentencePieceTokenizer:
    """A ``Tokenizer`` with a SentencePiece model. SentencePiece never encodes text to control pieces."""

    def __init__(self, model: bytes, *, file: str = "tokenizer.model") -> None:
        """Load a serialized SentencePiece model.

        Args:
            model: a ``ModelProto``.
            file: name of its file, for error messages.

        Raises:
            CheckpointRefused: *model* is damaged, or not a Llama 2 tokenizer.
        """
        self._file = file
        self._processor = _load(model, file)
        self._vocab_size = self._processor.GetPieceSize()
        ids = range(self._vocab_size)
        pieces = [self._processor.IdToPiece(i) for i in ids]
        self._pieces = tuple(b"" if self._is_control(i) else bytes_of_piece(pieces[i]) for i in ids)
        self._longest_piece_chars = longest_piece_chars(self._pieces)
        self._control_ids = {pieces[i]: i for i in ids if self._is_control(i)}
        self._bos_token_id = self._control_id("<s>")
        self._end_ids = frozenset({self._control_id("</s>")})
        if missing := missing_byte_piece(pieces):
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
    def bos_token_id(self) -> int:
        """Id of ``<s>``."""
        return self._bos_token_id

    @property
    def end_ids(self) -> frozenset[int]:
        """Id of ``</s>``."""
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

    def _control_id(self, piece: str) -> int:
        token_id = self._processor.PieceToId(piece)
        if self._processor.IdToPiece(token_id) != piece or not self._processor.IsControl(token_id):
            raise CheckpointRefused(f"{self._file} has no control piece {piece}.")
        return token_id


def _load(model: bytes, file: str) -> SentencePieceProcessor:
    processor = SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(model)
    except RuntimeError as error:
        raise CheckpointRefused(f"{file} holds no SentencePiece model, or a damaged one.") from error
    return processor
