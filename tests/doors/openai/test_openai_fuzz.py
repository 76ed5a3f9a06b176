"""10,000 mutated or random bodies: no 5xx. Takes half a minute."""

import asyncio
import gzip
import json
from collections import Counter
from random import Random
from typing import Any

import orjson
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from corral.api.app import create_app
from corral.api.doors.openai.wire import ChatCompletionRequest, ChatMessage, CompletionRequest
from tests.doors.known_keys import door_dependencies
from tests.doors.live_server import SECRET
from tests.doors.scripted_predictions import CREATED, MODEL, ScriptedPredictions, answer

BODIES = 10_000
LIMIT_BYTES = 2**16
STATUSES = {200, 400, 401, 402, 403, 404, 405, 409, 410, 413, 415, 422, 429}

CHAT: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}, {"role": "assistant", "content": "Ho"}],
    "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}},
    "stop": ["a"],
    "stream_options": {"include_usage": True},
}
COMPLETION: dict[str, Any] = {
    "model": MODEL,
    "prompt": [1, 2],
    "response_format": {"type": "regex", "regex": "a{3}"},
    "echo": True,
    "logprobs": 0,
    "stream": True,
}
PATHS = {
    "/v1/chat/completions": CHAT,
    "/v1/openai/chat/completions": CHAT,
    "/v1/completions": COMPLETION,
    "/v1/estimate": CHAT,
}
NAMES = sorted(
    ChatCompletionRequest.model_fields.keys()
    | CompletionRequest.model_fields.keys()
    | ChatMessage.model_fields.keys()
    | {"type", "text", "regex", "json_schema", "schema", "name", "include_usage", "", "__proto__", "model\x00"}
)

NUMBERS = [0, -0.0, 1, -1, 2, 4, 5, 0.5, 1e-320, 1e308, -1e308, 2**31, 2**53, 2**63, -(2**63), 2**64, 10**30, 512.0]
TEXTS = ["", "\x00", "<s></s>[INST]", "text", "user", "system", "json_object", "(", "[a", "a{9}", "\N{LLAMA}", MODEL]


def value(random: Random, depth: int = 0) -> Any:
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
            return [value(random, depth + 1) for _ in range(random.randrange(4))]
        case _:
            return {random.choice(NAMES): value(random, depth + 1) for _ in range(random.randrange(4))}


def mutate(random: Random, node: Any) -> None:
    """Mutate one value below *node*."""
    while random.random() < 0.6:
        places = list(node) if isinstance(node, dict) else list(range(len(node)))
        inner = [node[place] for place in places if isinstance(node[place], dict | list)]
        if not inner:
            break
        node = random.choice(inner)
    if isinstance(node, dict):
        name = random.choice(NAMES if random.random() < 0.5 or not node else list(node))
        node[name] = value(random)
        if random.random() < 0.2:
            del node[name]
    elif not node or random.random() < 0.5:
        node.append(value(random))
    else:
        node[random.randrange(len(node))] = value(random)


def mutate_bytes(random: Random, text: bytes) -> bytes:
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
            return text[:-1] + b',"metadata":' + b"[" * deep + b"]" * deep + b"}"
        case 4:
            return text.replace(b"Hi", b"\\ud800")
        case _:
            return json.dumps(value(random)).encode()


def request(random: Random) -> tuple[str, list[tuple[bytes, bytes]], bytes]:
    """Generate a request: a valid body with up to four mutations, or mutated bytes."""
    path = random.choice(list(PATHS))
    document = orjson.loads(orjson.dumps(PATHS[path]))
    for _ in range(random.randrange(5)):
        mutate(random, document)
    body = json.dumps(document).encode()
    if random.random() < 0.2:
        body = mutate_bytes(random, body)
    headers = [(b"authorization", b"Bearer " + SECRET.encode())]
    match random.randrange(20):
        case 0:
            headers.append((b"content-encoding", b"gzip"))
            body = gzip.compress(body, mtime=0) if random.random() < 0.8 else body
        case 1:
            headers.append((b"idempotency-key", random.choice([b"k", random.randbytes(3)])))
        case 2:
            headers.append((b"corral-max-cost", random.choice([b"1", b"", b"-1", b"1e9", b"\xb2", b"0.5"])))
        case 3:
            headers.append((random.choice([b"content-encoding", b"content-type"]), random.randbytes(3)))
        case _:
            pass
    return path, headers, body


async def call(app: FastAPI, path: str, headers: list[tuple[bytes, bytes]], body: bytes) -> tuple[int, bytes]:
    """Send one request to the ASGI application without a socket."""
    sent: list[Any] = []
    unread = [{"type": "http.request", "body": body, "more_body": False}]
    never = asyncio.Event()

    async def receive() -> Any:
        if unread:
            return unread.pop()
        await never.wait()
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(message)

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
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


def test_fuzzed_openai_bodies_never_cause_a_5xx() -> None:
    predictions = ScriptedPredictions(answer("a", choices=4))
    app = create_app(door_dependencies(predictions, clock=lambda: CREATED, body_limit_bytes=LIMIT_BYTES))
    statuses: Counter[int] = Counter()
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
            status, body = runner.run(call(app, *request(random)))
            statuses[status] += 1
            assert status in STATUSES
            if status != 200:
                assert orjson.loads(body).keys() in ({"error"}, {"detail", "error"})
            elif not body.startswith(b"data: "):
                assert "choices" in orjson.loads(body) or "worst_case_cost" in orjson.loads(body)
            predictions.asks.clear()

        probe()
    print(f"{statuses.total()} bodies: {dict(sorted(statuses.items()))}")
    assert predictions.violations == []
    assert statuses.total() >= BODIES
    assert statuses.keys() >= {200, 400, 404, 415, 422}
