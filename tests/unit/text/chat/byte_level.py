"""Byte-level vocabularies with any control tokens: every byte, and merges of the words that chat formats use."""

from collections.abc import Sequence

from corral.checkpoints.tokenizers.byte_level import LETTERS
from corral.checkpoints.vocabulary import Declared
from corral.text.tokenizer import Tokenizer
from tests.byte_level_vocabulary import PRE_TOKENIZERS
from tests.documents import from_json

_WORDS = (
    *("user", "assistant", "system", "USER", "ASSISTANT", "INST", "SYS"),
    *("Instruction", "Response", "###", "<|", "|>"),
)


def byte_level_tokenizer(control: Sequence[str], *, bos: str | None = None, ends: Sequence[str] = ()) -> Tokenizer:
    """A tokenizer with the words in one piece, with and without a space in front, and with these control tokens."""
    vocab = {letter: token_id for token_id, letter in enumerate(LETTERS)}
    merges: list[list[str]] = []
    for word in [spelled for each in _WORDS for spelled in (each, LETTERS[ord(" ")] + each)]:
        for cut in range(1, len(word)):
            if word[: cut + 1] not in vocab:
                vocab[word[: cut + 1]] = len(vocab)
                merges.append([word[:cut], word[cut]])
    added = [{"id": len(vocab) + index, "content": text, "special": True} for index, text in enumerate(control)]
    document = {
        "added_tokens": added,
        "pre_tokenizer": PRE_TOKENIZERS["gpt-2"],
        "model": {"type": "BPE", "vocab": vocab, "merges": merges},
    }
    return from_json(document, Declared(adds_bos=bos is not None, bos=bos, ends=tuple(ends)))
