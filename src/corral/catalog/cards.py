"""Model cards: every model that Corral knows, one TOML file each under ``models/``."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from functools import cache
from importlib.resources import files
from typing import Any, Final

from corral.catalog.page import ModelPage, page_from_table
from corral.catalog.prices import DatedPrice, dated_prices
from corral.catalog.tables import from_table
from corral.catalog.versions import ModelVersion
from corral.core.errors import BadSetting
from corral.core.ranges import COUNT, SAMPLING, Range

_SYSTEM_PROMPT: Final = "system_prompt"
_NUMERIC_DEFAULTS: Final[Mapping[str, Range]] = {"max_tokens": COUNT.within(Range(minimum=1)), **SAMPLING}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """Content of a model's TOML file, whether or not its weights are on this machine."""

    names: tuple[str, ...]
    """Every ``owner/name`` that clients use for it."""
    description: str
    context_tokens: int
    created: int
    hidden_size: int
    num_hidden_layers: int
    """With ``hidden_size``: how a checkpoint's ``config.json`` is recognised."""
    prices: tuple[DatedPrice, ...]
    page: ModelPage
    descriptions: Mapping[str, str] = field(default_factory=dict[str, str])
    """By name, where one has a description of its own."""
    known_versions: Mapping[str, tuple[ModelVersion, ...]] = field(default_factory=dict[str, tuple[ModelVersion, ...]])
    """Public ids by name, newest first."""
    input_defaults: Mapping[str, str | float] = field(default_factory=dict[str, str | float])
    """Defaults that differ from those of the APIs: ``system_prompt``, ``max_tokens`` or a field of ``Sampling``."""
    hub: str = ""
    """Its repository on the Hugging Face Hub, if it is there."""
    chat_format: str = ""
    """Name of the chat format that programs write in raw prompts for it; empty if that is not known."""
    allows_stand_in: bool = True
    """Whether other weights may answer to its names, marked as a stand-in; false for models that all can have."""

    def has_name(self, name: str) -> bool:
        """Whether *name* is one of the model's names, case-insensitively."""
        return name.lower() in map(str.lower, self.names)

    def describe(self, name: str) -> str:
        """The description under one of its names."""
        return self.descriptions.get(name, self.description)


@dataclass(frozen=True, slots=True, kw_only=True)
class _VersionTable:
    """One public id in the array ``known_versions``."""

    name: str
    id: str
    created: date


@cache
def model_cards() -> tuple[ModelCard, ...]:
    """Every model that Corral knows, smallest first."""
    documents = files("corral.catalog").joinpath("models").iterdir()
    cards = [
        card_from_table(tomllib.loads(entry.read_text(encoding="utf-8")), where=entry.name)
        for entry in documents
        if entry.name.endswith(".toml")
    ]
    return tuple(sorted(cards, key=lambda card: card.hidden_size))


def known_card(name: str) -> ModelCard | None:
    """Get the card of a model by one of its names, case-insensitively."""
    return next((card for card in model_cards() if card.has_name(name)), None)


def card_from_table(table: Mapping[str, Any], *, where: str) -> ModelCard:
    """A card from the content of its file.

    Raises:
        BadSetting: a key is unknown or missing, or a value is invalid.
    """
    read = dict(table)
    names = tuple(read.pop("names", ()))
    if not names:
        raise BadSetting(f"{where}: names is missing.")
    read["prices"] = dated_prices(names[0], read.pop("prices", []))
    read["page"] = page_from_table(read.pop("page", {}), where=f"{where}: page")
    read["known_versions"] = _versions(read.pop("known_versions", []), where=f"{where}: known_versions")
    _check_defaults(read.get("input_defaults", {}), where=f"{where}: input_defaults")
    card = from_table(ModelCard, {**read, "names": names}, where=where)
    if stray := (card.descriptions.keys() | card.known_versions.keys()) - set(names):
        raise BadSetting(f"{where}: {', '.join(sorted(stray))} is none of its names.")
    return card


def _versions(tables: list[dict[str, Any]], *, where: str) -> dict[str, tuple[ModelVersion, ...]]:
    listed = [from_table(_VersionTable, table, where=where) for table in tables]
    return {
        name: tuple(
            ModelVersion(id=known.id, created_at_s=_midnight_s(known.created))
            for known in sorted(listed, key=lambda known: known.created, reverse=True)
            if known.name == name
        )
        for name in dict.fromkeys(known.name for known in listed)
    }


def _check_defaults(table: Mapping[str, object], *, where: str) -> None:
    for name, value in table.items():
        if name == _SYSTEM_PROMPT:
            fits = isinstance(value, str)
        elif name in _NUMERIC_DEFAULTS:
            fits = (
                isinstance(value, int | float) and _NUMERIC_DEFAULTS[name].holds(value) and not isinstance(value, bool)
            )
        else:
            known = ", ".join((_SYSTEM_PROMPT, *_NUMERIC_DEFAULTS))
            raise BadSetting(f"{where}: there is no input {name}; the inputs are {known}.")
        if not fits:
            raise BadSetting(f"{where}: {value!r} is no value of {name}.")


def _midnight_s(day: date) -> int:
    return int(datetime.combine(day, time.min, UTC).timestamp())
