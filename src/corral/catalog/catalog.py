"""The models that this server answers for."""

from collections.abc import Mapping
from dataclasses import dataclass

from corral.core.errors import UnknownModel


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogModel:
    """A name that callers may ask for."""

    id: str
    """``owner/name``, as each door's own clients spell it."""
    owner: str
    description: str
    context_tokens: int
    created: int
    """Unix time in seconds of the model's publication."""
    weights: str
    """What really answers: the catalog id of the loaded weights, or ``demo`` for the demo model."""
    stands_in: bool
    """Whether other weights than the name promises answer, which every door must say."""


class Catalog:
    """The served models by name, case-insensitively. Immutable once built."""

    def __init__(self, models: Mapping[str, CatalogModel]) -> None:
        self._models = {name.lower(): model for name, model in models.items()}

    def models(self) -> tuple[CatalogModel, ...]:
        """Each model once, in the catalog's order."""
        return tuple(dict.fromkeys(self._models.values()))

    def get(self, name: str) -> CatalogModel:
        """The model that answers to *name*.

        Raises:
            UnknownModel: no model of that name is served.
        """
        try:
            return self._models[name.lower()]
        except KeyError:
            raise UnknownModel(name) from None
