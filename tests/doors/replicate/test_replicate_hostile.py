"""Hostile requests: expanding templates, many errors, other encodings. Rejected cheaply."""

import json
import tracemalloc
from collections.abc import AsyncIterator

import pytest
from httpx2 import AsyncClient

from corral.api.app import create_app
from corral.api.doors.replicate.faults import MAX_FAULTS, ModelRefusal
from corral.api.doors.replicate.template import MAX_FILLED_CHARS, fill
from corral.core.caller import Caller
from corral.core.errors import UnknownPrediction
from corral.core.prediction import Prediction
from corral.service.ports import NEWEST, PageRequest
from tests.doors.known_keys import door_dependencies
from tests.doors.live_server import serving
from tests.doors.replicate.test_replicate_fuzz import RecordingPredictions
from tests.doors.scripted_predictions import CREATED

pytestmark = pytest.mark.anyio

CREATE = "/v1/models/meta/llama-2-7b-chat/predictions"


class EmptyPredictions(RecordingPredictions):
    """Has no stored predictions, so that every cursor is unknown."""

    async def page(self, caller: Caller, wanted: PageRequest = NEWEST) -> list[Prediction]:  # noqa: ARG002
        """Nothing, or not even that."""
        if wanted.before is not None:
            raise UnknownPrediction(f"There is no prediction '{wanted.before}'.")
        return []


@pytest.fixture
async def http() -> AsyncIterator[AsyncClient]:
    app = create_app(door_dependencies(EmptyPredictions(), clock=lambda: CREATED))
    async with serving(app) as live, live.http() as client:
        yield client


@pytest.mark.parametrize("field", ["prompt", "system_prompt"])
async def test_template_expansion_is_limited(http: AsyncClient, field: str) -> None:
    long = {"prompt": "a", field: "a" * 100_000}
    template = "{prompt}" + f"{{{field}}}" * 100_000
    tracemalloc.start()
    with pytest.raises(ModelRefusal, match="E1002"):
        fill(template, prompt=long["prompt"], system_prompt=long.get("system_prompt", ""))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 4 * MAX_FILLED_CHARS
    answer = await http.post(CREATE, json={"input": {**long, "prompt_template": template}})
    assert (answer.status_code, answer.json()["status"]) == (201, "failed")
    assert answer.json()["error"].startswith("E1002 PromptTooLong: The formatted prompt has more than")
    with pytest.raises(ModelRefusal, match="E1004"):
        fill("{{" * 10_001, prompt="", system_prompt="")
    twice = fill("{prompt}-{prompt} {{}}", prompt="a" * 1000, system_prompt="")
    assert twice == f"{'a' * 1000}-{'a' * 1000} {{}}"


async def test_body_with_many_errors_reports_the_first_ones(http: AsyncClient) -> None:
    body = json.dumps({"input": {"prompt": "Hi"}, **{f"k{number}": 0 for number in range(100_000)}})
    answer = await http.post(CREATE, content=body)
    assert answer.status_code == 422
    assert len(answer.json()["invalid_fields"]) == MAX_FAULTS
    assert len(answer.content) < 4096


async def test_unknown_cursor_is_rejected(http: AsyncClient) -> None:
    answer = await http.get("/v1/predictions", params={"cursor": "cD1hYWFh"})
    assert answer.status_code == 422
    assert [fault["field"] for fault in answer.json()["invalid_fields"]] == ["cursor"]


@pytest.mark.parametrize(("header", "value"), [("Idempotency-Key", "x" * 256), ("corral-max-cost", "1e400")])
async def test_invalid_header_is_named(http: AsyncClient, header: str, value: str) -> None:
    answer = await http.post(CREATE, json={"input": {"prompt": "Hi"}}, headers={header: value})
    assert answer.status_code == 422
    assert [fault["field"] for fault in answer.json()["invalid_fields"]] == [header]


async def test_search_query_that_is_not_utf_8_is_rejected(http: AsyncClient) -> None:
    wrong = await http.request("QUERY", "/v1/models", content=b"caf\xe9")
    assert (wrong.status_code, "byte 0xe9 at offset 3" in wrong.json()["detail"]) == (400, True)
    for content in (b"llama", b'"llama"', b'"ll\\u0061ma"'):
        found = await http.request("QUERY", "/v1/models", content=content)
        assert len(found.json()["results"]) == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"input": {"prompt": "a"}, "input": {"prompt": "b"}}', "'input' occurs twice"),
        (b'{"input": {"prompt": "a", "seed": 1, "seed": 2}}', "'seed' occurs twice"),
        (b'{"input": {"prompt": "a", "temperature": NaN}}', "'input.temperature' is NaN"),
        (b'{"input": {"prompt": "\xff"}}', "not UTF-8"),
        (b'{"input": {"prompt": "\\ud800"}}', "surrogate"),
        (b'{"input": ' + b"[" * 1000 + b"]" * 1000 + b"}", "nested"),
    ],
)
async def test_ambiguous_or_invalid_json_is_rejected(http: AsyncClient, content: bytes, words: str) -> None:
    answer = await http.post(CREATE, content=content)
    assert answer.status_code == 400
    assert words in answer.json()["detail"]
    assert answer.headers["content-type"] == "application/problem+json"
