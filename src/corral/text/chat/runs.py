"""Prompts as runs: text and control tokens, before they have ids."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from corral.core.errors import InvalidRequest
from corral.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class ControlToken:
    """A control token by its text, such as ``</s>``."""

    text: str


Run = str | ControlToken
"""A text between control tokens, never empty, or a control token."""


def joined_runs(parts: Iterable[Run]) -> list[Run]:
    """Join neighbouring texts, so that each longest text between control tokens is one run."""
    runs: list[Run] = []
    texts: list[str] = []
    for part in parts:
        if isinstance(part, str):
            texts.append(part)
            continue
        if text := "".join(texts):
            runs.append(text)
        texts = []
        runs.append(part)
    text = "".join(texts)
    return [*runs, text] if text else runs


def encode_runs(runs: Sequence[Run], tokenizer: Tokenizer, *, param: str) -> list[int]:
    """Encode each text in one call, and look up the control tokens.

    A BOS is added in front if the vocabulary wants one and the runs do not begin with it.

    Args:
        runs: the prompt; its control tokens are in the vocabulary.
        tokenizer: the deployment's.
        param: name of the request's field, for errors.

    Raises:
        InvalidRequest: a text is not valid Unicode, or there is no token at all.
    """
    ids: list[int] = []
    for run in runs:
        ids += _encode(run, tokenizer, param=param) if isinstance(run, str) else [tokenizer.control_ids[run.text]]
    bos = tokenizer.bos_token_id
    if bos is not None and ids[:1] != [bos]:
        ids.insert(0, bos)
    if not ids:
        raise InvalidRequest(f"{param} must not be empty: this model's prompts have no BOS token.", param=param)
    return ids


def least_tokens(runs: Iterable[Run], tokenizer: Tokenizer) -> int:
    """Compute a lower bound of the tokens of *runs* from the length of the texts."""
    most_chars = tokenizer.longest_piece_chars
    return sum(-(-len(run) // most_chars) if isinstance(run, str) else 1 for run in runs)


def _encode(text: str, tokenizer: Tokenizer, *, param: str) -> list[int]:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"{param} must be valid Unicode, without lone surrogates.", param=param) from error
    return tokenizer.encode(text)
