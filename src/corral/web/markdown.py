"""Render Markdown without HTML, images, or links other than web and mail."""

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
    """Render a text of the catalog; second-level headings become *first_heading*."""
    return Markup(_reader(breaks=False).render(text, {"shift": first_heading - 2}))  # noqa: S704 - made by _reader


def answer_markdown(text: str) -> Markup:
    """Render a model's answer; line breaks are kept, headings start below those of the page."""
    return Markup(_reader(breaks=True).render(text, {"shift": 2}))  # noqa: S704 - made by _reader


@cache
def _reader(*, breaks: bool) -> MarkdownIt:
    """CommonMark with tables; HTML is escaped."""
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
    """Set ``dir="auto"`` on each block."""
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
    """Render a code block that keys can scroll."""
    return Markup('<pre tabindex="0"><code>{}</code></pre>\n').format(tokens[index].content)
