"""Identify the known model of a checkpoint: by evidence, or by hints that only suggest a name.

A name decides the price and what callers are told, so only evidence about these very weights gives a checkpoint a known
model's name: the operator says so, it was pulled under that name, or it lies in the Hub cache as a snapshot of that
repository. Its shape and the names written in its files are hints: a fine-tune has the shape of the model it was made
from, and saving it writes that model's name into its configuration.
"""

import json
import re
from pathlib import Path
from typing import Final

from corral.catalog.cards import ModelCard, model_cards
from corral.checkpoints.config import Config

_SNAPSHOT: Final = re.compile(r"models--([A-Za-z0-9._-]+?)--([A-Za-z0-9._-]+)")
"""The Hub cache's folder of a repository: https://huggingface.co/docs/huggingface_hub/guides/manage-cache"""


def snapshot_name(checkpoint: Path) -> str | None:
    """The Hub repository, ``owner/name``, whose cached snapshot *checkpoint* is, or is a file of; None if it is none.

    Args:
        checkpoint: an absolute path, for example ``…/models--ORG--NAME/snapshots/<commit>``.
    """
    for snapshot in (checkpoint, checkpoint.parent):
        if snapshot.parent.name == "snapshots":
            found = _SNAPSHOT.fullmatch(snapshot.parent.parent.name)
            return None if found is None else f"{found[1]}/{found[2]}"
    return None


def contradiction(card: ModelCard, config: Config) -> str | None:
    """Return why a checkpoint cannot be the model of *card*, as a sentence; None if its configuration allows it."""
    for field, expected in (("hidden_size", card.hidden_size), ("num_hidden_layers", card.num_hidden_layers)):
        if (found := config.get(field)) != expected:
            name = config.spellings.get(field, field)
            return f"{name} in {config.file} is {json.dumps(found)[:100]}; that model's is {expected}."
    return None


def suggest_name(config: Config) -> str | None:
    """Suggest a known model of the same shape, which a person can confirm with ``--as``."""
    published = (card for card in model_cards() if card.hub)  # nobody may give the shipped demo's name
    return next((card.names[0] for card in published if contradiction(card, config) is None), None)
