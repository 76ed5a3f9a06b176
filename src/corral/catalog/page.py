"""Content of a model's page besides inputs and prices: readme, links, cover image, recorded runs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from string import Template
from typing import Any, Final

from corral.catalog.tables import from_table
from corral.core.errors import BadSetting

LOCAL_COVER: Final = "local.svg"


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A recorded run of the model, independent of an API."""

    id: str
    """The prediction's."""
    model: str
    """The name that was asked for."""
    weights_digest: str
    """Of the weights that answered; see ``versions.weights_digest``."""
    input: Mapping[str, Any]
    """By the names of the inputs in the playground's form, without those that have their default."""
    seed: int
    output: tuple[str, ...]
    """The text of each token that showed any, as the model gave it; joined they are the answer, which may begin with a
    space."""
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    created_at_ms: int
    """Unix milliseconds, as the next three."""
    admitted_at_ms: int
    """The engine took it into its batch."""
    started_at_ms: int
    """First token."""
    completed_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPage:
    """Texts, links and images of a model's page."""

    readme: str = ""
    """Markdown."""
    github_url: str | None = None
    paper_url: str | None = None
    license_url: str | None = None
    cover_image: str = LOCAL_COVER
    """Name of an SVG file; its content is ``cover()``."""
    is_official: bool = False
    tags: tuple[str, ...] = ()
    examples: tuple[Example, ...] = ()
    """Runs of the weights that answer now; the first one is what a form begins with."""

    def cover(self) -> bytes:
        """The cover image as SVG: no script, no reference to anything outside it."""
        return _file("pages", self.cover_image).encode()

    def of_weights(self, digest: str) -> "ModelPage":
        """Keep only the examples of the weights with *digest*."""
        return replace(self, examples=tuple(run for run in self.examples if run.weights_digest == digest))


@dataclass(frozen=True, slots=True, kw_only=True)
class _PageTable:
    """The table ``page`` of a model's TOML file."""

    readme: str
    """A Markdown file under ``pages/``, in which ``$word`` stands for one of ``words``."""
    cover_image: str
    words: Mapping[str, str] = field(default_factory=dict[str, str])
    examples: str | None = None
    """A JSON file under ``examples/``."""
    github_url: str | None = None
    paper_url: str | None = None
    license_url: str | None = None
    is_official: bool = False
    tags: list[str] = field(default_factory=list[str])


def page_from_table(table: Mapping[str, Any], *, where: str) -> ModelPage:
    """A page from the table ``page`` of a model's TOML file, with the files that it names.

    Raises:
        BadSetting: a key is unknown or missing, or a word of the readme has no text.
    """
    read = from_table(_PageTable, table, where=where)
    return ModelPage(
        readme=_readme(read.readme, read.words, where=where),
        github_url=read.github_url,
        paper_url=read.paper_url,
        license_url=read.license_url,
        cover_image=read.cover_image,
        is_official=read.is_official,
        tags=tuple(read.tags),
        examples=() if read.examples is None else _examples(read.examples),
    )


def local_page(name: str) -> ModelPage:
    """Create the page of unknown weights from the *name* of their directory or file."""
    words = {"name": name.replace("`", "'")}  # the readme shows it as code, which a backtick would end
    return ModelPage(readme=_readme("local.md", words, where=name), tags=("text-generation", "local"))


def _readme(name: str, words: Mapping[str, str], *, where: str) -> str:
    try:
        return Template(_file("pages", name)).substitute(words)
    except (KeyError, ValueError) as error:
        raise BadSetting(f"{where}: {name} asks for a word that is not there: {error}.") from error


def _examples(name: str) -> tuple[Example, ...]:
    return tuple(
        from_table(Example, {**table, "output": tuple(table.get("output", ()))}, where=f"examples/{name}")
        for table in json.loads(_file("examples", name))
    )


@cache
def _file(folder: str, name: str) -> str:
    return files("corral.catalog").joinpath(folder, name).read_text(encoding="utf-8")
