"""The tokenizer in a ``tokenizer.json`` file, run by ``tokenizers``. Must not know of prompts or files.

Only the vocabulary and the merges are taken from the file. How text is made ready for them is the same in every
Llama-2 tokenizer (a space in front, spaces written as word borders) and is done here, so both spellings of it that
are in use give the ids that ``tokenizer.model`` gives. No added token is handed on, so none is ever found in text.
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
    """Just enough of the file to name a foreign tokenizer before its other fields are read."""

    model: _Kind
    pre_tokenizer: _Kind | None = None


class HfTokenizer:
    """A ``Tokenizer`` over the merges of a ``tokenizer.json``."""

    def __init__(self, document: bytes) -> None:
        """Load a serialized tokenizer.

        Raises:
            CheckpointRefused: *document* is damaged, or not a tokenizer like Llama 2's; names field and value.
        """
        file = _parse(document)
        _check_kind(file)
        vocab = file.model.vocab
        ids = _all_ids(vocab, file.added_tokens)
        control = {token.content for token in file.added_tokens if token.special}.union(_CONTROL_PIECES)
        merges = _checked_merges(file.model.merges, vocab, protected=control.union(BYTE_PIECES))
        if missing := missing_byte_piece(vocab):
            raise CheckpointRefused(f"tokenizer.json: model.vocab has no {missing}; only byte fallback is served.")
        self._bos_token_id = _control_id("<s>", ids)
        self._eos_token_id = _control_id("</s>", ids)
        self._pieces = _bytes_by_id(ids, control)
        self._longest_piece_chars = longest_piece_chars(self._pieces)
        # The cache would keep short prompts in memory and saves nothing, as texts are not split into words.
        self._bpe = Bpe(BPE(vocab=vocab, merges=merges, byte_fallback=True, cache_capacity=0))

    @property
    def vocab_size(self) -> int:
        """Ids are in [0, vocab_size)."""
        return len(self._pieces)

    @property
    def bos_token_id(self) -> int:
        """Id of ``<s>``."""
        return self._bos_token_id

    @property
    def eos_token_id(self) -> int:
        """Id of ``</s>``."""
        return self._eos_token_id

    @property
    def longest_piece_chars(self) -> int:
        """Most characters of a text that one id can stand for."""
        return self._longest_piece_chars

    def encode(self, text: str) -> list[int]:
        """Ids of text as data: no text, ``</s>`` included, becomes a control token."""
        if not text:
            return []
        return self._bpe.encode(WORD_BORDER + text.replace(" ", WORD_BORDER)).ids

    def piece_bytes(self, token_id: int) -> bytes:
        """UTF-8 bytes that an id stands for; nothing for control tokens and ids outside the vocabulary."""
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
    """Refuse whatever would turn text into other ids than Llama 2's way of using the merges."""
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
    """Ids of all pieces; each id belongs to one piece, or text could become a control token by an alias."""
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
    """Merges as pairs, none of which makes a control or byte piece out of text."""
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
