"""Search in the catalog: every word must occur; its place decides the rank."""

from collections.abc import Iterable
from typing import Final

from corral.catalog.model import CatalogModel

_MOST_WORDS: Final = 16
"""Further words are ignored, so that a long text does not block the server."""


def rank(models: Iterable[CatalogModel], text: str) -> tuple[CatalogModel, ...]:
    """The models in which every word of *text* occurs, best first; equal ones stay in their order."""
    wanted = text.casefold().split(maxsplit=_MOST_WORDS)[:_MOST_WORDS]
    scored = [(_score(model, wanted), model) for model in models]
    found = [(score, model) for score, model in scored if score is not None]
    return tuple(model for _, model in sorted(found, key=lambda pair: -pair[0]))


def _score(model: CatalogModel, wanted: list[str]) -> int | None:
    scores = [_word_score(model, word) for word in wanted]
    return None if 0 in scores else sum(scores)


def _word_score(model: CatalogModel, word: str) -> int:
    """Score of one word: 0 if it does not occur."""
    id_, name = model.id.casefold(), model.name.casefold()
    if word in (id_, name):
        return 16
    if name.startswith(word):
        return 8
    if word in id_:
        return 4
    if any(word == tag.casefold() for tag in model.page.tags):
        return 2
    return int(word in model.description.casefold())
