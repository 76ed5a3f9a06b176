"""The models that this server answers for.

One TOML file per model under ``models/``; adding a model of a known architecture is adding a file.
"""

import json
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, cast

from corral.catalog.prices import DatedPrice, PriceBook, dated_prices, free_of_charge
from corral.core.errors import BadSetting, CheckpointRefused, UnknownModel
from corral.core.pricing import Price

DEMO: Final = "corral/demo"
_MAX_CONFIG_BYTES: Final = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogModel:
    """A name that callers may ask for."""

    id: str
    """``owner/name``, as the clients of some door spell it."""
    owner: str
    description: str
    context_tokens: int
    created: int
    """Unix time in seconds of the model's publication."""
    weights: str
    """What really answers: ``demo``, or the name of the loaded checkpoint."""
    stands_in: bool
    """Whether other weights than the name promises answer, which every door must say."""
    prices: tuple[DatedPrice, ...]
    """Oldest first; at least one."""

    def price_at(self, now_s: float) -> Price:
        """What its tokens cost at *now_s*, Unix time in seconds: the newest price that has begun, else the first."""
        begun = [dated.price for dated in self.prices if dated.since_s <= now_s]
        return begun[-1] if begun else self.prices[0].price


class Catalog:
    """The served models by name, case-insensitively. Immutable once built."""

    def __init__(self, models: Iterable[CatalogModel]) -> None:
        self._models = {model.id.lower(): model for model in models}

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


def model_cards() -> tuple[ModelCard, ...]:
    """Every model that Corral knows, smallest first."""
    documents = files("corral.catalog").joinpath("models").iterdir()
    cards = [
        _card(tomllib.loads(entry.read_text(encoding="utf-8"))) for entry in documents if entry.name.endswith(".toml")
    ]
    return tuple(sorted(cards, key=lambda card: card.hidden_size))


def demo_checkpoint() -> Path:
    """The directory of the checkpoint that is shipped."""
    return Path(str(files("corral.demo")))


def demo_catalog(price_book: PriceBook = MappingProxyType({})) -> Catalog:
    """The demo model under its own name, and standing in for every other; free unless *price_book* says otherwise."""
    return _priced(
        price_book,
        (
            _served(card, name, weights="demo", stands_in=DEMO not in card.names)
            for card in model_cards()
            for name in card.names
        ),
    )


def checkpoint_catalog(checkpoint: Path, price_book: PriceBook = MappingProxyType({})) -> Catalog:
    """A checkpoint directory under its own name, and under the names of the known model it is by its shape.

    Known models have the catalog's prices and the own name is free, unless *price_book* says otherwise.

    Raises:
        CheckpointRefused: there is no readable ``config.json``.
    """
    config = _read_config(checkpoint)
    weights = checkpoint.resolve().name
    shape = (config.get("hidden_size"), config.get("num_hidden_layers"))
    own = CatalogModel(
        id=f"local/{weights}",
        owner="local",
        description=f"The checkpoint in the directory {weights}.",
        context_tokens=_positive(config.get("max_position_embeddings"), otherwise=4096),
        created=int((checkpoint / "config.json").stat().st_mtime),
        weights=weights,
        stands_in=False,
        prices=(free_of_charge(f"local/{weights}"),),
    )
    known = (card for card in model_cards() if (card.hidden_size, card.num_hidden_layers) == shape)
    served = (_served(card, name, weights=weights, stands_in=False) for card in known for name in card.names)
    return _priced(price_book, [own, *served])


def _priced(price_book: PriceBook, models: Iterable[CatalogModel]) -> Catalog:
    served = list(models)
    known = {model.id.lower() for model in served} | {name.lower() for card in model_cards() for name in card.names}
    unknown = sorted(name for name in price_book.keys() - known if not name.startswith("local/"))  # served another time
    if unknown:
        raise BadSetting(f"prices: no model is called {', '.join(unknown)}; a slip there would make a model free.")
    return Catalog(replace(model, prices=price_book.get(model.id.lower(), model.prices)) for model in served)


def _card(table: dict[str, Any]) -> ModelCard:
    names = tuple(table.pop("names"))
    return ModelCard(names=names, prices=dated_prices(names[0], table.pop("prices")), **table)


def _served(card: ModelCard, name: str, *, weights: str, stands_in: bool) -> CatalogModel:
    return CatalogModel(
        id=name,
        owner=name.partition("/")[0],
        description=card.description,
        context_tokens=card.context_tokens,
        created=card.created,
        weights=weights,
        stands_in=stands_in,
        prices=(free_of_charge(name),) if stands_in else card.prices,
    )


def _read_config(checkpoint: Path) -> dict[str, Any]:
    path = checkpoint / "config.json"
    try:
        if path.stat().st_size > _MAX_CONFIG_BYTES:
            raise CheckpointRefused(f"{path} is larger than {_MAX_CONFIG_BYTES} bytes.")
        config = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise CheckpointRefused(f"{checkpoint} is no checkpoint: it has no config.json.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointRefused(f"{path} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise CheckpointRefused(f"{path} must hold a JSON object.")
    return cast("dict[str, Any]", config)


def _positive(value: object, *, otherwise: int) -> int:
    return value if isinstance(value, int) and value > 0 else otherwise
