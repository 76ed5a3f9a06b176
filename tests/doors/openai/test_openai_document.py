"""``docs/api/openai.md`` and the OpenAPI document match the code."""

import re
from pathlib import Path
from typing import Any

import pytest

from corral.api.app import create_app
from corral.api.doors.openai.errors import ERRORS
from corral.api.doors.openai.translate import (
    HARMLESS,
    HARMLESS_IN_COMPLETION,
    HARMLESS_IN_MESSAGE,
    IGNORED,
    IGNORED_IN_COMPLETION,
    IGNORED_IN_MESSAGE,
)
from corral.api.doors.openai.wire import ChatCompletionRequest, ChatMessage, CompletionRequest
from corral.api.doors.openai.wire_answers import CostEstimate
from corral.api.operation import RUN_HEADERS
from corral.api.response_format import ResponseFormat
from tests.doors.known_keys import door_dependencies
from tests.doors.scripted_predictions import ScriptedPredictions

PAGE = Path(__file__).parents[3] / "docs" / "api" / "openai.md"
_FATE = r"(mapped|refused|ignored|-)"
_ROW = re.compile(rf"^\| `([\w.\[\]]+)` \| {_FATE} \| {_FATE} \|", re.MULTILINE)


def _page() -> str:
    return PAGE.read_text(encoding="utf-8")


def _table(heading: str) -> set[str]:
    """First column of the table under *heading*, in lower case."""
    lines = _page().partition(f"| {heading} |")[2].splitlines()[2:]
    rows = lines[: lines.index("")]
    return {row.split("`")[1].lower() for row in rows}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create_app(door_dependencies(ScriptedPredictions(), clock=lambda: 0.0)).openapi()


def _field_support(fields: set[str], refused: set[str], ignored: frozenset[str], prefix: str = "") -> dict[str, str]:
    assert refused <= fields
    assert ignored <= fields
    assert not refused & ignored
    fate = dict.fromkeys(fields, "mapped") | dict.fromkeys(refused, "refused") | dict.fromkeys(ignored, "ignored")
    return {prefix + field: word for field, word in fate.items()}


def test_docs_list_every_field_and_whether_it_is_supported() -> None:
    rows = _ROW.findall(_page())
    assert len(rows) == len({name for name, _, _ in rows}), "a field has two rows"
    form = _field_support(
        {field.alias or name for name, field in ResponseFormat.model_fields.items()},
        set(),
        frozenset(),
        "response_format.",
    )
    chat = _field_support(set(ChatCompletionRequest.model_fields), set(HARMLESS), IGNORED) | form
    chat |= _field_support(set(ChatMessage.model_fields), set(HARMLESS_IN_MESSAGE), IGNORED_IN_MESSAGE, "messages[].")
    fields = set(CompletionRequest.model_fields)
    completion = _field_support(fields, set(HARMLESS_IN_COMPLETION), IGNORED_IN_COMPLETION) | form
    assert {name: fate for name, fate, _ in rows if fate != "-"} == chat
    assert {name: fate for name, _, fate in rows if fate != "-"} == completion


def test_docs_list_every_estimate_field() -> None:
    assert _table("estimate") == set(CostEstimate.__annotations__)


def test_docs_list_every_header() -> None:
    documented = {str(header["name"]).lower() for header in RUN_HEADERS}
    assert _table("request header") == documented | {"authorization", "content-encoding"}
    api = Path("src/corral/api")
    files = [api / "run_headers.py", api / "problems.py", *(api / "doors" / "openai").glob("*.py")]
    source = "".join(path.read_text(encoding="utf-8") for path in files)
    sent = set(
        re.findall(r'[{"](corral-[a-z]+|idempotency-replayed|retry-after|x-should-retry|www-authenticate)"', source)
    )
    assert _table("response header") == sent


def test_docs_list_every_status_with_its_code() -> None:
    rows = set(re.findall(r"^\| (\d{3}) \|.*\| (.*) \|$", _page(), re.MULTILINE))
    listed = {(int(status), code) for status, codes in rows for code in re.findall(r"`(\w+)`", codes)}
    assert listed == {(row.status, row.code or "null") for row in ERRORS.values()}


def test_openapi_document_has_the_bodies_and_the_security_scheme(document: dict[str, Any]) -> None:
    for path, wire in (("/v1/chat/completions", ChatCompletionRequest), ("/v1/completions", CompletionRequest)):
        operation = document["paths"][path]["post"]
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        name = schema["$ref"].removeprefix("#/components/schemas/")
        fields = document["components"]["schemas"][name]["properties"]
        assert set(fields) == set(wire.model_fields)
        assert fields["top_k"]["anyOf"][0] == {"exclusiveMaximum": 1000, "minimum": 0, "type": "integer"}
        assert [header["name"] for header in operation["parameters"]] == ["Idempotency-Key", "corral-max-cost"]
    references = set(re.findall(r"#/components/schemas/(\w+)", str(document)))
    assert references <= set(document["components"]["schemas"])
    unlocked = {path for path, item in document["paths"].items() for call in item.values() if "security" not in call}
    by_capability = {"/v1/streams/{prediction_id}/{token}", "/v1/files/{file_id}/download"}
    assert {path for path in unlocked if path.startswith("/v1/")} == by_capability


def test_openapi_document_lists_every_documented_status(document: dict[str, Any]) -> None:
    stated = {int(status) for status in document["paths"]["/v1/chat/completions"]["post"]["responses"]}
    assert stated == {200, 421, 422} | {row.status for row in ERRORS.values()}
    for item in document["paths"].values():
        for call in item.values():
            for status, answer in call["responses"].items():
                assert ("content" in answer) == (status != "204")
                for media_type, content in answer.get("content", {}).items():
                    assert "json" not in media_type or content["schema"]
