"""Tokenizer from a ``tokenizer.json`` file, using the ``tokenizers`` library.

Only the vocabulary and the merges are used from the file. The normalization is the same in all Llama 2 tokenizers (a
leading space, spaces replaced by U+2581) and is done here, so that the ids equal those of ``tokenizer.model``. Added
tokens are not passed to the library, so text never encodes to one.
"""

from collections.abc import Mapping, Sequence

import msgspec
from tokenizers import Tokenizer as Bpe
from tokenizers.models import BPE

from corral.core.errors import CheckpointRefused
from corral.text.tokenizer import BYTE_PIECES, WORD_BORDER, bytes_of_piece, longest_piece_chars, missing_byte_piece

_MAX_VOCAB_SIZE = 1_000_000
_CONTROL_PIECES = ("<s>", "</s>", "<unk>")


class _AddedToken(msgspec.Struct):
    id: int
    content: str
    special: bool = False


class _Model(msgspec.Struct):
    type: str = "BPE"
    vocab: dict[str, int] = {}
    merges: list[str | tuple[str, str]] = []
    byte_fallback: bool = False
    dropout: float | None = None
    ignore_merges: bool = False
    continuing_subword_prefix: str | None = None
    end_of_word_suffix: str | None = None


class _File(msgspec.Struct):
    model: _Model
    added_tokens: list[_AddedToken] = []
    normalizer: dict[str, object] | None = None
    pre_tokenizer: dict[str, object] | None = None


class _Kind(msgspec.Struct):
    type: str = "BPE"


class _Head(msgspec.Struct):
    """The fields needed to refuse another kind of tokenizer by name, before the rest is parsed."""

    model: _Kind
    pre_tokenizer: _Kind | None = None


class HfTokenizer:
    """A ``Tokenizer`` with the vocabulary and merges of a ``tokenizer.json``."""

    def __init__(self, document: bytes) -> None:
        """Load a serialized tokenizer.

        Raises:
            CheckpointRefused: *document* is damaged, or not a Llama 2 tokenizer; the message names field and value.
        """
        file = _parse(document)
        _check_kind(file)
        vocab = file.model.vocab
        ids = _all_ids(vocab, file.added_tokens)
        control = {token.content for token in file.added_tokens if token.special}.union(_CONTROL_PIECES)
        merges = _checked_merges(file.model.merges, vocab, protected=control.union(BYTE_PIECES))
        if missing := missing_byte_piece(vocab):
            raise CheckpointRefused(f"tokenizer.json: model.vocab has no {missing}; only byte fallback is served.")
        self._control_ids = {piece: ids[piece] for piece in sorted(control.intersection(ids))}
        self._bos_token_id = _control_id("<s>", ids)
        self._end_ids = frozenset({_control_id("</s>", ids)})
        self._pieces = _bytes_by_id(ids, control)
        self._longest_piece_chars = longest_piece_chars(self._pieces)
        # The cache would keep short prompts in memory and saves no time, because texts are not split into words.
        self._bpe = Bpe(BPE(vocab=vocab, merges=merges, byte_fallback=True, cache_capacity=0))

    @property
    def vocab_size(self) -> int:
        """Size of the vocabulary."""
        return len(self._pieces)

    @property
    def control_ids(self) -> Mapping[str, int]:
        """Ids of ``<s>``, ``</s>``, ``<unk>`` and the special added tokens."""
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
        if not text:
            return []
        return self._bpe.encode(WORD_BORDER + text.replace(" ", WORD_BORDER)).ids

    def piece_bytes(self, token_id: int) -> bytes:
        """Get the UTF-8 bytes of a token; empty for control tokens and ids outside the vocabulary."""
        return self._pieces[token_id] if 0 <= token_id < len(self._pieces) else b""


def _parse(document: bytes) -> _File:
    try:
        head = msgspec.json.decode(document, type=_Head)
        if head.model.type != "BPE":
            raise CheckpointRefused(f'tokenizer.json: model.type is "{head.model.type}", but only "BPE" is served.')
        _check_pre_tokenizer(head.pre_tokenizer.type if head.pre_tokenizer else None)
        return msgspec.json.decode(document, type=_File)
    except (msgspec.DecodeError, RecursionError) as error:
        raise CheckpointRefused(f"tokenizer.json cannot be read: {error}") from error


def _check_pre_tokenizer(kind: str | None) -> None:
    if kind not in {None, "Metaspace"}:
        raise CheckpointRefused(
            f'tokenizer.json: pre_tokenizer.type is "{kind}", but Llama-2 tokenizers have "Metaspace" or none.'
        )


def _check_kind(file: _File) -> None:
    """Refuse options with which text would be encoded differently from Llama 2's tokenizer."""
    model = file.model
    if not model.byte_fallback:
        raise CheckpointRefused("tokenizer.json: model.byte_fallback is false, but must be true.")
    for field in ("ignore_merges", "dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if value := getattr(model, field):
            raise CheckpointRefused(f"tokenizer.json: model.{field} is {value!r}, but must be off.")
    if file.pre_tokenizer is None:
        _check_normalizer(file.normalizer)
    else:
        _check_metaspace(file.pre_tokenizer)
        if file.normalizer is not None:
            raise CheckpointRefused("tokenizer.json: normalizer must be null when pre_tokenizer is Metaspace.")


def _check_normalizer(normalizer: dict[str, object] | None) -> None:
    steps = [
        {"type": "Prepend", "prepend": WORD_BORDER},
        {"type": "Replace", "pattern": {"String": " "}, "content": WORD_BORDER},
    ]
    if normalizer != {"type": "Sequence", "normalizers": steps}:
        kind = normalizer.get("type") if normalizer else None
        raise CheckpointRefused(
            f"tokenizer.json: normalizer is {kind!r}, but without a pre_tokenizer it must be the sequence "
            "Prepend, Replace that writes spaces as word borders."
        )


def _check_metaspace(metaspace: dict[str, object]) -> None:
    scheme = metaspace.get("prepend_scheme", "always" if metaspace.get("add_prefix_space", True) else "never")
    rules: tuple[tuple[str, object, bool], ...] = (
        ("replacement", metaspace.get("replacement"), metaspace.get("replacement") == WORD_BORDER),
        ("prepend_scheme", scheme, scheme in {"always", "first"}),
        ("split", metaspace.get("split", True), metaspace.get("split", True) is False),
    )
    for field, value, holds in rules:
        if not holds:
            raise CheckpointRefused(f"tokenizer.json: pre_tokenizer.{field} is {value!r}, which Llama 2's is not.")


def _all_ids(vocab: Mapping[str, int], added: Sequence[_AddedToken]) -> dict[str, int]:
    """Collect the ids of all pieces. Ids must be unique; otherwise text could encode to a control token."""
    ids = dict(vocab)
    for token in added:
        if ids.setdefault(token.content, token.id) != token.id:
            raise CheckpointRefused(f"tokenizer.json: added_tokens gives {token.content!r} a second id, {token.id}.")
    if len(set(ids.values())) != len(ids):
        raise CheckpointRefused("tokenizer.json: model.vocab gives one id to two pieces.")
    if not ids or min(ids.values()) < 0 or max(ids.values()) >= _MAX_VOCAB_SIZE:
        raise CheckpointRefused(f"tokenizer.json: model.vocab needs ids in [0, {_MAX_VOCAB_SIZE}).")
    return ids


def _checked_merges(
    merges: Sequence[str | tuple[str, str]], vocab: Mapping[str, int], *, protected: set[str]
) -> list[tuple[str, str]]:
    """Parse the merges to pairs; refuse merges that produce a control or byte piece."""
    pairs: list[tuple[str, str]] = []
    for index, merge in enumerate(merges):
        left, _, right = merge.partition(" ") if isinstance(merge, str) else (merge[0], "", merge[1])
        if left not in vocab or right not in vocab or left + right not in vocab or left + right in protected:
            raise CheckpointRefused(f"tokenizer.json: model.merges[{index}] is {merge!r}, which no text may become.")
        pairs.append((left, right))
    return pairs


def _control_id(piece: str, ids: Mapping[str, int]) -> int:
    if piece not in ids:
        raise CheckpointRefused(f"tokenizer.json has no token {piece}.")
    return ids[piece]


def _bytes_by_id(ids: Mapping[str, int], control: set[str]) -> tuple[bytes, ...]:
    pieces = [b""] * (max(ids.values()) + 1)
    for piece, token_id in ids.items():
        pieces[token_id] = b"" if piece in control else bytes_of_piece(piece)
    return tuple(pieces)
