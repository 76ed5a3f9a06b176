"""The served models.

One TOML file per model under ``models/``; adding a model of a known architecture is adding a file.
"""

from collections.abc import Iterable, Iterator
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
from corral.checkpoints.config import Config
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
        """List the models in the catalog's order."""
        return tuple(self._models.values())

    def get(self, name: str) -> CatalogModel:
        """Get a model by name, case-insensitively.

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
        """List the collections with at least one served model."""
        return self._collections


def _collections(models: tuple[CatalogModel, ...]) -> tuple[Collection, ...]:
    made = (table.of(models) for table in collection_tables())
    return tuple(collection for collection in made if collection.models)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedCheckpoint:
    """Weights of a deployment, and the evidence for their model names."""

    deployment: str = ""
    """Name of the deployment; empty is the first name that the weights hold."""
    path: Path
    """A checkpoint: a directory, or one file that is a whole model."""
    names: tuple[str, ...] = ()
    """What the operator says that the weights are, or what they were pulled as."""
    stands_in: bool = False
    """Let them answer to the names of known models that no deployment holds, free and marked as a stand-in."""
    context_tokens: int | None = None
    """Context that their engine serves; None is that of the configuration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Weights:
    """Weights of one deployment, after reading their configuration."""

    deployment: str
    name: str
    held: tuple[str, ...]
    """Names proved by evidence; at least one."""
    digest: str
    context_tokens: int
    created: int
    """Unix time in seconds."""
    stands_in: bool


def demo_checkpoint() -> Path:
    """Directory of the shipped checkpoint."""
    return Path(str(files("corral.demo")))


def demo_catalog(price_book: PriceBook = MappingProxyType({})) -> Catalog:
    """The demo model under its own name, and standing in for every other; free unless *price_book* says otherwise."""
    demo = ServedCheckpoint(path=demo_checkpoint(), names=(DEMO,), stands_in=True)
    return served_catalog([demo], price_book)


def checkpoint_catalog(
    checkpoint: Path, price_book: PriceBook = MappingProxyType({}), *, name: str | None = None, stands_in: bool = False
) -> Catalog:
    """Create the catalog of one checkpoint; see ``served_catalog``."""
    names = () if name is None else (name,)
    return served_catalog([ServedCheckpoint(path=checkpoint, names=names, stands_in=stands_in)], price_book)


def served_catalog(checkpoints: Iterable[ServedCheckpoint], price_book: PriceBook = MappingProxyType({})) -> Catalog:
    """Create the catalog of several checkpoints.

    Each holds the names that it was given, else the Hub repository whose snapshot it is, else ``local/<its own name>``;
    with the name of a known model, all names of that model at the catalog's prices. Other names are free, unless
    *price_book* says otherwise. The shape of the weights is no evidence: every fine-tune has the shape of the model it
    was made from.

    Args:
        checkpoints: one for each deployment.
        price_book: the operator's own prices.

    Raises:
        CheckpointRefused: one has no readable configuration.
        BadSetting: a checkpoint cannot be the known model that it is said to be; two deployments have one name, answer
            to one name, or both stand in.
    """
    weights = [_look_at(checkpoint) for checkpoint in checkpoints]
    _check_apart([one.deployment for one in weights], "Two deployments are called {name}; give each a name of its own.")
    if len(standing_in := [one for one in weights if one.stands_in]) > 1:
        names = " and ".join(one.deployment for one in standing_in[:2])
        raise BadSetting(f"stands_in: both {names} would stand in for known models; at most one deployment can.")
    served: dict[str, CatalogModel] = {}
    for one in weights:
        for model in _held_models(one):
            if (other := served.get(model.id.lower())) is not None and other.deployment != one.deployment:
                raise BadSetting(
                    f"The deployments {other.deployment} and {one.deployment} both answer to {model.id}. Give one of "
                    "them other `models`."
                )
            served.setdefault(model.id.lower(), model)
    for one in standing_in:
        for card, alias in _names_of_others():
            served.setdefault(alias.lower(), _served(card, alias, one, stands_in=True))
    return _priced(price_book, served.values())


def deployment_name(checkpoint: ServedCheckpoint) -> str:
    """Name of the deployment that serves it: its own, else the first name that the weights hold."""
    return checkpoint.deployment or _look_at(checkpoint).deployment


def _check_apart(names: Iterable[str], sentence: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name.lower() in seen:
            raise BadSetting(sentence.format(name=name))
        seen.add(name.lower())


def _look_at(checkpoint: ServedCheckpoint) -> _Weights:
    if checkpoint.names == (DEMO,):
        card = next(card for card in model_cards() if DEMO in card.names)
        return _Weights(
            deployment=checkpoint.deployment or DEMO,
            name="demo",
            held=(DEMO,),
            digest=weights_digest(checkpoint.path),
            context_tokens=checkpoint.context_tokens or card.context_tokens,
            created=card.created,
            stands_in=checkpoint.stands_in,
        )
    source = open_source(checkpoint.path)
    config = source.read_config()
    names = checkpoint.names or (snapshot_name(checkpoint.path) or f"local/{source.name}",)
    held = tuple(dict.fromkeys(_name_held(name, checkpoint, config) for name in names))
    return _Weights(
        deployment=checkpoint.deployment or held[0],
        name=held[0].rpartition("/")[2],
        held=held,
        digest=weights_digest(checkpoint.path),
        context_tokens=checkpoint.context_tokens
        or _positive(config.get("max_position_embeddings"), otherwise=DEFAULT_CONTEXT_TOKENS),
        created=source.modified_s,
        stands_in=checkpoint.stands_in,
    )


def _name_held(name: str, checkpoint: ServedCheckpoint, config: Config) -> str:
    """The name, or one of their own for weights that only stand in for the known model of that name."""
    card = known_card(name)
    if card is None or (problem := contradiction(card, config)) is None:
        return name
    own = f"local/{name.rpartition('/')[2]}"
    if checkpoint.stands_in:
        return own
    raise BadSetting(
        f"{checkpoint.path} cannot be {name}: {problem} Serve it under a name of its own (`--as {own}`), or let it "
        "stand in for the models it is not (`--stands-in`)."
    )


def _held_models(weights: _Weights) -> Iterator[CatalogModel]:
    for name in weights.held:
        card = known_card(name)
        if card is None:
            yield _own(name, weights)
        else:
            yield from (_served(card, alias, weights) for alias in card.names)


def _names_of_others() -> Iterator[tuple[ModelCard, str]]:
    """Every name that a stand-in may answer to, with its card."""
    return ((card, alias) for card in model_cards() if card.allows_stand_in for alias in card.names)


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
    """Create a model for weights without a card."""
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
        chat_format=card.chat_format,
        input_defaults=card.input_defaults,
    )


def _version(name: str, weights: _Weights) -> ModelVersion:
    return ModelVersion(id=version_of(name, weights.digest), created_at_s=weights.created)


def _positive(value: object, *, otherwise: int) -> int:
    return value if isinstance(value, int) and value > 0 else otherwise
