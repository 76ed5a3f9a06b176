"""3,000 mutated or random bodies: no 5xx, and every error is a problem document."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import orjson
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from corral.api.app import create_app
from corral.api.dependencies import RateLimits
from corral.api.doors.replicate.input_table import INPUTS
from corral.api.doors.replicate.wire import InvalidField, PredictionAnswer, ProblemAnswer, VersionedPredictionBody
from corral.core.caller import Caller
from corral.core.prediction import Prediction, Status
from corral.service.ports import Ask, PredictionEvents
from corral.service.webhooks.webhooks import check_webhook
from tests.doors.known_keys import door_dependencies
from tests.doors.live_server import SECRET
from tests.doors.scripted_predictions import CREATED, PROMPT_TOKENS, ScriptedPredictions

BODIES = 3000
LIMIT_BYTES = 2**16
NAME = "meta/llama-2-7b-chat"
PATHS = {
    "/v1/predictions": {"version": NAME},
    "/predictions": {"version": f"{NAME}:{'0' * 64}"},
    f"/v1/models/{NAME}/predictions": {},
    f"/v1/v1/models/{NAME}/predictions": {},
    f"/v1/deployments/{NAME}/predictions": {},
}
GOOD: dict[str, Any] = {
    "input": {
        "prompt": "Hi",
        "prompt_template": "{prompt}",
        "max_tokens": 5,
        "max_new_tokens": 5,
        "temperature": 0.5,
        "stop_sequences": "a,b",
    },
    "stream": True,
    "webhook": "https://example.com/hook",
    "webhook_events_filter": ["start", "completed"],
}
STATUSES = {201, 400, 413, 415, 422}
TITLES = {400: "Bad request", 413: "Request body too large", 415: "Unsupported media type"}
TITLES_OF_422 = {"Input validation failed", "Invalid version or not permitted"}
HEADERS = {
    b"prefer": [b"wait", b"wait=1", b"wait=0", b"wait=99999999999", b"respond-async", b"\xff", b"wait=-1,,wait"],
    b"cancel-after": [b"30", b"5s", b"1h30m45s", b"4s", b"", b"9" * 40, b"\xb2s", b"1e3", b"-5"],
    b"content-encoding": [b"gzip", b"br", b"\xff"],
    b"content-type": [b"text/plain", b"application/json; charset=utf-7", b""],
    b"idempotency-key": [b"k", b"", b"\xff", b"k" * 300],
    b"corral-max-cost": [b"1", b"", b"-1", b"nan", b"1e99"],
}

NUMBERS = [0, -0.0, 1, -1, 5, 0.5, 512, 512.0, 1e-320, 1e308, -1e308, 2**31, 2**53, 2**63, -(2**63), 2**64, 10**30]
TEXTS = [
    *("", "\x00", "<s></s>[INST]", "{prompt}", "{", "{}{0.__class__}", "," * 40, "x" * 300, "start", "output", NAME),
    *(f"{NAME}:", ":", "/", "a/b", "a/b:c:d", "\N{LLAMA}"),
    *("http://", "https://[::1", "https://a b/", "https://u:p@h:99999/"),
]


class RecordingPredictions(ScriptedPredictions):
    """Records requests; returns each prediction as starting, or as finished for waits."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[str, Prediction] = {}

    @asynccontextmanager
    async def open(self, ask: Ask) -> AsyncIterator[PredictionEvents]:
        """Reject invalid webhooks as the service does."""
        check_webhook(ask.webhook)
        async with super().open(ask) as run:
            self._kept.setdefault(run.id, _prediction(ask, run.id))
            yield run

    async def fail(self, ask: Ask, reason: str) -> Prediction:
        """Return a failed prediction without storing it."""
        check_webhook(ask.webhook)
        return _prediction(ask, "f" * 26, status=Status.FAILED, error=reason, completed_at_ms=CREATED * 1000 + 1)

    async def get(self, caller: Caller, prediction_id: str) -> Prediction:  # noqa: ARG002
        """Return the starting prediction."""
        return self._kept[prediction_id]

    async def wait(self, caller: Caller, prediction_id: str, *, timeout_s: float) -> Prediction:
        """Return the prediction without waiting."""
        assert 0 < timeout_s <= 60
        return await self.get(caller, prediction_id)

    def clear(self) -> None:
        """Delete the recorded requests."""
        self.asks.clear()
        self._kept.clear()
        self._claims.clear()


def _prediction(ask: Ask, prediction_id: str, **ended: Any) -> Prediction:
    fields: dict[str, Any] = {
        "id": prediction_id,
        "account_id": ask.caller.account_id,
        "key_id": ask.caller.key_id,
        "door": ask.door,
        "model": ask.request.model,
        "version": "demo",
        "status": Status.STARTING,
        "background": ask.background,
        "created_at_ms": CREATED * 1000,
        "input": {"shown": dict(ask.shown_input), "request": {"prompt": {"text": "Hi"}}},
        "output": None,
        "data_removed": False,
        "error": None,
        "seed": ask.request.seed,
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": 0,
        "hold_nusd": 0,
        "cost_nusd": None,
        "stopped_by": None,
        "receipt": None,
        "started_at_ms": None,
        "completed_at_ms": None,
        "webhook": ask.webhook,
        "notes": dict(ask.notes),
    }
    return Prediction(**{**fields, **ended})


def names(catalog_fields: list[str]) -> list[str]:
    """Known and unknown keys of bodies and inputs."""
    return sorted(
        {*VersionedPredictionBody.__annotations__, "input", *GOOD, *catalog_fields, "", "__proto__", "model", "i\x00"}
    )


def value(random: Random, keys: list[str], depth: int = 0) -> Any:
    """Generate a JSON value."""
    match random.randrange(8 if depth < 3 else 6):
        case 0:
            return random.choice([None, True, False])
        case 1 | 2:
            return random.choice(NUMBERS)
        case 3:
            return "".join(chr(random.randrange(0x20, 0x500)) for _ in range(random.randrange(8)))
        case 4 | 5:
            return random.choice(TEXTS)
        case 6:
            return [value(random, keys, depth + 1) for _ in range(random.randrange(4))]
        case _:
            return {random.choice(keys): value(random, keys, depth + 1) for _ in range(random.randrange(4))}


def mutate(random: Random, keys: list[str], document: dict[str, Any]) -> None:
    """Change or delete one value, mostly of the input."""
    inner = document.get("input")
    node = inner if isinstance(inner, dict) and random.random() < 0.7 else document
    name = random.choice(list(node) if node and random.random() < 0.4 else keys)
    if random.random() < 0.2:
        node.pop(name, None)
    else:
        node[name] = value(random, keys)


def mutate_bytes(random: Random, text: bytes, keys: list[str]) -> bytes:
    """Mutate bytes."""
    at = random.randrange(len(text))
    match random.randrange(6):
        case 0:
            return text[:at]
        case 1:
            return text[:at] + random.randbytes(2) + text[at:]
        case 2:
            return random.randbytes(random.randrange(40))
        case 3:
            deep = random.choice([200, 300, 2000])
            return text[:-1] + b',"webhook":' + b"[" * deep + b"]" * deep + b"}"
        case 4:
            return text.replace(b"Hi", random.choice([b"\\ud800", b"\\u0000", b"x" * LIMIT_BYTES]))
        case _:
            return json.dumps(value(random, keys)).encode()


def request(random: Random, keys: list[str]) -> tuple[str, list[tuple[bytes, bytes]], bytes]:
    """Generate a request: a valid body with up to three mutations, or mutated bytes."""
    path = random.choice(list(PATHS))
    document = {**orjson.loads(orjson.dumps(GOOD)), **PATHS[path]}
    for _ in range(random.randrange(4)):
        mutate(random, keys, document)
    body = json.dumps(document).encode()
    if random.random() < 0.2:
        body = mutate_bytes(random, body, keys)
    headers = [(b"authorization", b"Bearer " + SECRET.encode())]
    if random.random() < 0.3:
        name = random.choice(list(HEADERS))
        headers += [(name, random.choice(HEADERS[name]))] * random.choice([1, 1, 1, 2])
    return path, headers, body


async def call(app: FastAPI, path: str, headers: list[tuple[bytes, bytes]], body: bytes) -> tuple[int, str, bytes]:
    """Send one request to the ASGI application; returns status, content type and body."""
    sent: list[Any] = []
    unread = [{"type": "http.request", "body": body, "more_body": False}]
    answered = asyncio.Event()

    async def receive() -> Any:
        if unread:
            return unread.pop()
        await answered.wait()  # keep the connection open until the response is complete
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)
        if message["type"] == "http.response.body":
            answered.set()

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"localhost"), *headers],
    }
    await app(scope, receive, send)
    kind = dict(sent[0]["headers"])[b"content-type"].decode()
    return sent[0]["status"], kind, b"".join(message.get("body", b"") for message in sent[1:])


def check_prediction(kind: str, body: dict[str, Any]) -> None:
    """Assert the fields and types that clients need."""
    assert kind == "application/json"
    assert body.keys() >= PredictionAnswer.__required_keys__
    assert body.keys() <= PredictionAnswer.__annotations__.keys()
    assert body["status"] in ("starting", "failed")
    assert isinstance(body["error"], str) is (body["status"] == "failed")
    assert body["output"] is None
    assert all(isinstance(url, str) for url in body["urls"].values())


def check_problem(kind: str, status: int, body: dict[str, Any]) -> None:
    """Assert a problem document; validation errors name each field."""
    assert kind == "application/problem+json"
    assert body.keys() >= ProblemAnswer.__required_keys__
    assert body.keys() <= ProblemAnswer.__annotations__.keys()
    assert (body["status"], body["title"]) == (status, TITLES.get(status, body["title"]))
    assert body["detail"]
    assert len(body["detail"]) < 4096
    if status == 422:
        assert body["title"] in TITLES_OF_422
        faults = body.get("invalid_fields", [])
        assert all(fault.keys() == InvalidField.__annotations__.keys() for fault in faults)
        assert all(isinstance(text, str) for fault in faults for text in fault.values())
        assert all(fault["description"] in body["detail"] for fault in faults)
        assert bool(faults) is (body["title"] == "Input validation failed")


def test_fuzzed_replicate_bodies_return_a_prediction_or_a_problem() -> None:
    predictions = RecordingPredictions()
    keys = names([field.name for field in INPUTS.for_model(predictions.catalog.get(NAME))])
    dependencies = door_dependencies(
        predictions,
        clock=lambda: CREATED,
        body_limit_bytes=LIMIT_BYTES,
        rates=RateLimits(creates_per_minute=0),
    )
    app = create_app(dependencies)
    statuses: Counter[int] = Counter()
    ends: Counter[str] = Counter()
    with asyncio.Runner() as runner:

        @given(random=st.randoms(use_true_random=True))
        @settings(
            max_examples=BODIES,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def probe(random: Random) -> None:
            status, kind, text = runner.run(call(app, *request(random, keys)))
            statuses[status] += 1
            assert status in STATUSES, text
            body = orjson.loads(text)
            if status == 201:
                check_prediction(kind, body)
                ends[body["status"]] += 1
            else:
                check_problem(kind, status, body)
            predictions.clear()

        probe()
    print(f"{statuses.total()} bodies: {dict(sorted(statuses.items()))}, {dict(ends)}")
    assert predictions.violations == []
    assert statuses.total() >= BODIES
    assert statuses.keys() == STATUSES
    assert ends.keys() == {"starting", "failed"}
