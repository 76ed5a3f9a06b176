"""Write the byte-level vocabulary of a GGUF file as a ``tokenizer.json``."""

import json
from typing import Final

from corral.checkpoints.config import as_written
from corral.checkpoints.tokenizers.gguf_tokens import CONTROL, UNKNOWN, UNUSED, USER_DEFINED, GgufTokens
from corral.checkpoints.tokenizers.splitting import GGUF_FAMILIES, GgufFamily, pre_tokenizer_document
from corral.checkpoints.vocabulary import Vocabulary

_SPECIAL: Final = frozenset({UNKNOWN, CONTROL})


def byte_level_vocabulary(tokens: GgufTokens) -> Vocabulary:
    """Convert the vocabulary. Unused tokens, which only pad the embedding, are left out.

    Raises:
        CheckpointRefused: it is not supported; the message names the key and its value.
    """
    family = _family(tokens)
    if tokens.flag("add_space_prefix", default=False):
        raise tokens.refused("add_space_prefix", "is true; only false is supported for byte-level vocabularies")
    merges = tokens.metadata.get("merges")
    if not isinstance(merges, list):
        raise tokens.refused("merges", "is no list of strings")
    ids = {piece: token_id for token_id, piece in enumerate(tokens.tokens)}
    if len(ids) != len(tokens.tokens):
        twice = next(piece for token_id, piece in enumerate(tokens.tokens) if ids[piece] != token_id)
        raise tokens.refused("tokens", f"has the piece {as_written(twice)} twice")
    types = dict(zip(tokens.tokens, tokens.types, strict=True))
    added = [
        {"id": ids[piece], "content": piece, "special": kind in _SPECIAL, "normalized": False}
        for piece, kind in types.items()
        if kind in _SPECIAL or kind == USER_DEFINED
    ]
    vocab = {piece: token_id for piece, token_id in ids.items() if types[piece] != UNUSED}
    document: dict[str, object] = {
        "added_tokens": added,
        "normalizer": {"type": "NFC"} if family.nfc else None,
        "pre_tokenizer": pre_tokenizer_document(family.splitting),
        "model": {"type": "BPE", "ignore_merges": family.ignore_merges, "vocab": vocab, "merges": merges},
    }
    return Vocabulary(
        file=tokens.file,
        kind="tokenizer.json",
        content=json.dumps(document).encode(),
        declared=tokens.declared(adds_bos=family.adds_bos),
    )


def _family(tokens: GgufTokens) -> GgufFamily:
    name = tokens.text("pre")
    family = None if name is None else GGUF_FAMILIES.get(name)
    if family is None:
        said = "is missing" if name is None else f"is {as_written(name)}"
        raise tokens.refused(
            "pre", f"{said}; only {', '.join(GGUF_FAMILIES)} are supported. It says how text is cut into words"
        )
    return family
