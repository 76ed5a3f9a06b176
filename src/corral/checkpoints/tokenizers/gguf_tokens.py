"""Read the list of tokens in a GGUF file's metadata, which all kinds of vocabularies have."""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from corral.checkpoints.config import as_written
from corral.checkpoints.gguf import GgufFile
from corral.checkpoints.gguf_values import Numbers, Value
from corral.checkpoints.tokenizers.special_tokens import looks_special
from corral.checkpoints.vocabulary import Declared
from corral.core.errors import CheckpointRefused

UNKNOWN: Final = 2
CONTROL: Final = 3
USER_DEFINED: Final = 4
UNUSED: Final = 5
_PREFIX: Final = "tokenizer.ggml."
_MOST_TOKENS: Final = 2**20
_KINDS: Final = range(1, 7)
"""Normal, unknown, control, user-defined, unused, byte."""
_INTEGERS: Final = "bBhHiIqQ"
_ENDS: Final = ("eos_token_id", "eot_token_id", "eom_token_id")
"""End of sequence, of turn and of message."""


@dataclass(frozen=True, slots=True)
class GgufTokens:
    """The fields ``tokenizer.ggml.*`` of a GGUF file, with its tokens and their types checked."""

    file: str
    """Name of the file."""
    metadata: Mapping[str, Value]
    """Without the prefix of the names."""
    tokens: Sequence[str]
    types: Numbers

    def flag(self, field: str, *, default: bool) -> bool:
        """Get a truth value."""
        value = self.metadata.get(field, default)
        if not isinstance(value, bool):
            raise self.refused(field, f"is {as_written(value)}; only true and false are supported")
        return value

    def text(self, field: str) -> str | None:
        """Get a string; None if it is missing."""
        value = self.metadata.get(field)
        if value is not None and not isinstance(value, str):
            raise self.refused(field, f"is {as_written(value)}; only a string is supported")
        return value

    def types_with(self, declared: Declared) -> Numbers:
        """Get the types, with the declared tokens as control tokens: some files mark them as user-defined."""
        types = self.types[:]
        for token in (declared.bos, *declared.ends):
            if isinstance(token, int):
                types[token] = CONTROL
        return types

    def declared(self, *, adds_bos: bool, bos: int | None = None, end: int | None = None) -> Declared:
        """Read the BOS and end tokens. They must be control tokens, so that no text encodes to them.

        Args:
            adds_bos: whether BOS leads a prompt if the file does not say.
            bos: id of BOS if the file does not say.
            end: id of the end token if the file does not say.
        """
        adds_bos = self.flag("add_bos_token", default=adds_bos)
        bos_id = self._control_id("bos_token_id", bos) if adds_bos else None
        if adds_bos and bos_id is None:
            raise self.refused("bos_token_id", "is missing, but add_bos_token asks for it")
        ends = [self._control_id(field, end if field == _ENDS[0] else None) for field in _ENDS]
        found = tuple(dict.fromkeys(token_id for token_id in ends if token_id is not None))
        return Declared(file=self.file, adds_bos=adds_bos, bos=bos_id, ends=found)

    def refused(self, field: str, what: str) -> CheckpointRefused:
        """Create the error for a field."""
        return CheckpointRefused(f"{self.file}: {_PREFIX}{field} {what}.")

    def _control_id(self, field: str, default: int | None) -> int | None:
        value = self.metadata.get(field, default)
        if value is None:
            return None
        if type(value) is not int or not 0 <= value < len(self.tokens):
            raise self.refused(field, f"is {as_written(value)}; the vocabulary has ids in [0, {len(self.tokens) - 1}]")
        if self.types[value] not in {CONTROL, USER_DEFINED}:
            piece = as_written(self.tokens[value])
            raise self.refused(
                field, f"is {value}, but {piece} is an ordinary piece, and text may become it; name a control token"
            )
        return value


def read_tokens(file: GgufFile) -> GgufTokens:
    """Read the tokens of a file.

    Raises:
        CheckpointRefused: they are missing or malformed; the message names the key.
    """
    metadata = {key.removeprefix(_PREFIX): v for key, v in file.metadata.items() if key.startswith(_PREFIX)}
    unchecked = GgufTokens(file.path.name, metadata, (), array("b"))
    tokens = metadata.get("tokens")
    if not isinstance(tokens, list) or not 0 < len(tokens) <= _MOST_TOKENS:
        raise unchecked.refused("tokens", f"is no list of 1 to {_MOST_TOKENS} strings")
    types = numbers(unchecked, "token_type", _INTEGERS, len(tokens))[:]
    if not set(types).issubset(_KINDS):
        raise unchecked.refused("token_type", f"holds a value outside [{_KINDS[0]}, {_KINDS[-1]}]")
    # As llama.cpp does: converters have marked control tokens that were added later as user-defined.
    for token_id, piece in enumerate(tokens):
        if types[token_id] == USER_DEFINED and looks_special(piece):
            types[token_id] = CONTROL
    return GgufTokens(file.path.name, metadata, tokens, types)


def numbers(tokens: GgufTokens, field: str, types: str, count: int) -> Numbers:
    """Read an array with one number for each token.

    Args:
        tokens: the metadata.
        field: name of the array.
        types: accepted type codes of ``array``.
        count: number of tokens.
    """
    values = tokens.metadata.get(field)
    if not isinstance(values, array) or values.typecode not in types or len(values) != count:
        raise tokens.refused(field, f"is no array of {count} numbers, one for each of the tokens")
    return values
