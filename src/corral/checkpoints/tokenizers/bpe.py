"""Read and check a ``tokenizer.json`` with a BPE model: byte-level, or with byte fallback as Llama 2's.

Everything that text could be encoded differently by is either read or refused. Control tokens are separated from the
pieces that text can become: an added token that is special, is spelled ``<|…|>``, or is declared as BOS or end token.
Merges that would make or use one are left out.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

from corral.checkpoints.config import as_written
from corral.checkpoints.tokenizers.byte_fallback import (
    BYTE_PIECES,
    bytes_of_piece,
    check_text_rules,
    missing_byte_piece,
)
from corral.checkpoints.tokenizers.byte_level import bytes_of_letters, missing_bytes, needed_byte
from corral.checkpoints.tokenizers.fields import Fields
from corral.checkpoints.tokenizers.special_tokens import SpecialTokens, read_special_tokens
from corral.checkpoints.tokenizers.splitting import Splitting, is_byte_level, recognise
from corral.checkpoints.vocabulary import Vocabulary
from corral.core.errors import CheckpointRefused

_MOST_IDS: Final = 1_000_000
_MOST_TEXT_TOKEN_CHARS: Final = 2**18
"""Of all text tokens together. The automaton that finds them in text takes memory in proportion."""
_MOST_GROUPS: Final = 2**20
_MOST_VALUES: Final = 2**22
"""Four times those of Llama 3. Small values take much more memory than their text."""
_LLAMA_CONTROL: Final = ("<s>", "</s>", "<unk>")
_UNSUPPORTED: Final = ("dropout", "continuing_subword_prefix", "end_of_word_suffix")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextToken:
    """An added token that text becomes wherever it spells it: not special, such as ``<think>``."""

    content: str
    single_word: bool
    """Only between characters that belong to no word."""
    normalized: bool
    """Text is normalized before it is compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ByteLevelRules:
    """How a byte-level vocabulary encodes text before merges."""

    splitting: Splitting
    nfc: bool
    """Text is normalized to NFC first."""
    ignore_merges: bool
    """A word that is a piece becomes this piece, whatever the merges would make of it."""
    missing: frozenset[int]
    """Bytes without a piece; ordinary text has none of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BpeVocabulary:
    """A checked vocabulary."""

    pieces: tuple[bytes, ...]
    """What each id stands for; empty for control tokens and unused ids."""
    ids: Mapping[str, int]
    """Pieces that text can become, as the file spells them."""
    merges: Sequence[tuple[str, str]]
    """By priority; parts and results are in ``ids``."""
    text_tokens: Sequence[TextToken]
    """Also in ``ids``."""
    special: SpecialTokens
    byte_level: ByteLevelRules | None
    """None for byte fallback: text is not split, begins with a space, and its spaces are written as word borders."""


def read_bpe(vocabulary: Vocabulary) -> BpeVocabulary:
    """Read a ``tokenizer.json``.

    Raises:
        CheckpointRefused: it is damaged or not supported; the message names file, field and value.
    """
    document = _parse(vocabulary)
    model = _model(document)
    byte_level = is_byte_level(document.member("pre_tokenizer"))
    if not byte_level:
        check_text_rules(document)
    _check_model(model, byte_fallback=not byte_level)
    added = document.members("added_tokens")
    ids = _all_ids(model, added)
    special = read_special_tokens(
        document, added, ids, vocabulary.declared, llama_names=() if byte_level else _LLAMA_CONTROL
    )
    text_ids = {piece: token_id for piece, token_id in ids.items() if piece not in special.ids}
    text_tokens = _text_tokens(added, special)
    pieces = _pieces(document.file, ids, special, raw=[token.content for token in text_tokens], byte_level=byte_level)
    byte_pieces = frozenset(() if byte_level else BYTE_PIECES)
    return BpeVocabulary(
        pieces=pieces,
        ids=text_ids,
        merges=_merges(model, ids, control=special.ids, byte_pieces=byte_pieces),
        text_tokens=text_tokens,
        special=special,
        byte_level=_byte_level_rules(document, model, text_ids) if byte_level else _no_rules(model, text_ids),
    )


def _parse(vocabulary: Vocabulary) -> Fields:
    content = vocabulary.content
    groups = content.count(b"[") + content.count(b"{")
    if groups > _MOST_GROUPS or content.count(b",") > _MOST_VALUES:
        raise CheckpointRefused(
            f"{vocabulary.file} is larger than any known: it has more than {_MOST_GROUPS} lists and objects, or more "
            f"than {_MOST_VALUES} values."
        )
    try:
        value: object = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CheckpointRefused(f"{vocabulary.file} cannot be read: {str(error)[:200]}.") from error
    if not isinstance(value, dict):
        raise CheckpointRefused(f"{vocabulary.file} is not a JSON object.")
    return Fields(cast("dict[str, object]", value), file=vocabulary.file)


def _model(document: Fields) -> Fields:
    model = document.member("model")
    if model is None:
        raise document.refused("model", "an object is needed")
    if model.text("type", "BPE") != "BPE":
        raise model.refused("type", 'only "BPE" is supported')
    return model


def _check_model(model: Fields, *, byte_fallback: bool) -> None:
    """Refuse options with which text would be encoded differently."""
    if model.flag("byte_fallback", default=False) != byte_fallback:
        kind = "without a ByteLevel step in pre_tokenizer" if byte_fallback else "with a ByteLevel step"
        raise model.refused("byte_fallback", f"{kind}, only {as_written(byte_fallback)} is supported")
    for field in _UNSUPPORTED:
        if model.get(field) not in (None, "", 0):
            raise model.refused(field, "only null is supported")


def _all_ids(model: Fields, added: Sequence[Fields]) -> dict[str, int]:
    """Collect the ids of all pieces. Ids must be unique; otherwise text could encode to a control token."""
    vocab = model.member("vocab")
    ids = {} if vocab is None else _checked_vocab(model, vocab)
    for token in added:
        content, token_id = token.required_text("content"), token.get("id")
        if type(token_id) is not int:
            raise token.refused("id", "an integer is needed")
        if not content:
            raise token.refused("content", "it must not be empty")
        if ids.setdefault(content, token_id) != token_id:
            raise token.refused("id", f"{as_written(content)} has the id {ids[content]} already")
    if len(set(ids.values())) != len(ids):
        raise CheckpointRefused(f"{model.file}: model.vocab gives one id to two pieces.")
    if not ids or min(ids.values()) < 0 or max(ids.values()) >= _MOST_IDS:
        raise CheckpointRefused(f"{model.file}: model.vocab needs ids in [0, {_MOST_IDS}).")
    return ids


def _checked_vocab(model: Fields, vocab: Fields) -> dict[str, int]:
    values = vocab.values
    wrong = next((piece for piece, token_id in values.items() if type(token_id) is not int), None)
    if wrong is not None:
        raise CheckpointRefused(
            f"{model.file}: model.vocab gives {as_written(wrong)} the id {as_written(values[wrong])}; "
            "an integer is needed."
        )
    return dict(cast("Mapping[str, int]", values))


def _text_tokens(added: Sequence[Fields], special: SpecialTokens) -> list[TextToken]:
    found: list[TextToken] = []
    for token in added:
        content = token.required_text("content")
        if content in special.ids:
            continue
        for side in ("lstrip", "rstrip"):
            if token.flag(side, default=False):
                raise token.refused(side, "a token that text becomes may not take away the space beside it")
        single_word = token.flag("single_word", default=False)
        normalized = token.flag("normalized", default=True)
        found.append(TextToken(content=content, single_word=single_word, normalized=normalized))
    if (chars := sum(len(token.content) for token in found)) > _MOST_TEXT_TOKEN_CHARS:
        file = added[0].file
        raise CheckpointRefused(
            f"{file}: added_tokens has {chars} characters in tokens that are not special; "
            f"at most {_MOST_TEXT_TOKEN_CHARS} are read."
        )
    return found


def _pieces(
    file: str, ids: Mapping[str, int], special: SpecialTokens, *, raw: Sequence[str], byte_level: bool
) -> tuple[bytes, ...]:
    """Get the bytes of each id; a text token stands for its own spelling."""
    pieces = [b""] * (max(ids.values()) + 1)
    spell = bytes_of_letters if byte_level else bytes_of_piece
    try:
        for piece, token_id in ids.items():
            if piece not in special.ids:
                pieces[token_id] = spell(piece)
        for piece in raw:
            pieces[ids[piece]] = piece.encode() if byte_level else spell(piece)
    except UnicodeEncodeError:
        raise CheckpointRefused(f"{file}: model.vocab has a piece that is not valid Unicode.") from None
    return tuple(pieces)


def _merges(
    model: Fields, ids: Mapping[str, int], *, control: Mapping[str, int], byte_pieces: frozenset[str]
) -> list[tuple[str, str]]:
    """Parse the merges; leave out those with a control token, refuse those that spell a byte piece."""
    pairs: list[tuple[str, str]] = []
    for index, merge in enumerate(model.items("merges")):
        left, right = _pair(merge)
        whole = left + right
        if left not in ids or right not in ids or whole not in ids:
            raise _bad_merge(model, index, merge, "whose parts or result are no pieces")
        if whole in byte_pieces:
            raise _bad_merge(model, index, merge, "so that text would become a byte")
        if not (whole in control or left in control or right in control):
            pairs.append((left, right))
    return pairs


def _bad_merge(model: Fields, index: int, merge: object, why: str) -> CheckpointRefused:
    return CheckpointRefused(f"{model.file}: model.merges[{index}] is {as_written(merge)}, {why}.")


def _pair(merge: object) -> tuple[str, str]:
    """Split a merge, a string with one space or a list of two; a malformed one gives parts that are no pieces."""
    match merge:
        case str():
            left, _, right = merge.partition(" ")
            return left, right
        case [str(left), str(right)]:
            return left, right
        case _:
            return "", ""


def _byte_level_rules(document: Fields, model: Fields, ids: Mapping[str, int]) -> ByteLevelRules:
    pre_tokenizer = document.member("pre_tokenizer")
    if pre_tokenizer is None:
        raise document.refused("pre_tokenizer", "an object is needed")
    missing = missing_bytes(ids)
    if (needed := needed_byte(missing)) is not None:
        raise CheckpointRefused(f"{document.file}: model.vocab has no piece for the byte 0x{needed:02X}.")
    normalizer = document.member("normalizer")
    if normalizer is not None and normalizer.get("type") != "NFC":
        raise normalizer.refused("type", 'only null and "NFC" are supported')
    return ByteLevelRules(
        splitting=recognise(pre_tokenizer),
        nfc=normalizer is not None,
        ignore_merges=model.flag("ignore_merges", default=False),
        missing=missing,
    )


def _no_rules(model: Fields, ids: Mapping[str, int]) -> None:
    if model.flag("ignore_merges", default=False):
        raise model.refused("ignore_merges", "only false is supported with byte fallback")
    if missing := missing_byte_piece(ids):
        raise CheckpointRefused(f"{model.file}: model.vocab has no piece {missing}; only byte fallback is supported.")
