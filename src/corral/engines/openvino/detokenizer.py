"""Write a checkpoint's vocabulary as a detokenizer model, which GenAI needs for structured output.

GenAI uses only the vocabulary in it: grammars match the bytes of the pieces.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import openvino as ov
from openvino import opset13, opset15
from openvino_tokenizers.tokenizer_pipeline import FuseStep, VocabDecoderStep
from sentencepiece import SentencePieceProcessor

from corral.checkpoints.tokenizers.bpe import read_bpe
from corral.checkpoints.tokenizers.byte_fallback import bytes_of_piece
from corral.checkpoints.vocabulary import Vocabulary
from corral.core.errors import CheckpointRefused

DETOKENIZER = "openvino_detokenizer.xml"
_NO_UTF8: Final = bytes((0xC0, 0xC1, *range(0xF5, 0x100)))
"""Bytes that never occur in UTF-8. Grammar engines would accept them as start of overlong characters."""


def read_pieces(vocabulary: Vocabulary, vocab_size: int) -> list[bytes]:
    """Get the bytes of each id below *vocab_size*; empty for control tokens and padding, which grammars never allow.

    Raises:
        CheckpointRefused: the vocabulary cannot be read.
    """
    match vocabulary.kind:
        case "tokenizer.json":
            found: Sequence[bytes] = read_bpe(vocabulary).pieces
        case "sentencepiece":
            found = _model_pieces(vocabulary)
    pieces = [b"" if piece.translate(None, _NO_UTF8) != piece else piece for piece in found[:vocab_size]]
    return pieces + [b""] * (vocab_size - len(pieces))


def _model_pieces(vocabulary: Vocabulary) -> list[bytes]:
    processor = SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(vocabulary.content)
    except RuntimeError as error:
        raise CheckpointRefused(f"{vocabulary.file} is not a SentencePiece model, or is damaged.") from error
    return [
        b"" if processor.IsControl(n) or processor.IsUnknown(n) else bytes_of_piece(processor.IdToPiece(n))
        for n in range(processor.GetPieceSize())
    ]


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
