"""``tokenizer.json`` documents of vocabularies that are published as ranked byte strings, in the format of tiktoken."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from corral.checkpoints.tokenizers.byte_level import LETTERS


def tiktoken_document(
    path: Path, control: Sequence[str], *, pre_tokenizer: dict[str, Any], ignore_merges: bool = False, nfc: bool = False
) -> dict[str, Any]:
    """Convert a file of lines of a piece in Base64 and its rank; the control tokens get the ids after the last rank."""
    ranks = {base64.b64decode(piece): int(rank) for piece, rank in map(str.split, path.read_text().splitlines())}
    added = [{"id": len(ranks) + index, "content": text, "special": True} for index, text in enumerate(control)]
    return {
        "added_tokens": added,
        "normalizer": {"type": "NFC"} if nfc else None,
        "pre_tokenizer": pre_tokenizer,
        "model": {
            "type": "BPE",
            "ignore_merges": ignore_merges,
            "vocab": {_spelled(piece): rank for piece, rank in ranks.items()},
            "merges": [[_spelled(left), _spelled(right)] for left, right in _merges(ranks)],
        },
    }


def _merges(ranks: Mapping[bytes, int]) -> Iterator[tuple[bytes, bytes]]:
    """List the merge that makes each piece: of the two parts that lower ranks leave of it."""
    for piece, rank in sorted(ranks.items(), key=lambda item: item[1]):
        parts = [piece[at : at + 1] for at in range(len(piece))]
        while len(parts) > 2:
            pairs = [ranks.get(parts[at] + parts[at + 1], rank) for at in range(len(parts) - 1)]
            best = min(range(len(pairs)), key=pairs.__getitem__)
            if pairs[best] >= rank:
                break
            parts[best : best + 2] = [parts[best] + parts[best + 1]]
        if len(parts) == 2:
            yield parts[0], parts[1]


def _spelled(piece: bytes) -> str:
    return "".join(LETTERS[byte] for byte in piece)
