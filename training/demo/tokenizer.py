"""A byte-fallback BPE tokenizer like that of Llama 2, learned from the corpus."""

import json
from collections.abc import Iterable, Iterator

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.trainers import BpeTrainer

UNKNOWN_ID, BOS_ID, EOS_ID = 0, 1, 2
SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # what SentencePiece writes for a space
_SPECIALS = ("<unk>", "<s>", "</s>")
_PIECES = Regex(rf"{SPACE}?\[/?INST\]|{SPACE}?<</?SYS>>|{SPACE}?[A-Za-z']+|[0-9]|{SPACE}?[^A-Za-z0-9{SPACE}]+|{SPACE}")


def _segments(texts: Iterable[str]) -> Iterator[str]:
    """Yield printable ASCII runs of the texts; all else is left to the byte tokens."""
    for text in texts:
        marked = (SPACE + text.replace(" ", SPACE)).split("\n")
        for line in marked:
            yield "".join(char for char in line if char == SPACE or " " < char <= "~")


def learn_tokenizer(texts: Iterable[str], vocab: int) -> Tokenizer:
    """Learn a tokenizer of at most ``vocab`` ids; no learned piece has a space inside."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Split(_PIECES, "isolated")
    fixed = [*_SPECIALS, *(f"<0x{byte:02X}>" for byte in range(256))]
    alphabet = [SPACE, *(chr(code) for code in range(0x21, 0x7F))]
    trainer = BpeTrainer(
        vocab_size=vocab - len(fixed),
        min_frequency=2,
        initial_alphabet=alphabet,
        show_progress=False,
    )
    learner.train_from_iterator(_segments(texts), trainer)
    learned = sorted(learner.get_vocab().items(), key=lambda item: item[1])
    ids = {piece: index for index, piece in enumerate([*fixed, *(piece for piece, _ in learned)])}
    return _assemble(ids, _merges(learner))


def _merges(learner: Tokenizer) -> list[tuple[str, str]]:
    """Return the learned merges, most frequent first."""
    return [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]


def _assemble(ids: dict[str, int], merges: list[tuple[str, str]]) -> Tokenizer:
    """Build the shipped tokenizer: Llama 2's normalizer and decoder, nothing added by itself."""
    tokenizer = Tokenizer(models.BPE(ids, merges, unk_token=_SPECIALS[0], fuse_unk=True, byte_fallback=True))
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in _SPECIALS])
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Prepend(SPACE),
            normalizers.Replace(" ", SPACE),
        ]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(SPACE, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return tokenizer
