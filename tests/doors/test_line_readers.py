"""JSON streams read by clients that split lines at more characters than SSE defines."""

import io
import json

import httpx
import pytest
import requests
from anyio.to_thread import run_sync

from corral.core.generation import Delta, Started
from corral.web.run_events import Clocks, PageStream
from tests.doors.deepinfra.native import native_answer
from tests.doors.live_server import SECRET, LiveServer
from tests.doors.scripted_predictions import MODEL, ScriptedPredictions, answer

pytestmark = pytest.mark.anyio

TEXTS = [f'a{end}b{end}"\\' for end in "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"] + ["\r", "\nc"]
WHOLE = "".join(TEXTS)
ROUTES = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hi"}]},
    "/v1/completions": {"prompt": "Hi", "logprobs": 0},
    f"/v1/inference/{MODEL}": {"input": "Hi"},
}


def _text(line: str) -> str:
    """Text of an event in any API format; asserts that its JSON is complete."""
    data = line.removeprefix("data: ")
    event = {} if data == "[DONE]" else json.loads(data)
    (choice,) = event.get("choices") or [event]
    token = choice.get("token") or {}
    said = choice.get("text"), choice.get("delta", {}).get("content"), "" if token.get("special") else token.get("text")
    return "".join(text for text in said if text)


def _add_up(lines: list[str]) -> str:
    assert all(line == "" or line.startswith((":", "data: ", "event: ")) for line in lines), lines
    return "".join(_text(line) for line in lines if line.startswith("data: "))


@pytest.mark.parametrize("path", ROUTES)
async def test_api_streams_are_complete_for_httpx_and_requests_line_readers(
    server: LiveServer, predictions: ScriptedPredictions, path: str
) -> None:
    predictions.script = native_answer(*TEXTS) if "inference" in path else answer(*TEXTS)
    url, body, headers = server.url + path, ROUTES[path], {"authorization": f"bearer {SECRET}"}
    body = {"model": MODEL, **body, "stream": True}
    async with httpx.AsyncClient() as http, http.stream("POST", url, json=body, headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        assert _add_up([line async for line in response.aiter_lines()]) == WHOLE

    def by_requests() -> list[str]:
        with requests.post(url, json=body, headers=headers, stream=True, timeout=60) as response:
            response.encoding = "utf-8"
            return [str(line) for line in response.iter_lines(decode_unicode=True)]

    assert _add_up(await run_sync(by_requests)) == WHOLE


def test_web_streams_are_complete_for_httpx_and_requests_line_readers() -> None:
    stream = PageStream(Clocks(now_ms=lambda: 2, created_at_ms=1, admitted_at_ms=None))
    deltas = [
        Delta(choice=0, text=text, ids=(5,), logprobs=(-1.0,), completion_tokens=tokens)
        for tokens, text in enumerate(TEXTS, 1)
    ]
    body = b"".join(chunk for event in (Started(prompt_tokens=1, seed=1), *deltas) for chunk in stream.feed(event))
    assert _add_up(list(httpx.Response(200, content=body).iter_lines())) == WHOLE
    response = requests.Response()
    response.raw, response.encoding = io.BytesIO(body), "utf-8"
    assert _add_up([str(line) for line in response.iter_lines(decode_unicode=True)]) == WHOLE
