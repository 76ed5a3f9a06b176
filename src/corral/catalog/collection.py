"""Collections of models, as data: the models with one tag."""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from corral.catalog.model import CatalogModel
from corral.catalog.tables import from_table


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """Served models that belong together."""

    slug: str
    name: str
    description: str
    models: tuple[CatalogModel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionTable:
    """One table of ``collections.toml``."""

    slug: str
    name: str
    description: str
    tag: str

    def of(self, models: Iterable[CatalogModel]) -> Collection:
        """Create the collection of those *models* that have its tag."""
        members = tuple(model for model in models if self.tag in model.page.tags)
        return Collection(slug=self.slug, name=self.name, description=self.description, models=members)


@cache
def collection_tables() -> tuple[CollectionTable, ...]:
    """Read the tables of ``collections.toml``, in its order."""
    text = files("corral.catalog").joinpath("collections.toml").read_text(encoding="utf-8")
    return tuple(
        from_table(CollectionTable, table, where="collections.toml") for table in tomllib.loads(text)["collection"]
    )
