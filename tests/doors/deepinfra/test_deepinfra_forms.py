"""Form bodies: empty and repeated fields, encodings, byte-order marks, large numbers."""

from typing import Any

import pytest
from httpx2 import Response

from tests.doors.deepinfra.native import PATH, native_answer
from tests.doors.live_server import LiveServer
from tests.doors.scripted_predictions import ScriptedPredictions

pytestmark = pytest.mark.anyio

Part = tuple[str, tuple[str | None, str | bytes]]
INPUT: Part = ("input", (None, "Hi"))


@pytest.fixture(autouse=True)
def script(predictions: ScriptedPredictions) -> None:
    """Answer every request with one short text."""
    predictions.script = native_answer(" Hello")


async def post(server: LiveServer, *parts: Part) -> Response:
    """Post a form."""
    async with server.http() as http:
        return await http.post(PATH, files=list(parts))


async def test_empty_form_part_is_an_omitted_field(server: LiveServer, predictions: ScriptedPredictions) -> None:
    names = ("max_new_tokens", "temperature", "stop", "stream", "webhook", "response_format", "user", "seed")
    assert (await post(server, INPUT)).status_code == 200
    assert (await post(server, INPUT, *((name, (None, "")) for name in names))).status_code == 200
    assert predictions.requests[0] == predictions.requests[1]
    assert predictions.asks[1].webhook is None


async def test_repeated_form_field_is_rejected_unless_it_is_a_list(
    server: LiveServer, predictions: ScriptedPredictions
) -> None:
    for name, value in (("temperature", "1"), ("input", "Hi"), ("max_new_tokens", "5"), ("webhook", "https://a.b/")):
        refused = await post(server, INPUT, *([(name, (None, value))] * (1 if name == "input" else 2)))
        assert refused.status_code == 422
        assert refused.json()["detail"][0]["loc"] == ["body", name]
        assert "twice" in refused.json()["detail"][0]["msg"]
    assert (await post(server, INPUT, ("stop", (None, "a")), ("stop", (None, "b")))).status_code == 200
    assert predictions.requests[-1].stopping.stop == ("a", "b")


@pytest.mark.parametrize("file_name", [None, "prompt.txt"])
async def test_form_is_decoded_as_utf_8_without_a_byte_order_mark(
    server: LiveServer, predictions: ScriptedPredictions, file_name: str | None
) -> None:
    invalid = await post(server, ("input", (file_name, b"caf\xe9")))
    assert (invalid.status_code, invalid.json()) == (
        400,
        {"error": "'input' is not UTF-8: byte 0xe9 at offset 3 cannot stand there."},
    )
    assert (await post(server, ("input", (file_name, b"\xef\xbb\xbfcaf\xc3\xa9")))).status_code == 200
    assert predictions.requests[-1].prompt.text == "café"
    async with server.http() as http:
        for charset in ("latin-1", "utf-16", "idna", "rot13", "nonsense"):
            body = b'--b\r\nContent-Disposition: form-data; name="input"\r\n\r\ncaf\xc3\xa9\r\n--b--\r\n'
            kind = f"multipart/form-data; charset={charset}; boundary=b"
            answer = await http.post(PATH, content=body, headers={"content-type": kind})
            assert answer.status_code == 200, charset
            assert predictions.requests[-1].prompt.text == "café"


async def test_form_field_name_that_is_not_utf_8_is_rejected(server: LiveServer) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="inp\xff"\r\n\r\nHi\r\n--b--\r\n'
    async with server.http() as http:
        answer = await http.post(PATH, content=body, headers={"content-type": "multipart/form-data; boundary=b"})
    assert (answer.status_code, answer.json()) == (400, {"error": "The name of a form part is not UTF-8."})


@pytest.mark.parametrize(
    ("field", "text", "words"),
    [
        ("seed", "18446744073709551617", "less than or equal to 18446744073709551616"),
        ("seed", "9" * 30, "less than or equal to 18446744073709551616"),
        ("seed", "-9223372036854775809", "greater than or equal to -9223372036854775808"),
        ("max_new_tokens", "1" + "0" * 5000, "less than or equal to 1000000"),
        ("temperature", "1e400", "less than or equal to 100"),
        ("temperature", "NaN", "valid number"),
        ("top_p", "0", "greater than 0"),
        ("top_p", "-0.0", "greater than 0"),
        ("repetition_penalty", "1e-300", "greater than or equal to 0.01"),
    ],
)
async def test_out_of_range_form_number_is_rejected_with_field_and_range(
    server: LiveServer, predictions: ScriptedPredictions, field: str, text: str, words: str
) -> None:
    as_form = await post(server, INPUT, (field, (None, text)))
    answers: list[Any] = [as_form]
    if text != "NaN":
        async with server.http() as http:
            answers.append(await http.post(PATH, content=f'{{"input": "Hi", "{field}": {text}}}'))
    for answer in answers:
        assert answer.status_code == 422
        [fault] = answer.json()["detail"]
        assert fault["loc"] == ["body", field]
        assert words in fault["msg"]
    assert predictions.requests == []
