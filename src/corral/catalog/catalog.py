"""The models that this server answers for.

One TOML file per model under ``models/``; adding a model of a known architecture is adding a file.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Final

from corral.catalog.cards import ModelCard, known_card, model_cards
from corral.catalog.collection import Collection, collection_tables
from corral.catalog.identity import contradiction, snapshot_name
from corral.catalog.model import CatalogModel
from corral.catalog.page import local_page
from corral.catalog.prices import PriceBook, free_of_charge
from corral.catalog.ranking import rank
from corral.catalog.versions import ModelVersion, version_of, weights_digest
from corral.checkpoints.source import open_source
from corral.core.errors import BadSetting, UnknownModel

DEMO: Final = "corral/demo"
DEFAULT_CONTEXT_TOKENS: Final = 4096
"""Shown for a checkpoint whose configuration does not say; one that the engine serves always does."""


class Catalog:
    """The served models by name, case-insensitively. Immutable once built."""

    def __init__(self, models: Iterable[CatalogModel]) -> None:
        self._models = {model.id.lower(): model for model in models}
        self._collections = _collections(self.models())

    def models(self) -> tuple[CatalogModel, ...]:
        """Each model once, in the catalog's order."""
        return tuple(self._models.values())

    def get(self, name: str) -> CatalogModel:
        """The model that answers to *name*.

        Raises:
            UnknownModel: no model of that name is served.
        """
        try:
            return self._models[name.lower()]
        except KeyError:
            raise UnknownModel(name) from None

    def find_version(self, name: str, version: str) -> ModelVersion:
        """Get a version of the model *name* by its id, or by the first 40 digits of it, in any case.

        Raises:
            UnknownModel: no such model is served, or it has no such version.
        """
        return self.get(name).find_version(version)

    def get_by_version(self, version: str) -> CatalogModel:
        """Get a model by one of its versions: an id, or the first 40 digits of it, in any case.

        Raises:
            UnknownModel: no served model has that version.
        """
        for model in self.models():
            if any(known.answers_to(version) for known in model.versions):
                return model
        raise UnknownModel(version)

    def search(self, text: str) -> tuple[CatalogModel, ...]:
        """The models in which every word of *text* occurs, the best match first; all of them if it has no word.

        Names count for more than tags, and tags for more than descriptions.
        """
        return rank(self.models(), text)

    def collections(self) -> tuple[Collection, ...]:
        """The collections that any served model belongs to."""
        return self._collections


def _collections(models: tuple[CatalogModel, ...]) -> tuple[Collection, ...]:
    made = (table.of(models) for table in collection_tables())
    return tuple(collection for collection in made if collection.models)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Weights:
    """What is loaded."""

    deployment: str
    name: str
    digest: str
    context_tokens: int
    created: int
    """Unix time in seconds."""


def demo_checkpoint() -> Path:
    """The directory of the checkpoint that is shipped."""
    return Path(str(files("corral.demo")))


def demo_catalog(price_book: PriceBook = MappingProxyType({})) -> Catalog:
    """The demo model under its own name, and standing in for every other; free unless *price_book* says otherwise."""
    card = next(card for card in model_cards() if DEMO in card.names)
    demo = _Weights(
        deployment=DEMO,
        name="demo",
        digest=weights_digest(demo_checkpoint()),
        context_tokens=card.context_tokens,
        created=card.created,
    )
    return _priced(
        price_book,
        (_served(card, name, demo, stands_in=DEMO not in card.names) for card in model_cards() for name in card.names),
    )


def checkpoint_catalog(
    checkpoint: Path, price_book: PriceBook = MappingProxyType({}), *, name: str | None = None, stands_in: bool = False
) -> Catalog:
    """The names that a checkpoint answers to.

    That is *name*, else the Hub repository whose snapshot it is, else ``local/<its own name>``; with the name of a
    known model, all names of that model at the catalog's prices. Other names are free, unless *price_book* says
    otherwise. The shape of the weights is no evidence: every fine-tune has the shape of the model it was made from.

    Args:
        checkpoint: a directory, or one file that is a whole model.
        price_book: the operator's own prices.
        name: what the operator says that the weights are, or what they were pulled as.
        stands_in: let it answer to the names of known models as well, free and marked as a stand-in.

    Raises:
        CheckpointRefused: it has no readable configuration.
        BadSetting: the weights cannot be the known model that *name* says they are.
    """
    source = open_source(checkpoint)
    config = source.read_config()
    held = name or snapshot_name(checkpoint) or f"local/{source.name}"
    card = known_card(held)
    if card is not None and (problem := contradiction(card, config)) is not None:
        own = f"local/{held.rpartition('/')[2]}"
        if not stands_in:
            raise BadSetting(
                f"{checkpoint} cannot be {held}: {problem} Serve it under a name of its own (`--as {own}`), or let it "
                "stand in for the models it is not (`--stands-in`)."
            )
        held, card = own, None
    weights = _Weights(
        deployment=held,
        name=held.rpartition("/")[2],
        digest=weights_digest(checkpoint),
        context_tokens=_positive(config.get("max_position_embeddings"), otherwise=DEFAULT_CONTEXT_TOKENS),
        created=source.modified_s,
    )
    served = [_own(held, weights)] if card is None else [_served(card, alias, weights) for alias in card.names]
    if stands_in:
        taken = {model.id for model in served}
        served += [
            _served(other, alias, weights, stands_in=True)
            for other in model_cards()
            if DEMO not in other.names
            for alias in other.names
            if alias not in taken
        ]
    return _priced(price_book, served)


def _priced(price_book: PriceBook, models: Iterable[CatalogModel]) -> Catalog:
    served = list(models)
    known = {model.id.lower() for model in served} | {name.lower() for card in model_cards() for name in card.names}
    unknown = sorted(name for name in price_book.keys() - known if not name.startswith("local/"))  # served another time
    if unknown:
        raise BadSetting(f"prices: no model is called {', '.join(unknown)}; a slip there would make a model free.")
    return Catalog(_with_own_prices(price_book, model) for model in served)


def _with_own_prices(price_book: PriceBook, model: CatalogModel) -> CatalogModel:
    prices = price_book.get(model.id.lower())
    return model if prices is None else replace(model, prices=prices, list_prices=prices)


def _own(name: str, weights: _Weights) -> CatalogModel:
    """A model that the catalog does not know."""
    return CatalogModel(
        id=name,
        owner=name.partition("/")[0],
        description=f"The checkpoint {weights.name}.",
        context_tokens=weights.context_tokens,
        created=weights.created,
        deployment=weights.deployment,
        weights=weights.name,
        stands_in=False,
        prices=(free_of_charge(name),),
        versions=(_version(name, weights),),
        page=local_page(weights.name),
    )


def _served(card: ModelCard, name: str, weights: _Weights, *, stands_in: bool = False) -> CatalogModel:
    return CatalogModel(
        id=name,
        owner=name.partition("/")[0],
        description=card.describe(name),
        context_tokens=weights.context_tokens,
        created=card.created,
        deployment=weights.deployment,
        weights=weights.name,
        stands_in=stands_in,
        prices=(free_of_charge(name),) if stands_in else card.prices,
        list_prices=card.prices,
        versions=(_version(name, weights), *card.known_versions.get(name, ())),
        page=card.page.of_weights(weights.digest),
        input_defaults=card.input_defaults,
    )


def _version(name: str, weights: _Weights) -> ModelVersion:
    return ModelVersion(id=version_of(name, weights.digest), created_at_s=weights.created)


def _positive(value: object, *, otherwise: int) -> int:
    return value if isinstance(value, int) and value > 0 else otherwise
