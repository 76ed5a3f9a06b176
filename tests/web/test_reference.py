"""The API reference page, rendered from the OpenAPI document."""

import html
import re

import pytest
from httpx2 import AsyncClient

from corral.web.schema_words import in_words
from tests.web.test_foundation import Page

pytestmark = pytest.mark.anyio


async def test_reference_contains_every_operation_parameter_and_type(anonymous_client: AsyncClient) -> None:
    document = (await anonymous_client.get("/openapi.json")).json()
    answer = await anonymous_client.get("/reference")
    assert answer.status_code == 200
    page = html.unescape(answer.text)
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert f'<span class="method">{method.upper()}</span> <code>{path}</code>' in page
            assert operation["summary"] in page
            for parameter in operation.get("parameters", ()):
                assert f"<code>{parameter['name']}</code>" in page
    for name, schema in document["components"]["schemas"].items():
        assert f">{name}</h3>" in page
        for field in schema.get("properties", {}):
            assert f"<code>{field}</code>" in page


async def test_reference_links_resolve_and_contain_no_script(anonymous_client: AsyncClient) -> None:
    text = (await anonymous_client.get("/reference")).text
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    links = set(re.findall(r'href="#([^"]+)"', text))
    assert len(links) > 50
    assert links <= set(ids)
    page = Page(text)
    assert page.inline == []
    assert all(path.startswith("/static/") for path in page.loaded)


async def test_every_page_links_to_the_reference(anonymous_client: AsyncClient) -> None:
    for path in ("/", "/sign-in", "/meta/llama-2-70b-chat", "/nothing"):
        page = (await anonymous_client.get(path, headers={"accept": "text/html"})).text
        assert '<a href="/reference">' in page
        assert '"/openapi.json"' not in page


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "number", "minimum": 0, "exclusiveMaximum": 1}, "number, at least 0, below 1"),
        ({"anyOf": [{"type": "integer", "maximum": 5}, {"type": "null"}]}, "integer, at most 5 or null"),
        ({"enum": ["a", 1]}, '<code>"a"</code> or <code>1</code>'),
        ({"const": True}, "<code>true</code>"),
        ({"type": "array", "items": {"$ref": "#/components/schemas/A"}}, 'array of <a href="#type-A">A</a>'),
        ({"type": "object", "additionalProperties": {"type": "string"}}, "object of string"),
        ({"type": "string", "pattern": "<b>"}, "string, matching <code>&lt;b&gt;</code>"),
        ({}, "any JSON"),
    ],
)
def test_schema_is_described_in_words(schema: dict[str, object], words: str) -> None:
    assert str(in_words(schema)).replace("&#34;", '"') == words
