"""Home page: the served models, and known ones that could be served."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from starlette.responses import Response

from corral.catalog.cards import ModelCard, known_card, model_cards
from corral.catalog.model import CatalogModel
from corral.core.pricing import Price
from corral.core.server_state import ServerState
from corral.deployments.status import public_text
from corral.web.formatting import compact, money
from corral.web.pages import Pages, Visit

_PER_MILLION: Final = 10**6
_MAX_QUERY_CHARS: Final = 200
_LOADING_STATES: Final = frozenset({ServerState.READY, ServerState.STARTING})
"""Of the server: in these each model is as far as its deployment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A model on the home page."""

    owner: str
    name: str
    href: str | None
    """URL of its page; None if it is not served."""
    description: str
    cover_url: str
    state: str
    state_text: str
    runs: str | None
    price: str
    pull: str | None
    """Command that downloads its weights."""
    also: tuple[str, ...]
    """Other names of the model."""


class Home:
    """``GET /``, with search."""

    def __init__(self, pages: Pages) -> None:
        """Add the route."""
        self._pages = pages
        self._dependencies = pages.dependencies
        pages.get("/", self.show, signed_in=False)

    async def show(self, visit: Visit) -> Response:
        """Model cards; ``?q=`` filters them."""
        query = visit.request.query_params.get("q", "")[:_MAX_QUERY_CHARS]
        counts = await self._dependencies.predictions.run_counts()
        groups = _by_weights(self._dependencies.predictions.catalog.search(query))
        cards = [self._served(names, sum(counts.get(model.id, 0) for model in names)) for names in groups]
        cards += [self._absent(card) for card in self._not_served() if _matches(card, query)]
        return self._pages.draw(visit, "home.html", {"cards": cards, "query": query})

    def _served(self, names: Sequence[CatalogModel], runs: int) -> Card:
        model = names[0]
        state, text = self._state(model)
        card = known_card(model.id)
        if model.stands_in:
            text = f"{text}: the demo model stands in"
        return Card(
            owner=model.owner,
            name=model.name,
            href=f"/{model.id}",
            description=model.description,
            cover_url=cover_url(model.page.cover_image),
            state=state,
            state_text=text,
            runs=compact(runs),
            price=price_text(model.list_price_at(self._dependencies.clock())),
            pull=_pull(card) if card is not None and model.stands_in else None,
            also=tuple(other.id for other in names[1:]),
        )

    def _state(self, model: CatalogModel) -> tuple[str, str]:
        """State of a model as the class and the text of its badge; the server's own where that concerns all models."""
        status = self._dependencies.predictions.status
        if status.state not in _LOADING_STATES:
            return "starting", status.state.replace("_", " ")
        state = self._dependencies.predictions.deployment_of(model).state
        return state.phase.value, public_text(state)

    def _not_served(self) -> list[ModelCard]:
        served = {model.id.lower() for model in self._dependencies.predictions.catalog.models()}
        return [card for card in model_cards() if served.isdisjoint(map(str.lower, card.names)) and card.hub]

    def _absent(self, card: ModelCard) -> Card:
        owner, _, name = card.names[0].partition("/")
        return Card(
            owner=owner,
            name=name,
            href=None,
            description=card.description,
            cover_url=cover_url(card.page.cover_image),
            state="absent",
            state_text="not installed",
            runs=None,
            price=price_text(card.prices[-1].price),
            pull=_pull(card),
            also=card.names[1:],
        )


def _by_weights(models: Iterable[CatalogModel]) -> list[list[CatalogModel]]:
    """Group the names of each model, in order of first appearance."""
    groups: dict[str, list[CatalogModel]] = {}
    for model in models:
        card = known_card(model.id)
        groups.setdefault(model.id if card is None else card.names[0], []).append(model)
    return list(groups.values())


def cover_url(file: str) -> str:
    """URL of a cover image."""
    return f"/static/covers/{file}"


def price_text(price: Price) -> str:
    """Format a price briefly."""
    if price.input_nusd == price.output_nusd == 0:
        return "free"
    input_usd, output_usd = (money(nusd * _PER_MILLION) for nusd in (price.input_nusd, price.output_nusd))
    return f"{input_usd} in, {output_usd} out per 1M tokens"


def _pull(card: ModelCard) -> str | None:
    return f"corral pull {card.hub}" if card.hub else None


def _matches(card: ModelCard, query: str) -> bool:
    text = " ".join((*card.names, card.description, *card.page.tags)).lower()
    return all(word in text for word in query.lower().split())
