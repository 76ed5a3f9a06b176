"""Token ids that end an answer by the word of a checkpoint's configuration.

Published checkpoints disagree with themselves: ``generation_config.json`` often lists more ids than ``config.json``.
All of them end an answer. The vocabulary and the chat format may add others.
"""

from collections.abc import Mapping
from typing import Final, cast

from corral.checkpoints.config import Config, as_list, as_written

_FIELDS: Final = ("eos_token_id", "eot_token_id", "eom_token_id")
"""End of sequence, of turn and of message. Only GGUF files have the last two."""
_MOST_IDS: Final = 64


def end_token_ids(config: Config, generation: Config | None) -> Mapping[int, str]:
    """Get the ids that end an answer, each with the name of the file that says so first; there may be none.

    Args:
        config: of the checkpoint.
        generation: its ``CheckpointSource.read_generation_config``.

    Raises:
        CheckpointRefused: an id is outside the vocabulary; the message names file and id.
    """
    vocab_size = config.get("vocab_size")
    known_size = vocab_size if type(vocab_size) is int else None
    found: dict[int, str] = {}
    for part in (config, *([] if generation is None else [generation])):
        for field in _FIELDS:
            for token_id in _ids(part, field, known_size):
                found.setdefault(token_id, part.file)
    return found


def _ids(config: Config, field: str, vocab_size: int | None) -> list[int]:
    """Read a field that is an id, a list of ids, or null."""
    value = config.get(field)
    if value is None:
        return []
    listed = as_list(value)
    ids = [value] if listed is None else listed
    if len(ids) > _MOST_IDS:
        raise config.refused(field, ids, f"it has {len(ids)} ids; at most {_MOST_IDS} are read")
    for token_id in ids:
        if type(token_id) is not int or token_id < 0 or (vocab_size is not None and token_id >= vocab_size):
            span = "" if vocab_size is None else f" in [0, {vocab_size - 1}]"
            why = f"{as_written(token_id)} is no token id, which is an integer{span}: correct it, or remove the field"
            raise config.refused(field, value, why)
    return cast("list[int]", ids)
