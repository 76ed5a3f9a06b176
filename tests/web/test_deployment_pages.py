"""The deployments page: states, load and unload, for operators only."""

import asyncio
import re
from collections.abc import AsyncIterator
from itertools import count

import pytest

from corral.core.accounts import Scope
from corral.core.errors import DeploymentInUse, InsufficientMemory
from tests.doors.scripted_deployments import (
    FAILED,
    LOADING,
    PATH_IN_REASON,
    READY,
    UNLOADED,
    ScriptedDeployments,
    status,
)
from tests.web.account_fixtures import SignedInBrowser, StoredAccount
from tests.web.conftest import PageServer

pytestmark = pytest.mark.anyio

PAGE = "/dashboard/deployments"
_operators = count()
MARKUP = "local/<script>alert(1)</script>"


@pytest.fixture
def registry(live: PageServer, monkeypatch: pytest.MonkeyPatch) -> ScriptedDeployments:
    """Replace the server's deployment registry with a scripted one."""
    scripted = ScriptedDeployments(
        status("ready", READY, "meta/llama-2-7b-chat"),
        status("loading", LOADING),
        status("unloaded", UNLOADED),
        status(MARKUP, FAILED),
    )
    for name in ("statuses", "status", "load", "unload"):
        monkeypatch.setattr(live.server.deployments, name, getattr(scripted, name))
    return scripted


@pytest.fixture
async def operator(live: PageServer) -> AsyncIterator[SignedInBrowser]:
    stored_account = await StoredAccount.create(live, f"Operator {next(_operators)}")
    browser = await stored_account.browser()
    yield browser
    await browser.http.aclose()


def buttons(page: str) -> dict[str, str]:
    """Button labels by deployment name."""
    found = re.findall(r'action="/dashboard/deployments/(\w+)">.*?name="name" value="([^"]*)"', page, re.DOTALL)
    return {name: action for action, name in found}


@pytest.mark.usefixtures("registry")
async def test_page_shows_each_state_and_its_buttons(operator: SignedInBrowser) -> None:
    page = (await operator.get(PAGE)).text
    for phase in ("ready", "loading", "unloaded", "failed"):
        assert f'<span class="badge badge-{phase}">{phase}</span>' in page
    assert '<meter min="0" max="100" value="40"' in page
    assert "40 %" in page
    assert PATH_IN_REASON in page
    assert "7.0 GiB" in page
    assert "<script>alert" not in page
    escaped = MARKUP.replace("<", "&lt;").replace(">", "&gt;")
    assert buttons(page) == {"ready": "unload", "loading": "unload", "unloaded": "load", escaped: "load"}


async def test_the_states_refresh_in_place(operator: SignedInBrowser, registry: ScriptedDeployments) -> None:
    page = (await operator.get(PAGE)).text
    assert 'hx-get="/dashboard/deployments/states" hx-trigger="corral:tick from:body"' in page
    registry.states = {"loading": status("loading", READY)}
    part = (await operator.get(f"{PAGE}/states")).text
    assert part.lstrip().startswith('<div id="states"')
    assert "badge-ready" in part
    assert "<html" not in part


async def test_load_begins_and_redirects(operator: SignedInBrowser, registry: ScriptedDeployments) -> None:
    answer = await operator.send(f"{PAGE}/load", name="unloaded")
    assert (answer.status_code, registry.calls) == (303, [("load", "unloaded")])
    assert "The load of “unloaded” has begun." in (await operator.get(answer.headers["location"])).text


async def test_a_load_that_does_not_fit_shows_both_sizes(
    operator: SignedInBrowser, registry: ScriptedDeployments
) -> None:
    registry.error = InsufficientMemory("unloaded", needed_bytes=7 * 2**30, available_bytes=3 * 2**30)
    answer = await operator.send(f"{PAGE}/load", name="unloaded")
    assert answer.status_code == 409
    assert "needs 7.0 GiB of memory to load, and 3.0 GiB are available" in answer.text


async def test_unload_redirects(operator: SignedInBrowser, registry: ScriptedDeployments) -> None:
    answer = await operator.send(f"{PAGE}/unload", name="ready")
    assert (answer.status_code, registry.calls) == (303, [("unload", "ready", False)])
    assert "“ready” was unloaded." in (await operator.get(answer.headers["location"])).text


async def test_busy_deployment_offers_a_drain_that_runs_in_the_background(
    operator: SignedInBrowser, registry: ScriptedDeployments, monkeypatch: pytest.MonkeyPatch, live: PageServer
) -> None:
    registry.error = DeploymentInUse("ready", runs=2)
    answer = await operator.send(f"{PAGE}/unload", name="ready")
    assert answer.status_code == 303
    page = (await operator.get(answer.headers["location"])).text
    assert "“ready” is in use" in page
    assert 'name="drain" value="yes"' in page
    begun, runs_are_over = asyncio.Event(), asyncio.Event()

    async def unload(name: str, *, drain: bool = False) -> None:
        assert (name, drain) == ("ready", True)
        begun.set()
        await runs_are_over.wait()

    monkeypatch.setattr(live.server.deployments, "unload", unload)
    answer = await operator.send(f"{PAGE}/unload", name="ready", drain="yes")
    assert answer.status_code == 303
    await asyncio.wait_for(begun.wait(), 60)
    page = (await operator.get(answer.headers["location"])).text
    assert "is unloaded as soon as its runs are over" in page
    assert "unloaded when its runs are over" in page
    assert "ready" not in buttons(page)
    runs_are_over.set()
    async with asyncio.timeout(60):
        while "unloaded when its runs are over" in (await operator.get(f"{PAGE}/states")).text:
            await asyncio.sleep(0)


@pytest.mark.parametrize("action", ["load", "unload"])
@pytest.mark.parametrize("name", ["nobody", "", "../..", "x" * 5000, MARKUP + "x"])
async def test_an_unknown_name_is_not_found(
    operator: SignedInBrowser, registry: ScriptedDeployments, action: str, name: str
) -> None:
    answer = await operator.send(f"{PAGE}/{action}", name=name)
    assert (answer.status_code, registry.calls) == (404, [])
    assert "<script>alert" not in answer.text


@pytest.mark.usefixtures("registry")
async def test_unknown_name_in_the_query_is_not_echoed(operator: SignedInBrowser) -> None:
    for query in ("done=load&name=nobody", "used=nobody", "done=x&name=ready"):
        page = (await operator.get(f"{PAGE}?{query}")).text
        assert "nobody" not in page
        assert 'role="status"' not in page


@pytest.mark.parametrize("scopes", [(Scope.READ,), (Scope.INFERENCE,), (Scope.READ, Scope.INFERENCE)])
async def test_page_and_forms_require_the_admin_scope(
    live: PageServer, registry: ScriptedDeployments, scopes: tuple[Scope, ...]
) -> None:
    browser = await (await StoredAccount.create(live, f"Other {sorted(scopes)}")).browser(*scopes)
    for path in (PAGE, f"{PAGE}/states"):
        answer = await browser.get(path)
        assert (answer.status_code, PATH_IN_REASON in answer.text) == (403, False)
    for action in ("load", "unload"):
        assert (await browser.send(f"{PAGE}/{action}", name="ready", drain="yes")).status_code == 403
    assert registry.calls == []
    if Scope.READ in scopes:
        assert PAGE not in (await browser.get("/dashboard")).text
    await browser.http.aclose()
