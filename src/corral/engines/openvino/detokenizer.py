"""Write a checkpoint's vocabulary as a detokenizer model, which GenAI needs for structured output.

GenAI uses only the vocabulary in it. The tokenizer is not checked here: the server refuses unsupported tokenizers
before an engine starts.
"""

import re
from pathlib import Path

import msgspec
import openvino as ov
from openvino import opset13, opset15
from openvino_tokenizers.tokenizer_pipeline import FuseStep, VocabDecoderStep
from sentencepiece import SentencePieceProcessor

from corral.checkpoints.vocabulary import Vocabulary
from corral.core.errors import CheckpointRefused

DETOKENIZER = "openvino_detokenizer.xml"
_CONTROL_PIECES = {"<unk>", "<s>", "</s>"}
_BYTE_PIECE = re.compile(r"<0x[0-9A-F]{2}>")
_NO_UTF8 = frozenset((0xC0, 0xC1, *range(0xF5, 0x100)))
"""Bytes that never occur in UTF-8. Grammar engines would accept them as start of overlong characters."""
_WORD_BORDER = "\u2581"


class _AddedToken(msgspec.Struct):
    id: int
    content: str
    special: bool = False


class _Model(msgspec.Struct):
    vocab: dict[str, int]


class _File(msgspec.Struct):
    model: _Model
    added_tokens: list[_AddedToken] = []


def read_pieces(vocabulary: Vocabulary, vocab_size: int) -> list[bytes]:
    """Get the bytes of each id below *vocab_size*; empty for control tokens and padding, which grammars never allow.

    Raises:
        CheckpointRefused: the vocabulary cannot be read.
    """
    pieces = [b""] * vocab_size
    match vocabulary.kind:
        case "tokenizer.json":
            found = _json_pieces(vocabulary)
        case "sentencepiece":
            found = _model_pieces(vocabulary)
    for piece, token_id in found.items():
        if 0 <= token_id < vocab_size:
            pieces[token_id] = _bytes_of(piece)
    return pieces


def _bytes_of(piece: str) -> bytes:
    if _BYTE_PIECE.fullmatch(piece):
        byte = int(piece[3:5], 16)
        return b"" if byte in _NO_UTF8 else bytes([byte])
    return piece.replace(_WORD_BORDER, " ").encode()


def _json_pieces(vocabulary: Vocabulary) -> dict[str, int]:
    try:
        file = msgspec.json.decode(vocabulary.content, type=_File)
    except (msgspec.DecodeError, RecursionError) as error:
        raise CheckpointRefused(f"{vocabulary.file} cannot be read: {error}") from error
    ids = file.model.vocab | {token.content: token.id for token in file.added_tokens}
    control = _CONTROL_PIECES | {token.content for token in file.added_tokens if token.special}
    return {piece: token_id for piece, token_id in ids.items() if piece not in control}


def _model_pieces(vocabulary: Vocabulary) -> dict[str, int]:
    processor = SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(vocabulary.content)
    except RuntimeError as error:
        raise CheckpointRefused(f"{vocabulary.file} is not a SentencePiece model, or is damaged.") from error
    ids = range(processor.GetPieceSize())
    return {processor.IdToPiece(n): n for n in ids if not processor.IsControl(n) and not processor.IsUnknown(n)}


def save_detokenizer(pieces: list[bytes], directory: Path) -> None:
    """Write ``openvino_detokenizer.xml`` and ``.bin``: ids ``(texts, tokens)`` in, strings ``(texts,)`` out."""
    # GenAI rejects i32 ids, and fails without skipped tokens, because that constant is then folded away.
    ids = opset13.parameter([-1, -1], ov.Type.i64, "ids")
    skipped = [token_id for token_id, piece in enumerate(pieces) if not piece] or [0]
    decoder = VocabDecoderStep(vocab=pieces, skip_tokens=skipped, do_skip_tokens=True)  # pyright: ignore[reportArgumentType] - bytes are taken too
    decoded = decoder.get_ov_subgraph([opset13.convert(ids, "i32").output(0)])
    texts = opset15.string_tensor_pack(*FuseStep().get_ov_subgraph(decoded))
    texts.output(0).set_names({"string_output"})
    model = ov.Model([opset13.result(texts)], [ids], "detokenizer")  # pyright: ignore[reportGeneralTypeIssues]
    ov.save_model(model, directory / DETOKENIZER, compress_to_fp16=False)
