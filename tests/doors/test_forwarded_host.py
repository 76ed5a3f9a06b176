"""X-Forwarded-Host of trusted proxies: validated like Host, and the base of URLs in responses."""

from ipaddress import IPv4Network

import pytest
from httpx2 import Response

from corral.api.app import create_app
from corral.api.dependencies import Dependencies
from corral.api.server.limits import ConnectionLimits
from tests.doors.known_keys import door_dependencies
from tests.doors.live_server import LiveServer, serving
from tests.doors.scripted_predictions import MODEL, ScriptedPredictions

pytestmark = pytest.mark.anyio

HERE = ConnectionLimits(trusted_proxies=(IPv4Network("127.0.0.1"),))
ELSEWHERE = ConnectionLimits(trusted_proxies=(IPv4Network("10.0.0.0/8"),))


async def ask(live: LiveServer, *forwarded: str, host: str = "localhost") -> Response:
    """Get a response that contains an absolute URL of this server."""
    headers = [("host", host), ("x-forwarded-proto", "https"), *(("x-forwarded-host", each) for each in forwarded)]
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    async with live.http() as http:
        return await http.get(f"/v1/models/{MODEL}", headers=encoded)


def dependencies(public_url: str = "") -> Dependencies:
    return door_dependencies(ScriptedPredictions(), clock=lambda: 0.0, public_url=public_url)


async def test_forwarded_host_of_a_trusted_proxy_is_used_in_urls() -> None:
    async with serving(create_app(dependencies(), allowed_hosts=["api.example", "::2"]), limits=HERE) as live:
        for forwarded, base in (
            (["api.example"], "api.example"),
            (["API.example:8443"], "API.example:8443"),
            (["[::2]:1"], "[::2]:1"),
            (["localhost:5173"], "localhost:5173"),
            (["evil.example, api.example"], "api.example"),
            (["evil.example", "api.example"], "api.example"),
        ):
            answer = await ask(live, *forwarded)
            assert answer.json()["url"] == f"https://{base}/{MODEL}", forwarded


async def test_forwarded_host_must_be_allowed() -> None:
    bad = [
        "api.example,",
        "a b",
        "x/",
        "api.example/x",
        "u@api.example",
        "api.example?x",
        "api.example:0",
        "\xfc.example",
    ]
    for allowed, refused in ((("api.example",), ["evil.example", "api.example, evil.example"]), (("*",), [])):
        async with serving(create_app(dependencies(), allowed_hosts=allowed), limits=HERE) as live:
            for forwarded in (*bad, *refused):
                answer = await ask(live, forwarded)
                assert (answer.status_code, "X-Forwarded-Host" in answer.text) == (421, True), forwarded
            for forwarded in ("api.example", ""):
                assert (await ask(live, forwarded)).status_code == 200


async def test_dns_rebinding_gains_nothing_from_the_forwarded_host() -> None:
    """DNS rebinding: a page can send any header to its own name but not another Host."""
    async with serving(create_app(dependencies()), limits=HERE) as live:
        assert (await ask(live, "localhost", host="evil.example")).status_code == 421


async def test_forwarded_host_of_an_untrusted_client_is_ignored() -> None:
    async with serving(create_app(dependencies(), allowed_hosts=["api.example"]), limits=ELSEWHERE) as live:
        for forwarded in ("api.example", "evil.example"):
            assert (await ask(live, forwarded)).json()["url"] == f"http://localhost/{MODEL}"


async def test_public_url_overrides_the_forwarded_host() -> None:
    app = create_app(dependencies("https://public.example/pre"), allowed_hosts=["api.example"])
    async with serving(app, limits=HERE) as live:
        assert (await ask(live, "api.example")).json()["url"] == f"https://public.example/pre/{MODEL}"
