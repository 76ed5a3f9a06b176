"""``docs/api/openai.md`` and the OpenAPI document say what the code does."""

import re
from pathlib import Path

from corral.api.app import create_app
from corral.api.auth import StaticKeyRing
from corral.api.doors.openai.translate import HARMLESS, HARMLESS_IN_MESSAGE, IGNORED, IGNORED_IN_MESSAGE
from corral.api.doors.openai.wire import ChatCompletionRequest, ChatMessage
from tests.doors.scripted_generation import ScriptedGeneration

PAGE = Path(__file__).parents[3] / "docs" / "api" / "openai.md"
_ROW = re.compile(r"^\| `((?:messages\[\]\.)?\w+)` \| (mapped|refused|ignored) \|", re.MULTILINE)


def _fates(fields: set[str], refused: set[str], ignored: frozenset[str], prefix: str = "") -> dict[str, str]:
    assert refused <= fields
    assert ignored <= fields
    assert not refused & ignored
    fate = dict.fromkeys(fields, "mapped") | dict.fromkeys(refused, "refused") | dict.fromkeys(ignored, "ignored")
    return {prefix + field: word for field, word in fate.items()}


def test_the_page_lists_every_field_of_the_wire_model_with_its_fate() -> None:
    rows = _ROW.findall(PAGE.read_text(encoding="utf-8"))
    assert len(rows) == len(dict(rows)), "a field has two rows"
    body = _fates(set(ChatCompletionRequest.model_fields), set(HARMLESS), IGNORED)
    message = _fates(set(ChatMessage.model_fields), set(HARMLESS_IN_MESSAGE), IGNORED_IN_MESSAGE, "messages[].")
    assert dict(rows) == body | message


def test_the_openapi_document_describes_the_body_and_asks_for_the_key() -> None:
    document = create_app(ScriptedGeneration(), StaticKeyRing({}), clock=lambda: 0.0).openapi()
    operation = document["paths"]["/v1/chat/completions"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    name = schema["$ref"].removeprefix("#/components/schemas/")
    fields = document["components"]["schemas"][name]["properties"]
    assert set(fields) == set(ChatCompletionRequest.model_fields)
    assert fields["top_k"]["anyOf"][0] == {"exclusiveMaximum": 1000, "minimum": 0, "type": "integer"}
    references = set(re.findall(r"#/components/schemas/(\w+)", str(document)))
    assert references <= set(document["components"]["schemas"])
    unlocked = {path for path, item in document["paths"].items() for call in item.values() if "security" not in call}
    assert unlocked == {"/health"}
