"""Native streams of scripted runs: timing, split characters, errors, disconnects."""

import asyncio

import pytest

from corral.core.errors import EngineFailed, EngineUnavailable, Overloaded, RateLimited
from corral.core.generation import ChoiceEnded, Finished, FinishReason, Started, Usage
from tests.doors.deepinfra.native import HELLO, PATH, events_of, native_answer, text_of
from tests.doors.error_examples import every_error
from tests.doors.live_server import LiveServer
from tests.doors.scripted_predictions import PROMPT_TOKENS, ScriptedPredictions, delta

pytestmark = pytest.mark.anyio

STREAMED = {**HELLO, "stream": True}
LLAMA = "\N{LLAMA}".encode()
STARTED = Started(prompt_tokens=PROMPT_TOKENS, seed=1)


def ended(
    tokens: int, reason: FinishReason = FinishReason.STOP, stop: str | None = None
) -> list[ChoiceEnded | Finished]:
    usage = Usage(prompt_tokens=PROMPT_TOKENS, completion_tokens=tokens)
    return [ChoiceEnded(choice=0, reason=reason, stop=stop), Finished(usage=usage)]


@pytest.fixture
def anyio_backend() -> str:
    """Use one event loop per test, as the scripted server does."""
    return "asyncio"


async def test_token_is_streamed_before_the_next_one_is_generated(
    server: LiveServer, predictions: ScriptedPredictions
) -> None:
    more = asyncio.Event()
    predictions.script = [*native_answer(" Hello")[:2], more, *native_answer(" Hello")[2:]]
    async with server.http() as http, http.stream("POST", PATH, json=STREAMED) as response:
        lines = response.aiter_lines()
        async with asyncio.timeout(60):
            assert '" Hello"' in await anext(lines)
        more.set()
        rest = [line async for line in lines if line.startswith("data")]
    assert '"text":"","logprob":-0.5,"special":true' in rest[-1]
    assert '"finish_reason":"eos_token"' in rest[-1]


async def test_multi_byte_character_is_not_split(server: LiveServer, predictions: ScriptedPredictions) -> None:
    parts = [("", LLAMA[:1]), ("", LLAMA[1:3]), ("\N{LLAMA}", LLAMA[3:])]
    deltas = [delta(text, number, piece=piece) for number, (text, piece) in enumerate(parts, 1)]
    predictions.script = [STARTED, *deltas, *ended(3, FinishReason.LENGTH)]
    async with server.http() as http:
        events = events_of(await http.post(PATH, json=STREAMED))
    shown = [event["token"]["text"] for event in events]
    assert "".join(shown) == events[-1]["generated_text"] == "\N{LLAMA}"
    assert set(shown) <= {"", "\N{LLAMA}"}


async def test_incomplete_final_character_becomes_a_replacement_character(
    server: LiveServer, predictions: ScriptedPredictions
) -> None:
    cut = delta("\N{REPLACEMENT CHARACTER}", 1, piece=LLAMA[:2])
    predictions.script = [STARTED, cut, *ended(1, FinishReason.LENGTH)]
    async with server.http() as http:
        events = events_of(await http.post(PATH, json=STREAMED))
    assert text_of(events) == events[-1]["generated_text"] == "\N{REPLACEMENT CHARACTER}"


async def test_text_held_back_for_a_stop_string_stays_in_its_token(
    server: LiveServer, predictions: ScriptedPredictions
) -> None:
    held = [delta("say ", 1), delta("", 2, piece=b"he"), delta("", 3, piece=b"llo, Ann")]
    predictions.script = [STARTED, *held, *ended(3, stop="hello")]
    async with server.http() as http:
        events = events_of(await http.post(PATH, json={**STREAMED, "stop": ["hello"]}))
    assert text_of(events) == events[-1]["generated_text"] == "say hello"
    assert events[-1]["details"]["finish_reason"] == "stop_sequence"


async def test_end_without_a_token_is_an_event_without_text(
    server: LiveServer, predictions: ScriptedPredictions
) -> None:
    late = asyncio.Event()
    predictions.script = [*native_answer(" Hello")[:2], late, *ended(1)]
    async with server.http() as http, http.stream("POST", PATH, json=STREAMED) as response:
        lines = response.aiter_lines()
        assert '" Hello"' in await anext(lines)
        late.set()
        (last,) = [line async for line in lines if line.startswith("data")]
    assert '"text":"","logprob":0.0,"special":true' in last
    assert '"generated_text":" Hello"' in last


async def test_mid_stream_error_is_an_event_without_an_error_key(
    server: LiveServer, predictions: ScriptedPredictions
) -> None:
    predictions.script = [*native_answer(" Hello")[:2], EngineFailed("The engine died.")]
    async with server.http() as http:
        events = events_of(await http.post(PATH, json=STREAMED))
    assert events[-1] == {"error_type": "generation_error", "error_message": "The engine died."}


async def test_error_before_the_first_byte_has_its_own_status(
    server: LiveServer, predictions: ScriptedPredictions
) -> None:
    for error, status in (
        (EngineUnavailable("Starting."), 503),
        (RateLimited("Too many.", retry_after_s=3), 429),
        (Overloaded("Full.", retry_after_s=3), 429),
    ):
        predictions.enter_error = error
        async with server.http() as http:
            for fields in (HELLO, STREAMED):
                refused = await http.post(PATH, json=fields)
                assert refused.status_code == status
                assert list(refused.json()) == ["error"]
                assert int(refused.headers["retry-after"]) >= 1


async def test_every_error_has_a_message_and_a_status(server: LiveServer, predictions: ScriptedPredictions) -> None:
    async with server.http() as http:
        for error in every_error():
            predictions.enter_error = error
            refused = await http.post(PATH, json=HELLO)
            assert 400 <= refused.status_code <= 503, error
            assert isinstance(refused.json()["error"], str)


async def test_client_disconnect_cancels_the_run(server: LiveServer, predictions: ScriptedPredictions) -> None:
    for fields in (HELLO, STREAMED):
        predictions.script = [*native_answer(" Hello")[:2], asyncio.Event()]
        predictions.entered.clear()
        predictions.left.clear()
        async with server.http() as http:
            call = asyncio.create_task(http.post(PATH, json=fields))
            await predictions.entered.wait()
            call.cancel()
            await asyncio.wait([call])
        async with asyncio.timeout(60):
            await predictions.left.wait()
        assert predictions.running == 0


async def test_idempotency_key_returns_the_same_request(server: LiveServer) -> None:
    headers = {"idempotency-key": "once"}
    form = [("input", (None, HELLO["input"])), ("temperature", (None, "0"))]
    async with server.http() as http:
        first, second = [await http.post(PATH, json=HELLO, headers=headers) for _ in range(2)]
        third = await http.post(PATH, files=form, headers=headers)
        other = await http.post(PATH, json={**HELLO, "seed": 1}, headers=headers)
    assert first.json()["request_id"] == second.json()["request_id"] == third.json()["request_id"]
    assert second.headers["idempotency-replayed"] == "true"
    assert other.status_code == 409


async def test_form_size_is_limited_and_malformed_forms_are_rejected(server: LiveServer) -> None:
    multipart = {"content-type": "multipart/form-data; boundary=x"}
    async with server.http() as http:
        many = [("stop", (None, "a"))] * 65
        assert (await http.post(PATH, files=[("input", (None, "x")), *many])).status_code == 400
        assert (await http.post(PATH, files=[("input", ("a.txt", b"\xff", "text/plain"))])).status_code == 400
        nameless = b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--"
        for body in (b"", b"--x", b"--x\r\n\r\n--x--", nameless):
            refused = await http.post(PATH, content=body, headers=multipart)
            assert refused.status_code in (400, 422), body
        no_boundary = {"content-type": "multipart/form-data"}
        assert (await http.post(PATH, content=b"x", headers=no_boundary)).status_code == 400
        for body in (b"", b"[]", b"1", b"{", b"\xff"):
            assert (await http.post(PATH, content=body)).status_code in (400, 422)
