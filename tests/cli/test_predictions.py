"""Predictions over Replicate's API: lists, one, its end, and its text over connections that break."""

import json
from typing import Any

import pytest

from corral.cli.client import following
from tests.cli.fake_server import KEY, FakeServer, ScriptedAnswer
from tests.cli.processes import Run

STREAM = "/stream/capability-of-the-test"


def prediction(number: int, **changes: Any) -> dict[str, Any]:
    """A prediction as Replicate's API has it."""
    return {
        "id": f"p{number}",
        "model": "meta/llama-2-7b-chat",
        "version": "hidden",
        "input": {"prompt": "Hi"},
        "status": "succeeded",
        "created_at": "2026-01-31T12:00:00.000Z",
        "output": [" Hello", "!"],
        "error": None,
        "metrics": {"predict_time": 0.5, "input_token_count": 9, "output_token_count": 2},
        "urls": {"get": "http://elsewhere/p", "stream": "http://elsewhere/s"},
    } | changes


def event(name: str, data: str, number: int) -> str:
    """One event of Replicate's stream."""
    return f"event: {name}\nid: {number}:0\n" + "".join(f"data: {line}\n" for line in data.split("\n")) + "\n"


def stream_of(fake: FakeServer, *answers: ScriptedAnswer) -> None:
    """Script a prediction and its stream."""
    fake.answer("GET /v1/predictions/p1", prediction(1, urls={"stream": f"{fake.url}{STREAM}"}))
    fake.answer(f"GET {STREAM}", *answers)


def test_list_follows_pages_up_to_the_limit(fake: FakeServer, run: Run) -> None:
    following_page = "http://elsewhere.example/v1/predictions?cursor=c%3D2"
    fake.answer(
        "GET /v1/predictions",
        {"previous": None, "next": following_page, "results": [prediction(1), prediction(2)]},
        {"previous": None, "next": None, "results": [prediction(3, metrics={}, model=None, status="starting")]},
    )
    done = run("predictions", "list")
    assert (done.status, done.stderr) == (0, b"")
    assert done.stdout.decode().splitlines() == [
        "id\tmodel\tstatus\tcreated\tseconds\tprompt\tcompletion",
        "p1\tmeta/llama-2-7b-chat\tsucceeded\t2026-01-31T12:00:00.000Z\t0.50\t9\t2",
        "p2\tmeta/llama-2-7b-chat\tsucceeded\t2026-01-31T12:00:00.000Z\t0.50\t9\t2",
        "p3\t\tstarting\t2026-01-31T12:00:00.000Z\t\t\t",
    ]
    assert [asked.query for asked in fake.requests] == [{}, {"cursor": "c=2"}]


def test_page_that_links_to_itself_ends_the_list(fake: FakeServer, run: Run) -> None:
    page = {"next": "/v1/predictions?cursor=same", "results": [prediction(1)]}
    fake.answer("GET /v1/predictions", page)
    assert len(json.loads(run("predictions", "list", "--limit", "100", "--json").stdout)) == 2
    assert json.loads(run("predictions", "list", "--limit", "1", "--json").stdout) == [prediction(1)]


def test_one_prediction_is_shown_with_its_text(fake: FakeServer, run: Run) -> None:
    fake.answer("GET /v1/predictions/p1", prediction(1))
    shown = run("predictions", "get", "p1").stdout.decode()
    assert shown.splitlines()[:3] == ["id         p1", "model      meta/llama-2-7b-chat", "status     succeeded"]
    assert shown.endswith("completion 2\n\n Hello!\n")
    assert json.loads(run("predictions", "get", "p1", "--json").stdout) == prediction(1)


def test_a_failed_prediction_shows_its_error_on_one_line(fake: FakeServer, run: Run) -> None:
    fake.answer("GET /v1/predictions/p1", prediction(1, status="failed", output=None, error="E1002\n\x1b[2J"))
    assert "error      E1002  [2J" in run("predictions", "get", "p1").stdout.decode().splitlines()


def test_cancel_prints_the_resulting_status(fake: FakeServer, run: Run) -> None:
    fake.answer("POST /v1/predictions/p1/cancel", prediction(1, status="canceled"))
    assert run("predictions", "cancel", "p1").stdout == b"p1: canceled\n"
    fake.answer("POST /v1/predictions/p2/cancel", ScriptedAnswer(status=404, document={"detail": "Not found."}))
    done = run("predictions", "cancel", "p2")
    assert (done.status, done.stdout, done.stderr) == (1, b"", b"corral: Not found.\n")


def test_stream_is_printed_as_received_and_no_key_is_sent_to_its_url(fake: FakeServer, run: Run) -> None:
    events = event("output", " Hello", 1) + event("output", "\nyou", 2) + event("logs", "x", 3) + event("done", "{}", 4)
    stream_of(fake, ScriptedAnswer(events=events))
    done = run("predictions", "stream", "p1")
    assert (done.status, done.stdout, done.stderr) == (0, b" Hello\nyou\n", b"")
    assert [(asked.path, asked.key) for asked in fake.requests] == [("/v1/predictions/p1", KEY), (STREAM, "")]


def test_interrupted_stream_resumes_after_the_last_event(fake: FakeServer, run: Run) -> None:
    stream_of(
        fake,
        ScriptedAnswer(events=event("output", " Hel", 1), breaks=True),
        ScriptedAnswer(status=503, document={"detail": "starting"}),
        ScriptedAnswer(events=event("output", "lo", 2)),
        ScriptedAnswer(events=event("done", "{}", 3)),
    )
    done = run("predictions", "stream", "p1")
    assert (done.status, done.stdout) == (0, b" Hello\n")
    assert b"was lost" in done.stderr
    ids = [asked.headers.get("last-event-id") for asked in fake.requests if asked.path == STREAM]
    assert ids == [None, "1:0", "1:0", "2:0"]


@pytest.mark.parametrize(
    ("events", "sentence"),
    [
        (event("done", '{"reason": "canceled"}', 2), b"corral: The prediction ended: canceled.\n"),
        (
            event("error", '{"detail": "E1002 too long"}', 2) + event("done", '{"reason": "error"}', 3),
            b"corral: The prediction failed: E1002 too long\n",
        ),
    ],
)
def test_stream_of_an_unsuccessful_prediction_has_status_1(
    fake: FakeServer, run: Run, events: str, sentence: bytes
) -> None:
    stream_of(fake, ScriptedAnswer(events=event("output", " Hel", 1) + events))
    done = run("predictions", "stream", "p1")
    assert (done.status, done.stdout, done.stderr) == (1, b" Hel\n", sentence)


def test_stream_that_cannot_be_resumed_fails(fake: FakeServer, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "PAUSES_S", (0.0, 0.0))
    stream_of(fake, ScriptedAnswer(events=event("output", " Hel", 1)), ScriptedAnswer(events=": nothing\n\n"))
    done = run("predictions", "stream", "p1")
    assert (done.status, done.stdout) == (1, b" Hel\n")
    assert done.stderr.endswith(b"corral: The stream ended early. No more events arrived in 2 retries.\n")


def test_rejected_stream_is_not_retried(fake: FakeServer, run: Run) -> None:
    stream_of(fake, ScriptedAnswer(status=404, document={"detail": "Not found."}))
    assert run("predictions", "stream", "p1").stderr == b"corral: Not found.\n"
    assert len(fake.requests) == 2


def test_prediction_without_a_stream_is_reported(fake: FakeServer, run: Run) -> None:
    fake.answer("GET /v1/predictions/p1", prediction(1, urls={}))
    assert run("predictions", "stream", "p1").stderr == b"corral: Prediction p1 has no stream.\n"
