"""A served model: its name, weights, prices, versions and page."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from corral.catalog.page import ModelPage
from corral.catalog.prices import DatedPrice
from corral.catalog.versions import UNVERSIONED, ModelVersion
from corral.core.errors import UnknownModel
from corral.core.pricing import Price


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogModel:
    """A model name that requests can use."""

    id: str
    """``owner/name``, as the clients of some door spell it."""
    owner: str
    description: str
    context_tokens: int
    created: int
    """Unix time in seconds of the model's publication."""
    deployment: str
    """Name of the deployment that computes for it."""
    weights: str
    """Name of the weights: ``demo``, or the name of the loaded checkpoint."""
    stands_in: bool
    """Whether these are not the weights that the name means. Every API must report this."""
    prices: tuple[DatedPrice, ...]
    """What is charged. Oldest first; at least one."""
    list_prices: tuple[DatedPrice, ...] = ()
    """What its own weights cost, even where others stand in for them; none means ``prices``."""
    versions: tuple[ModelVersion, ...] = (UNVERSIONED,)
    """The current one, then public ids that are accepted as aliases of it, newest first."""
    page: ModelPage = field(default_factory=ModelPage)
    chat_format: str = ""
    """See ``ModelCard.chat_format``."""
    input_defaults: Mapping[str, str | float] = field(default_factory=dict[str, str | float])
    """Defaults that differ from those of the APIs; see ``ModelCard.input_defaults``."""

    @property
    def name(self) -> str:
        """Its id without the owner."""
        return self.id.partition("/")[2]

    @property
    def version(self) -> str:
        """64 hex digits that stand for the weights that answer."""
        return self.versions[0].id

    def find_version(self, version: str) -> ModelVersion:
        """Get a version by its id, or by the first 40 digits of it, in any case.

        Raises:
            UnknownModel: the model has no such version.
        """
        for known in self.versions:
            if known.answers_to(version):
                return known
        raise UnknownModel(f"{self.id}:{version}")

    def price_at(self, now_s: float) -> Price:
        """Get the price at *now_s*, Unix time in seconds: the newest valid price, else the first."""
        return _price_at(self.prices, now_s)

    def list_price_at(self, now_s: float) -> Price:
        """What its own weights' tokens cost at *now_s*, Unix time in seconds, whoever stands in for them."""
        return _price_at(self.list_prices or self.prices, now_s)


def _price_at(prices: tuple[DatedPrice, ...], now_s: float) -> Price:
    begun = [dated.price for dated in prices if dated.since_s <= now_s]
    return begun[-1] if begun else prices[0].price
