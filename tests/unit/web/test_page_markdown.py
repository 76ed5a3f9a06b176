"""Readmes and answers rendered as safe HTML."""

from collections.abc import Callable
from html.parser import HTMLParser

import pytest

from corral.web.markdown import answer_markdown, markdown

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "[a](javascript:alert(1))",
    "[a](JaVaScRiPt:alert(1))",
    "[a](data:text/html,<script>alert(1)</script>)",
    "[a](vbscript:x)",
    "[a](/sign-out)",
    "[a](//evil.example/x)",
    "<javascript:alert(1)>",
    "![a](https://evil.example/pixel.png)",
    "![a][b]\n\n[b]: https://evil.example/pixel.png",
    '[a](https://example.org "\\" onclick=alert(1)")',
    "`<script>`\n\n```html\n<script>alert(1)</script>\n```",
    '```"><script>alert(1)</script>\nx\n```',
    "| <script> | [x](javascript:1) |\n|-|-|\n| <b> | y |",
]


_BLOCKS = {"p", "br", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "pre", "hr"}
_TABLES = {"table", "thead", "tbody", "tr", "th", "td"}
TAGS = _BLOCKS | _TABLES | {"code", "em", "strong", "s", "a"}


class Parts(HTMLParser):
    """Every element and attribute of an HTML text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: dict[str, set[str]] = {}
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            self.attributes.setdefault(name, set()).add(value or "")


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("render", [markdown, answer_markdown])
def test_rendered_markdown_contains_no_scripts_or_external_resources(text: str, render: Callable[[str], str]) -> None:
    parts = Parts(render(text))
    assert parts.tags <= TAGS
    assert parts.attributes.keys() <= {"href", "rel", "title", "dir", "class", "start", "tabindex"}
    assert all(href.startswith(("https://", "http://", "mailto:")) for href in parts.attributes.get("href", ()))


def test_web_links_have_rel_noopener_nofollow() -> None:
    html = markdown("[paper](https://arxiv.org/abs/2307.09288)")
    assert '<a href="https://arxiv.org/abs/2307.09288" rel="noopener nofollow">paper</a>' in html


def test_headings_start_below_the_page_heading_level() -> None:
    assert "<h2" in markdown("## How to prompt", first_heading=2)
    assert "<h3" in markdown("## How to prompt")
    assert "<h3" in answer_markdown("# Loud")


def test_answer_keeps_line_breaks_and_text_direction() -> None:
    html = answer_markdown("one\ntwo\n\n\N{HEBREW LETTER SHIN}")
    assert "one<br />" in html
    assert html.count('<p dir="auto">') == 2
