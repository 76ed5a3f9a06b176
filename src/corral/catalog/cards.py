"""Model cards: every model that Corral knows, one TOML file each under ``models/``."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from functools import cache
from importlib.resources import files
from typing import Any

from corral.catalog.inputs import input_fields
from corral.catalog.page import ModelPage, page_from_table
from corral.catalog.prices import DatedPrice, dated_prices
from corral.catalog.tables import from_table
from corral.catalog.versions import COG_VERSION, ModelVersion
from corral.core.errors import BadSetting


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What one TOML file says of a model, whether or not its weights are here."""

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
    input_defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    """By dialect and input, where this model's default differs; None is to have none."""
    hub: str = ""
    """Its repository on the Hugging Face Hub, if it is there."""

    def has_name(self, name: str) -> bool:
        """Whether clients use *name* for it, in any case."""
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
    cog_version: str = COG_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class _InputsTable:
    """One dialect in the table ``inputs``. TOML has no null, so a default that is none is listed apart."""

    defaults: Mapping[str, Any] = field(default_factory=dict[str, Any])
    without_default: list[str] = field(default_factory=list[str])


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
    """The model that clients use *name* for, in any case."""
    return next((card for card in model_cards() if card.has_name(name)), None)


def card_from_table(table: Mapping[str, Any], *, where: str) -> ModelCard:
    """A card from the content of its file.

    Raises:
        BadSetting: a key is unknown or missing, or a value is none.
    """
    read = dict(table)
    names = tuple(read.pop("names", ()))
    if not names:
        raise BadSetting(f"{where}: names is missing.")
    read["prices"] = dated_prices(names[0], read.pop("prices", []))
    read["page"] = page_from_table(read.pop("page", {}), where=f"{where}: page")
    read["known_versions"] = _versions(read.pop("known_versions", []), where=f"{where}: known_versions")
    read["input_defaults"] = {
        dialect: _defaults(dialect, inputs, where=f"{where}: inputs.{dialect}")
        for dialect, inputs in read.pop("inputs", {}).items()
    }
    card = from_table(ModelCard, {**read, "names": names}, where=where)
    if stray := (card.descriptions.keys() | card.known_versions.keys()) - set(names):
        raise BadSetting(f"{where}: {', '.join(sorted(stray))} is none of its names.")
    return card


def _versions(tables: list[dict[str, Any]], *, where: str) -> dict[str, tuple[ModelVersion, ...]]:
    listed = [from_table(_VersionTable, table, where=where) for table in tables]
    return {
        name: tuple(
            ModelVersion(id=known.id, created_at_s=_midnight_s(known.created), cog_version=known.cog_version)
            for known in sorted(listed, key=lambda known: known.created, reverse=True)
            if known.name == name
        )
        for name in dict.fromkeys(known.name for known in listed)
    }


def _defaults(dialect: Any, table: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    read = from_table(_InputsTable, table, where=where)
    defaults = {**read.defaults, **dict.fromkeys(read.without_default)}
    input_fields(dialect, overrides=defaults)  # refuses what is no input, or no value of it
    return defaults


def _midnight_s(day: date) -> int:
    return int(datetime.combine(day, time.min, UTC).timestamp())
