"""Markdown as HTML that can do nothing: no HTML of its author, no pictures, links to web and mail only."""

from collections.abc import MutableMapping, Sequence
from functools import cache
from typing import Any, Final

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import OptionsDict
from markupsafe import Markup

_SCHEMES: Final = ("https://", "http://", "mailto:")


def markdown(text: str, *, first_heading: int = 3) -> Markup:
    """A text of the catalog. Its headings of the second level become those of level *first_heading*."""
    return Markup(_reader(breaks=False).render(text, {"shift": first_heading - 2}))  # noqa: S704 - made by _reader


def answer_markdown(text: str) -> Markup:
    """A model's answer: line ends stay where they are, and headings begin below those of the page."""
    return Markup(_reader(breaks=True).render(text, {"shift": 2}))  # noqa: S704 - made by _reader


@cache
def _reader(*, breaks: bool) -> MarkdownIt:
    """CommonMark and tables; whatever looks like HTML is text."""
    reader = MarkdownIt("commonmark", {"html": False, "breaks": breaks}).enable(["table", "strikethrough"])
    reader.disable(["image", "html_block", "html_inline"])
    reader.validateLink = lambda url: url.lower().startswith(_SCHEMES)
    reader.add_render_rule("link_open", _link)
    for name in ("heading_open", "heading_close"):
        reader.add_render_rule(name, _heading)
    for name in ("fence", "code_block"):
        reader.add_render_rule(name, _code)
    for name in ("paragraph_open", "blockquote_open", "list_item_open"):
        reader.add_render_rule(name, _either_way)
    return reader


def _link(
    renderer: RendererHTML,
    tokens: Sequence[Token],
    index: int,
    options: OptionsDict,
    env: MutableMapping[str, Any],
) -> str:
    tokens[index].attrSet("rel", "noopener nofollow")
    return renderer.renderToken(tokens, index, options, env)


def _heading(
    renderer: RendererHTML,
    tokens: Sequence[Token],
    index: int,
    options: OptionsDict,
    env: MutableMapping[str, Any],
) -> str:
    level = max(2, min(6, int(tokens[index].tag[1:]) + env["shift"]))
    tokens[index].tag = f"h{level}"
    return renderer.renderToken(tokens, index, options, env)


def _either_way(
    renderer: RendererHTML,
    tokens: Sequence[Token],
    index: int,
    options: OptionsDict,
    env: MutableMapping[str, Any],
) -> str:
    """Each block goes right to left if its first letter does."""
    if not tokens[index].hidden:
        tokens[index].attrSet("dir", "auto")
    return renderer.renderToken(tokens, index, options, env)


def _code(
    _renderer: RendererHTML,
    tokens: Sequence[Token],
    index: int,
    _options: OptionsDict,
    _env: MutableMapping[str, Any],
) -> str:
    """A block of code, which keys can scroll."""
    return Markup('<pre tabindex="0"><code>{}</code></pre>\n').format(tokens[index].content)
