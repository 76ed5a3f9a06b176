"""Read BOS and end tokens from ``tokenizer_config.json``."""

from collections.abc import Mapping
from typing import Final

from corral.checkpoints.tokenizers.fields import Fields
from corral.checkpoints.vocabulary import Declared

TOKENIZER_CONFIG: Final = "tokenizer_config.json"


def read_declared(values: Mapping[str, object]) -> Declared:
    """Read the content of a ``tokenizer_config.json``.

    Raises:
        CheckpointRefused: a field has a wrong type; the message names it.
    """
    config = Fields(values, file=TOKENIZER_CONFIG)
    end = _token(config, "eos_token")
    return Declared(
        file=TOKENIZER_CONFIG,
        adds_bos=None if config.get("add_bos_token") is None else config.flag("add_bos_token", default=False),
        bos=_token(config, "bos_token"),
        ends=() if end is None else (end,),
    )


def _token(config: Fields, name: str) -> str | None:
    """Read a token, which is a string, an object with its ``content``, or null."""
    if not isinstance(config.get(name), dict):
        return config.text(name)
    token = config.member(name)
    return None if token is None else token.required_text("content")
