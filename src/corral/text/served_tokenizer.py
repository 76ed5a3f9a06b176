"""Load the tokenizer of a checkpoint for serving, and check it against the model that it is for."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from corral.checkpoints.config import Config
from corral.checkpoints.end_tokens import end_token_ids
from corral.checkpoints.source import open_source
from corral.core.errors import CheckpointRefused
from corral.text.load import load_with_warnings
from corral.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedTokenizer:
    """A tokenizer whose tokens the model has, with the ends of its answers."""

    tokenizer: Tokenizer
    file: str
    """Name of its file in the checkpoint."""
    end_ids: Mapping[int, str]
    """Tokens that end an answer by the configuration, each with the name of the file that says so first."""
    warnings: Sequence[str]
    """Sentences about other files that were refused, or that encode text differently."""


def load_served_tokenizer(checkpoint: Path) -> ServedTokenizer:
    """Load the tokenizer, and check that the model has its tokens and that no ordinary text ends an answer.

    Raises:
        CheckpointRefused: there is no supported tokenizer, or it does not belong to the model; the message names the
            files and the token.
    """
    loaded = load_with_warnings(checkpoint)
    source = open_source(checkpoint)
    config = source.read_config()
    ends = end_token_ids(config, source.read_generation_config())
    check_rows(loaded.tokenizer, loaded.file, config)
    check_ends(loaded.tokenizer, loaded.file, ends)
    return ServedTokenizer(tokenizer=loaded.tokenizer, file=loaded.file, end_ids=ends, warnings=loaded.warnings)


def check_rows(tokenizer: Tokenizer, file: str, config: Config) -> None:
    """Check that the model has a row of its embedding for every token that text, a BOS or an end can be.

    Other control tokens may lie beyond: padding that was added to the tokenizer alone is never computed.

    Args:
        tokenizer: of the checkpoint.
        file: that contains it.
        config: of the model.

    Raises:
        CheckpointRefused: a token has no row.
    """
    rows = config.get("vocab_size")
    if type(rows) is not int:
        return  # refused where the sizes are read
    bos = () if tokenizer.bos_token_id is None else (tokenizer.bos_token_id,)
    needed: Collection[int] = {*bos, *tokenizer.end_ids}
    for token_id in range(rows, tokenizer.vocab_size):
        if token_id in needed or tokenizer.piece_bytes(token_id):
            field = config.spellings.get("vocab_size", "vocab_size")
            raise CheckpointRefused(
                f"{file} has {tokenizer.vocab_size} tokens, but the model in {config.file} has {rows} ({field}), and "
                f"none for {token_id} ({_shown(tokenizer, token_id)}). Use the tokenizer that belongs to these weights."
            )


def check_ends(tokenizer: Tokenizer, file: str, ends: Mapping[int, str]) -> None:
    """Check that no token which ends an answer is a piece of ordinary text.

    Args:
        tokenizer: of the checkpoint.
        file: that contains it.
        ends: tokens that end an answer, each with the file that says so.

    Raises:
        CheckpointRefused: one is.
    """
    control = frozenset(tokenizer.control_ids.values())
    for token_id, source in ends.items():
        if token_id not in control and tokenizer.piece_bytes(token_id):
            usual = ", ".join(f"{end} ({_shown(tokenizer, end)})" for end in sorted(tokenizer.end_ids))
            correct = f"; the tokenizer's own is {usual}" if usual else ""
            raise CheckpointRefused(
                f"{source}: the end token {token_id} is {_shown(tokenizer, token_id)} in {file}, a piece of ordinary "
                f"text. Correct the id to that of a control token{correct}."
            )


def _shown(tokenizer: Tokenizer, token_id: int) -> str:
    """Format a token for a message: the text of a control token, or the quoted piece."""
    text = next((text for text, control_id in tokenizer.control_ids.items() if control_id == token_id), None)
    piece = tokenizer.piece_bytes(token_id).decode(errors="replace")[:50]
    return f'"{piece}"' if text is None else text[:50]
