"""Heading of a model's pages: name, badges, tabs."""

from dataclasses import dataclass
from typing import Final

from corral.catalog.model import CatalogModel
from corral.core.pricing import Price
from corral.deployments.status import DeploymentStatus, public_text
from corral.web.formatting import compact

_READY: Final = "ready"
_TABS: Final = (
    ("Playground", ""),
    ("API", "/api"),
    ("Examples", "/examples"),
    ("README", "/readme"),
    ("Versions", "/versions"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Badge:
    """A short fact, perhaps with a link."""

    text: str
    href: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tab:
    """A tab on the model page."""

    name: str
    href: str
    here: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """Name, badges and tabs."""

    model: CatalogModel
    badges: tuple[Badge, ...]
    tabs: tuple[Tab, ...]


def heading(model: CatalogModel, deployment: DeploymentStatus, *, runs: int, price: Price, here: str) -> Heading:
    """The heading of *model*.

    Args:
        model: whose page it is.
        deployment: what computes for it.
        runs: how many predictions it has ended.
        price: what its own weights cost.
        here: the name of the tab that is shown.
    """
    is_free = price.input_nusd == price.output_nusd == 0
    links = (
        ("GitHub", model.page.github_url),
        ("Paper", model.page.paper_url),
        ("License", model.page.license_url),
    )
    state = public_text(deployment.state)
    badges = (
        Badge(text="Public"),
        *((Badge(text=state.capitalize()),) if state != _READY else ()),
        Badge(text=f"{compact(runs)} {'run' if runs == 1 else 'runs'}"),
        Badge(text="Free" if is_free else "Priced per token", href=f"/{model.id}#pricing"),
        *(Badge(text=text, href=href) for text, href in links if href is not None),
    )
    tabs = tuple(Tab(name=name, href=f"/{model.id}{path}", here=name == here) for name, path in _TABS)
    return Heading(model=model, badges=badges, tabs=tabs)
