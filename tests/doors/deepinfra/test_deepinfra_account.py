"""Account routes: API keys, scoped tokens, request costs, usage, logs."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import jwt
import pytest
from httpx2 import AsyncClient

from corral.bootstrap import Server
from corral.core.accounts import Scope
from corral.service.accounts.api_keys import KeyTerms
from tests.doors.deepinfra.native import HELLO, PATH, infer
from tests.doors.live_server import LiveServer
from tests.doors.scripted_predictions import MODEL

pytestmark = pytest.mark.anyio

OTHER = "/v1/inference/meta-llama/Llama-2-70b-chat-hf"
COST_NUSD = 5 * 350 + 4 * 400
"""Cost of 5 input and 4 output tokens."""


@pytest.fixture(scope="module")
async def key(built_server: Server) -> str:
    """The secret of a key with every scope, of an account with credit."""
    account = await built_server.account_services.accounts.create("ann", credit_nusd=10**9)
    _, secret = await built_server.account_services.keys.create(
        account.id, KeyTerms(name="first", scopes=frozenset(Scope))
    )
    return secret


@pytest.fixture(scope="module")
async def account_client(live: LiveServer, key: str) -> AsyncIterator[AsyncClient]:
    """HTTP client with the account's key."""
    async with live.http(key=key) as client:
        yield client


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


async def uid(client: AsyncClient) -> str:
    return (await client.get("/v1/me")).json()["uid"]


def signed(account_id: str, name: str, secret: str, **payload: Any) -> str:
    """Create a scoped JWT without the API."""
    kid = f"{account_id}:{base64.b64encode(name.encode()).decode()}"
    body = {"sub": account_id, "exp": int(time.time()) + 3600, **payload}
    return "jwt:" + jwt.encode(body, secret, algorithm="HS256", headers={"kid": kid})


async def status_of(client: AsyncClient, token: str, path: str = PATH, **fields: Any) -> int:
    response = await client.post(path, json={**HELLO, "max_new_tokens": 4, **fields}, headers=bearer(token))
    return response.status_code


async def test_me_returns_the_account_and_its_limits(account_client: AsyncClient) -> None:
    me = (await account_client.get("/v1/me?checklist=true")).json()
    assert me["uid"].startswith("acct_")
    assert (me["display_name"], me["email"], me["is_admin"]) == ("ann", "", True)
    assert (await account_client.get("/v1/me/rate_limit")).json() == {"rate_limit": 200, "tpm_rate_limit": None}


async def test_api_tokens_are_created_listed_used_and_revoked(account_client: AsyncClient) -> None:
    made = (await account_client.post("/v1/api-tokens", json={"name": "second"})).json()
    assert made["name"] == "second"
    assert made["allowed_ips"] is None
    taken = await account_client.post("/v1/api-tokens", json={"name": "second"})
    assert (taken.status_code, list(taken.json())) == (409, ["error"])
    assert (await account_client.post("/v1/api-tokens", json={})).status_code == 422
    listed = {each["name"]: each for each in (await account_client.get("/v1/api-tokens")).json()}
    assert listed["second"]["token_id"] == made["token_id"]
    assert made["token"] not in str(listed)
    assert await status_of(account_client, made["token"]) == 200
    for name in (made["token"], made["token_id"]):
        assert (await account_client.get(f"/v1/api-tokens/{name}")).json()["name"] == "second"
    assert (await account_client.get("/v1/api-tokens", headers=bearer(made["token"]))).status_code == 403
    assert (
        await account_client.post("/v1/api-tokens", json={"name": "x"}, headers=bearer(made["token"]))
    ).status_code == 403
    assert (await account_client.delete(f"/v1/api-tokens/{made['token_id']}")).status_code == 200
    assert await status_of(account_client, made["token"]) == 401
    assert (await account_client.get(f"/v1/api-tokens/{made['token_id']}")).status_code == 404
    assert (await account_client.delete("/v1/api-tokens/key_unknown")).status_code == 404


async def test_keys_of_other_accounts_are_not_found(account_client: AsyncClient, http: AsyncClient) -> None:
    for each in (await http.get("/v1/api-tokens")).json():
        assert (await account_client.get(f"/v1/api-tokens/{each['token_id']}")).status_code == 404
        assert (await account_client.delete(f"/v1/api-tokens/{each['token_id']}")).status_code == 404


async def test_request_costs_accept_every_request_id_format(account_client: AsyncClient, http: AsyncClient) -> None:
    native = await account_client.post(PATH, json={**HELLO, "max_new_tokens": 4})
    chat = await account_client.post(
        "/v1/openai/chat/completions",
        json={"model": MODEL, "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 4, "temperature": 0},
    )
    completion = await account_client.post(
        "/v1/openai/completions", json={"model": MODEL, "prompt": HELLO["input"], "max_tokens": 4}
    )
    ids = [native.json()["request_id"], chat.json()["id"], completion.json()["id"], native.headers["corral-prediction"]]
    costs = (await account_client.post("/v1/request-costs", json={"requestIds": [*ids, "R" + "0" * 23, "x"]})).json()
    assert [each["requestId"] for each in costs["requests"]] == ids
    assert [each["costNanoUsd"] for each in costs["requests"]] == [COST_NUSD] * 4
    assert Decimal(str(native.json()["inference_status"]["cost"])) == Decimal(COST_NUSD) / 10**9
    assert (await http.post("/v1/request-costs", json={"requestIds": ids})).json() == {"requests": []}
    assert (await account_client.post("/v1/request-costs", json={"requestIds": ["x"] * 101})).status_code == 422
    assert (await account_client.post("/v1/request-costs", json={})).status_code == 422


async def test_scoped_token_cannot_read_other_requests_of_its_account(account_client: AsyncClient, key: str) -> None:
    token = signed(await uid(account_client), "first", key)
    for method, path in (
        *(("GET", f"{prefix}/predictions") for prefix in ("", "/v1", "/v1/v1")),
        *((method, "/v1/files") for method in ("GET", "POST")),
        *((method, "/v1/files/anything") for method in ("GET", "DELETE")),
        ("GET", "/v1/webhooks/default/secret"),
        ("GET", "/v1/logs/query?deploy_id=any"),
    ):
        refused = await account_client.request(method, path, headers=bearer(token))
        assert (refused.status_code, "Use the API key" in refused.text) == (403, True), (method, path)
        assert (await account_client.request(method, path)).status_code != 403, (method, path)
    made = await account_client.post(
        f"/v1/models/{MODEL}/predictions", json={"input": {"prompt": "Hi"}}, headers=bearer(token)
    )
    path = f"/v1/predictions/{made.json()['id']}"
    assert (await account_client.get(path, headers=bearer(token))).status_code == 200
    assert (await account_client.post(f"{path}/cancel", headers=bearer(token))).status_code == 200


async def test_scoped_token_is_limited_to_its_models_and_expiry(account_client: AsyncClient) -> None:
    made = await account_client.post(
        "/v1/scoped-jwt", json={"api_key_name": "first", "models": [MODEL], "expires_delta": 3600}
    )
    token = made.json()["token"]
    assert token.startswith("jwt:")
    assert await status_of(account_client, token) == 200
    assert await status_of(account_client, token, OTHER) == 403
    read = (await account_client.get("/v1/scoped-jwt", params={"jwtoken": token})).json()
    assert read["models"] == [MODEL]
    assert read["spending_limit"] is None
    assert abs(read["expires_at"] - time.time() - 3600) < 60
    for path in ("/v1/api-tokens", "/payment/usage?from=current"):
        assert (await account_client.get(path, headers=bearer(token))).status_code == 403
    again = await account_client.post("/v1/scoped-jwt", json={"api_key_name": "first"}, headers=bearer(token))
    assert again.status_code == 403
    short = (await account_client.post("/v1/scoped-jwt", json={"expires_delta": 1})).json()["token"]
    while time.time() <= jwt.decode(short[4:], options={"verify_signature": False})["exp"]:
        await asyncio.sleep(0.05)
    assert await status_of(account_client, short) == 401
    openai = await account_client.post(
        "/v1/openai/chat/completions",
        json={"model": MODEL, "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 1},
        headers=bearer(token),
    )
    assert openai.status_code == 200


async def test_client_signed_token_is_accepted(account_client: AsyncClient, key: str) -> None:
    me = await uid(account_client)
    assert await status_of(account_client, signed(me, "first", key)) == 200
    assert await status_of(account_client, signed(me, "first", key, model=MODEL)) == 200
    assert await status_of(account_client, signed(me, "first", key, model=MODEL.upper()), OTHER) == 403
    assert await status_of(account_client, signed(me, "first", key, models=[])) == 403


async def test_invalid_scoped_token_is_401(account_client: AsyncClient, key: str) -> None:
    me = await uid(account_client)
    year = 367 * 86400
    good = signed(me, "first", key)
    head, payload, signature = good.removeprefix("jwt:").split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none","kid":"%b"}' % f"{me}:Zmlyc3Q=".encode()).decode().rstrip("=")
    for token in (
        signed(me, "first", key, exp=int(time.time()) - 1),
        signed(me, "first", key, exp=int(time.time()) + year),
        signed(me, "first", key, exp=None),
        signed(me, "first", key, sub="acct_other"),
        signed(me, "first", key, nbf=int(time.time()) + 60),
        signed(me, "first", key, max_tokens=3),
        signed(me, "first", key, model=MODEL, models=[MODEL]),
        signed(me, "first", key, models="x" * 10, spending_limit=-1),
        signed(me, "first", key, spending_limit=True),
        signed(me, "first", key, aud="elsewhere"),
        signed(me, "first", "another secret of thirty-two characters or so"),
        signed(me, "unknown", key),
        signed("acct_unknown", "first", key),
        good.removeprefix("jwt:"),
        f"jwt:{none}.{payload}.",
        f"jwt:{none}.{payload}.{signature}",
        f"jwt:{head}.{payload}",
        "jwt:",
        "jwt:a.b.c",
        "jwt:" + "a" * 9000,
    ):
        assert await status_of(account_client, token) == 401, token
    for path in (f"/v1/scoped-jwt?jwtoken={signed(me, 'unknown', key)}", "/v1/scoped-jwt"):
        assert (await account_client.get(path)).status_code == 404


async def test_scoped_token_spending_limit_is_enforced(account_client: AsyncClient, key: str) -> None:
    limit = float(Decimal(2 * COST_NUSD + 100) / 10**9)
    token = (await account_client.post("/v1/scoped-jwt", json={"spending_limit": limit})).json()["token"]
    by_hand = signed(await uid(account_client), "first", key, spending_limit=limit)
    for each in (token, by_hand):
        assert [await status_of(account_client, each) for _ in range(4)] == [200, 200, 402, 402]
        assert await status_of(account_client, each, max_new_tokens=2000) == 402
    assert await status_of(account_client, key) == 200
    assert (await account_client.get("/v1/scoped-jwt", params={"jwtoken": token})).json()["spending_limit"] == limit


async def test_revoking_a_key_revokes_its_scoped_tokens(account_client: AsyncClient, built_server: Server) -> None:
    me = await uid(account_client)
    made, secret = await built_server.account_services.keys.create(me, KeyTerms(name="third"))
    token = signed(me, "third", secret)
    assert await status_of(account_client, token) == 200
    await built_server.account_services.keys.revoke(made.id)
    assert await status_of(account_client, token) == 401


async def test_scoped_token_cannot_sign_in_to_the_web(account_client: AsyncClient, live: LiveServer, key: str) -> None:
    async with live.http(key=None) as browser:
        with_token = await browser.post(
            "/sign-in", data={"key": signed(await uid(account_client), "first", key), "next": "/"}
        )
        assert with_token.status_code == 401
        assert "set-cookie" not in with_token.headers
        with_key = await browser.post("/sign-in", data={"key": key, "next": "/"})
    assert "set-cookie" in with_key.headers


async def test_scoped_token_must_be_signed_with_its_own_key(
    account_client: AsyncClient, http: AsyncClient, built_server: Server
) -> None:
    me = await uid(account_client)
    _, secret = await built_server.account_services.keys.create(me, KeyTerms(name="modest"))
    own = await account_client.post("/v1/scoped-jwt", json={"api_key_name": "modest"}, headers=bearer(secret))
    assert own.status_code == 200
    others = await account_client.post("/v1/scoped-jwt", json={"api_key_name": "first"}, headers=bearer(secret))
    assert others.status_code == 403
    assert (await account_client.post("/v1/scoped-jwt", json={"api_key_name": "unknown"})).status_code == 404
    assert (await account_client.post("/v1/scoped-jwt", json={"api_key_name": "modest"})).status_code == 200
    assert (await account_client.post("/v1/scoped-jwt", json={"expires_delta": 0})).status_code == 422
    assert (await account_client.post("/v1/scoped-jwt", json={"expires_at": int(time.time()) - 1})).status_code == 400
    operators = await http.post("/v1/scoped-jwt", json={})
    assert operators.status_code == 400
    assert "cannot sign" in operators.json()["error"]


async def test_usage_is_summed_by_month_and_key(account_client: AsyncClient) -> None:
    before = (await account_client.get("/payment/usage?from=current")).json()
    await infer(account_client, max_new_tokens=4)
    usage = (await account_client.get("/payment/usage?from=current")).json()
    (month,) = usage["months"]
    assert month["period"] == usage["initial_month"] == time.strftime("%Y.%m", time.gmtime())
    (item,) = month["items"]
    assert item["model"]["model_name"] == MODEL
    cents = Decimal(COST_NUSD) / 10**7
    spent_before = Decimal(str(before["months"][0]["total_cost"]))
    assert Decimal(str(month["total_cost"])) == spent_before + cents
    (key_id,) = [
        each["token_id"] for each in (await account_client.get("/v1/api-tokens")).json() if each["name"] == "first"
    ]
    of_key = (await account_client.get(f"/payment/usage/{key_id}?from=current-2&to=current")).json()
    assert [each["period"] for each in of_key["months"]][-1] == month["period"]
    assert len(of_key["months"]) == 3
    assert Decimal(str(of_key["months"][-1]["total_cost"])) <= Decimal(str(month["total_cost"]))
    for query in ("", "?from=x", "?from=2024.13", "?from=current-40", "?from=current&to=99999999999"):
        assert (await account_client.get(f"/payment/usage{query}")).status_code == 400, query


async def test_logs_have_one_line_per_request_without_text(account_client: AsyncClient) -> None:
    (deploy,) = [each for each in (await account_client.get("/deploy/list/")).json() if each["model_name"] == MODEL]
    answer = await infer(account_client, max_new_tokens=4)
    where = {"deploy_id": deploy["deploy_id"]}
    entries = (await account_client.get("/v1/logs/query", params={**where, "limit": "1000"})).json()["entries"]
    assert entries == sorted(entries)
    moment, line = entries[-1]
    assert line.startswith(
        f"{answer['request_id']} succeeded door=deepinfra input_tokens=5 output_tokens=4 runtime_ms="
    )
    assert "Hello" not in str(entries)
    after = {**where, "from": moment, "to": str(float(moment) + 1)}
    assert (await account_client.get("/v1/logs/query", params=after)).json()["entries"] == [[moment, line]]
    assert len((await account_client.get("/v1/logs/query", params={**where, "limit": "2"})).json()["entries"]) == 2
    for bad in ({"limit": "0"}, {"limit": "1001"}, {"from": "x"}, {"from": "1", "to": "9999999"}):
        assert (await account_client.get("/v1/logs/query", params={**where, **bad})).status_code == 400, bad
    assert (await account_client.get("/v1/logs/query", params={"deploy_id": "none"})).status_code == 404


async def test_ledger_is_consistent_after_the_module(built_server: Server) -> None:
    assert await built_server.account_services.usage.reconcile() == []
