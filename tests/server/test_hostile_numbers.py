"""Numbers of any size in every numeric field of bodies, queries and headers: never a 5xx, and lists still work."""

import asyncio
import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from httpx2 import AsyncClient, Response
from pydantic import BaseModel, TypeAdapter

from corral.api.doors.deepinfra.wire import InferenceRequest
from corral.api.doors.deepinfra.wire_account import NewScopedJwt, NewToken, RequestIds
from corral.api.doors.openai.wire import ChatCompletionRequest, CompletionRequest
from corral.api.doors.replicate.input_table import INPUTS as REPLICATE_INPUTS
from corral.core.accounts import Scope
from corral.service.accounts.api_keys import KeyTerms
from tests.contract.store.conftest import new_postgres
from tests.doors.live_server import SECRET
from tests.server.harness import MODEL, OpenServer, ServerHarness

pytestmark = pytest.mark.anyio

NUMBERS = [
    "-0", "-0.0", "1.0", "-1", "0.5", "1e-300", "5e-324", "1e308", "1e400", "-1e400", "NaN", "-Infinity",
    str(2**53 + 1), str(2**63 - 1), str(2**64), str(2**64 + 1), str(-(2**63) - 1), "9" * 20, "1" + "0" * 29,
    "-" + "9" * 5000, '"1"', "true",
]  # fmt: skip
STORED = [str(2**31), str(2**63 - 1), str(2**63), str(2**64), "9" * 20, "1e308"]
"""What a database's column of 32 or 64 bits could fail on."""
TEXTS = [number.strip('"') for number in NUMBERS] + [
    "",
    "+1",
    "0x10",
    "1_000",
    "\N{ARABIC-INDIC DIGIT ONE}",
    "1" * 3000,
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A route that reads a body, and one that it accepts."""

    path: str
    body: dict[str, Any]
    fields: tuple[tuple[str, ...], ...]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
async def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OpenServer]:
    """A server with the scripted engine behind it."""
    with ExitStack() as stack:
        url = ""
        if request.param == "postgresql":
            url = stack.enter_context(new_postgres(request.getfixturevalue("postgres_server")))
        async with ServerHarness.create(tmp_path_factory.mktemp("numbers"), url).server(step_s=0.0005) as made:
            yield made


def fields_of(body: type[BaseModel]) -> tuple[tuple[str, ...], ...]:
    """Every field, at any depth, that may be a number or anything."""
    schema: dict[str, Any] = TypeAdapter(body).json_schema()
    return tuple(_numeric(schema, schema, ()))


def _numeric(node: dict[str, Any], root: dict[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if "$ref" in node:
        node = root["$defs"][node["$ref"].rpartition("/")[2]]
    for option in node.get("anyOf", ()):
        yield from _numeric(option, root, path)
    for name, field in node.get("properties", {}).items():
        yield from _numeric(field, root, (*path, name))
    if "items" in node:
        yield from _numeric(node["items"], root, (*path, "0"))
    if node.get("type") in ("integer", "number") or not node.keys() & {"type", "anyOf", "properties", "items", "enum"}:
        yield path


CHAT = {
    "model": MODEL,
    "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
    "max_tokens": 1,
    "stream_options": {},
}
COMPLETION = {"model": MODEL, "prompt": [5, 6], "max_tokens": 1}
INPUTS = tuple(("input", field.name) for field in REPLICATE_INPUTS.fields if field.type in ("integer", "number"))
CREATE = {"input": {"prompt": "Hi", "max_tokens": 1}, "webhook_events_filter": ["start"]}
REPLICATE = (
    *INPUTS,
    ("webhook",),
    ("webhook_completed",),
    ("webhook_events_filter", "0"),
    ("stream",),
    ("input", "odd"),
)
ROUTES = [
    Route(path="/v1/chat/completions", body=CHAT, fields=fields_of(ChatCompletionRequest)),
    Route(path="/v1/completions", body=COMPLETION, fields=fields_of(CompletionRequest)),
    Route(path="/v1/estimate", body=CHAT, fields=fields_of(ChatCompletionRequest)),
    Route(path=f"/v1/inference/{MODEL}", body={"input": "Hi", "max_new_tokens": 1}, fields=fields_of(InferenceRequest)),
    Route(path="/v1/scoped-jwt", body={"api_key_name": None}, fields=fields_of(NewScopedJwt)),
    Route(path="/v1/api-tokens", body={}, fields=(("name",), *fields_of(NewToken))),
    Route(path="/v1/request-costs", body={"requestIds": ["a"]}, fields=(("requestIds", "0"), *fields_of(RequestIds))),
    Route(path=f"/v1/models/{MODEL}/predictions", body=CREATE, fields=REPLICATE),
    Route(path="/v1/predictions", body={"version": MODEL, **CREATE}, fields=(("version",), *INPUTS[:2])),
]
ACCOUNT = {"/v1/scoped-jwt", "/v1/api-tokens", "/v1/request-costs"}
"""Take none of the large numbers."""
QUERIES = [
    ("/v1/predictions", "cursor"),
    ("/v1/predictions", "created_after"),
    ("/v1/predictions", "created_before"),
    ("/v1/models", "cursor"),
    ("/v1/search?query=a", "limit"),
    ("/v1/logs/query?deploy_id=DEPLOY", "limit"),
    ("/v1/logs/query?deploy_id=DEPLOY", "from"),
    ("/v1/logs/query?deploy_id=DEPLOY", "to"),
    ("/payment/usage", "from"),
    ("/payment/usage?from=current", "to"),
    ("/deploy/list", "status"),
    (f"/models/{MODEL}", "version"),
]
_MARK = "number-stands-here"
HEADERS = ("corral-max-cost", "prefer", "cancel-after", "idempotency-key", "last-event-id")


def with_number(body: object, path: tuple[str, ...], number: str) -> str:
    """*body* as JSON text, with the digits of *number* as they are at *path*."""
    return json.dumps(_placed(body, path)).replace(f'"{_MARK}"', number)


def _placed(node: Any, path: tuple[str, ...]) -> Any:
    if not path:
        return _MARK
    name, *rest = path
    if name == "0":
        return [_placed(node[0] if isinstance(node, list) else None, tuple(rest))]
    fields = node if isinstance(node, dict) else {}
    return {**fields, name: _placed(fields.get(name), tuple(rest))}


async def signed_in(server: OpenServer) -> AsyncClient:
    """A client with a key of every scope, which can sign tokens."""
    caller = await server.books.caller(SECRET)
    terms = KeyTerms(name=f"all {os.urandom(4).hex()}", scopes=frozenset(Scope))
    _, secret = await server.books.keys.create(caller.account_id, terms)
    http = server.http(key=secret)
    http.timeout = 60
    return http


async def check_listing(http: AsyncClient) -> int:
    """Every prediction is in a list, and shown by itself; how many there are."""
    url: str | None = "/v1/predictions"
    ids: list[str] = []
    while url is not None:
        page = await http.get(url)
        assert page.status_code == 200, page.text
        ids += [each["id"] for each in page.json()["results"]]
        url = page.json()["next"]
    sampled = ids[:: max(1, len(ids) // 20)]
    assert [(await http.get(f"/v1/predictions/{each}")).status_code for each in sampled] == [200] * len(sampled)
    assert (await http.get("/payment/usage?from=current")).status_code == 200
    return len(ids)


async def test_no_number_in_a_body_causes_a_5xx_or_corrupts_the_account(
    server: OpenServer, request: pytest.FixtureRequest
) -> None:
    numbers = NUMBERS if request.node.callspec.params["server"] == "sqlite" else STORED
    seen: Counter[tuple[str, int]] = Counter()
    at_once = asyncio.Semaphore(16)

    async def send(http: AsyncClient, route: Route, field: tuple[str, ...], number: str) -> None:
        body = with_number(route.body, field, number)
        async with at_once:
            answer = await http.post(route.path, content=body, headers={"prefer": "wait"})
        where = f"{route.path} {'.'.join(field)} = {number[:40]}"
        assert answer.status_code < 500, (where, answer.text)
        assert not created_but_not_runnable(answer), (where, answer.text)
        if answer.status_code in (400, 422):
            assert field[-1] in answer.text or field[0] in answer.text, (where, answer.text)
        seen[route.path, answer.status_code] += 1

    async with await signed_in(server) as http:
        await asyncio.gather(
            *(send(http, route, field, number) for route in ROUTES for field in route.fields for number in numbers)
        )
        assert await check_listing(http) > 40
    answered = {path for path, status in seen if status in (200, 201)}
    assert answered >= {route.path for route in ROUTES if numbers is NUMBERS or route.path not in ACCOUNT}


def created_but_not_runnable(answer: Response) -> bool:
    """Whether a prediction was created that no engine can run, instead of rejecting the request."""
    return answer.status_code == 201 and "sampling values" in (answer.json().get("error") or "")


async def test_token_id_outside_the_vocabulary_is_reported_as_prompt_error(server: OpenServer) -> None:
    async with server.http() as http:
        for path in ("/v1/completions", "/v1/openai/completions"):
            answer = await http.post(path, json={"model": MODEL, "prompt": [5, 100_000], "max_tokens": 1})
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, "prompt")
            assert "Token id 100000 of the prompt is not in the vocabulary" in answer.json()["error"]["message"]


async def test_no_number_in_a_query_or_header_causes_a_5xx(server: OpenServer) -> None:
    async with await signed_in(server) as http:
        deploys = (await http.get("/deploy/list")).json()
        for path, name in QUERIES:
            for text in TEXTS:
                url = path.replace("DEPLOY", deploys[0]["deploy_id"])
                answer = await http.get(url, params={**dict(http.build_request("GET", url).url.params), name: text})
                assert answer.status_code < 500, (path, name, text[:40], answer.text)
        for name in HEADERS:
            for text in filter(str.isascii, TEXTS):
                for route in (ROUTES[0], ROUTES[3], ROUTES[7]):
                    answer = await http.post(route.path, json=route.body, headers={name: text})
                    assert answer.status_code < 500, (route.path, name, text[:40], answer.text)
        await check_listing(http)
