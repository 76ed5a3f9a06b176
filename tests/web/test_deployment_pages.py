"""The deployments page: what an operator sees and does, and nobody else."""

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
from tests.web.conftest import PageServer
from tests.web.people import Person, SignedIn

pytestmark = pytest.mark.anyio

PAGE = "/dashboard/deployments"
_operators = count()
MARKUP = "local/<script>alert(1)</script>"


@pytest.fixture
def registry(live: PageServer, monkeypatch: pytest.MonkeyPatch) -> ScriptedDeployments:
    """What the server's registry says, in this test."""
    scripted = ScriptedDeployments(
        status("ready", READY, "meta/llama-2-7b-chat"),
        status("loading", LOADING),
        status("unloaded", UNLOADED),
        status(MARKUP, FAILED),
    )
    for name in ("statuses", "status", "load", "unload"):
        monkeypatch.setattr(live.made.deployments, name, getattr(scripted, name))
    return scripted


@pytest.fixture
async def operator(live: PageServer) -> AsyncIterator[SignedIn]:
    person = await Person.make(live, f"Operator {next(_operators)}")
    browser = await person.browser()
    yield browser
    await browser.http.aclose()


def buttons(page: str) -> dict[str, str]:
    """What can be done with each deployment, by its name."""
    found = re.findall(r'action="/dashboard/deployments/(\w+)">.*?name="name" value="([^"]*)"', page, re.DOTALL)
    return {name: action for action, name in found}


@pytest.mark.usefixtures("registry")
async def test_the_page_shows_each_state_and_what_can_be_done(operator: SignedIn) -> None:
    page = (await operator.see(PAGE)).text
    for phase in ("ready", "loading", "unloaded", "failed"):
        assert f'<span class="badge badge-{phase}">{phase}</span>' in page
    assert '<meter min="0" max="100" value="40"' in page
    assert "40 %" in page
    assert PATH_IN_REASON in page
    assert "7.0 GiB" in page
    assert "<script>alert" not in page
    escaped = MARKUP.replace("<", "&lt;").replace(">", "&gt;")
    assert buttons(page) == {"ready": "unload", "loading": "unload", "unloaded": "load", escaped: "load"}


async def test_the_states_refresh_in_place(operator: SignedIn, registry: ScriptedDeployments) -> None:
    page = (await operator.see(PAGE)).text
    assert 'hx-get="/dashboard/deployments/states" hx-trigger="corral:tick from:body"' in page
    registry.states = {"loading": status("loading", READY)}
    part = (await operator.see(f"{PAGE}/states")).text
    assert part.lstrip().startswith('<div id="states"')
    assert "badge-ready" in part
    assert "<html" not in part


async def test_load_begins_and_redirects(operator: SignedIn, registry: ScriptedDeployments) -> None:
    answer = await operator.send(f"{PAGE}/load", name="unloaded")
    assert (answer.status_code, registry.calls) == (303, [("load", "unloaded")])
    assert "The load of “unloaded” has begun." in (await operator.see(answer.headers["location"])).text


async def test_a_load_that_does_not_fit_shows_both_sizes(operator: SignedIn, registry: ScriptedDeployments) -> None:
    registry.error = InsufficientMemory("unloaded", needed_bytes=7 * 2**30, available_bytes=3 * 2**30)
    answer = await operator.send(f"{PAGE}/load", name="unloaded")
    assert answer.status_code == 409
    assert "needs 7.0 GiB of memory to load, and 3.0 GiB are available" in answer.text


async def test_unload_redirects(operator: SignedIn, registry: ScriptedDeployments) -> None:
    answer = await operator.send(f"{PAGE}/unload", name="ready")
    assert (answer.status_code, registry.calls) == (303, [("unload", "ready", False)])
    assert "“ready” was unloaded." in (await operator.see(answer.headers["location"])).text


async def test_a_used_deployment_is_offered_to_be_drained_and_the_drain_goes_on_behind(
    operator: SignedIn, registry: ScriptedDeployments, monkeypatch: pytest.MonkeyPatch, live: PageServer
) -> None:
    registry.error = DeploymentInUse("ready", runs=2)
    answer = await operator.send(f"{PAGE}/unload", name="ready")
    assert answer.status_code == 303
    page = (await operator.see(answer.headers["location"])).text
    assert "“ready” is in use" in page
    assert 'name="drain" value="yes"' in page
    begun, runs_are_over = asyncio.Event(), asyncio.Event()

    async def unload(name: str, *, drain: bool = False) -> None:
        assert (name, drain) == ("ready", True)
        begun.set()
        await runs_are_over.wait()

    monkeypatch.setattr(live.made.deployments, "unload", unload)
    answer = await operator.send(f"{PAGE}/unload", name="ready", drain="yes")
    assert answer.status_code == 303
    await asyncio.wait_for(begun.wait(), 10)
    page = (await operator.see(answer.headers["location"])).text
    assert "is unloaded as soon as its runs are over" in page
    assert "unloaded when its runs are over" in page
    assert "ready" not in buttons(page)
    runs_are_over.set()
    async with asyncio.timeout(10):
        while "unloaded when its runs are over" in (await operator.see(f"{PAGE}/states")).text:
            await asyncio.sleep(0)


@pytest.mark.parametrize("action", ["load", "unload"])
@pytest.mark.parametrize("name", ["nobody", "", "../..", "x" * 5000, MARKUP + "x"])
async def test_an_unknown_name_is_not_found(
    operator: SignedIn, registry: ScriptedDeployments, action: str, name: str
) -> None:
    answer = await operator.send(f"{PAGE}/{action}", name=name)
    assert (answer.status_code, registry.calls) == (404, [])
    assert "<script>alert" not in answer.text


@pytest.mark.usefixtures("registry")
async def test_an_address_with_a_made_up_name_shows_nothing_of_it(operator: SignedIn) -> None:
    for query in ("done=load&name=nobody", "used=nobody", "done=x&name=ready"):
        page = (await operator.see(f"{PAGE}?{query}")).text
        assert "nobody" not in page
        assert 'role="status"' not in page


@pytest.mark.parametrize("scopes", [(Scope.READ,), (Scope.INFERENCE,), (Scope.READ, Scope.INFERENCE)])
async def test_others_see_and_do_nothing(
    live: PageServer, registry: ScriptedDeployments, scopes: tuple[Scope, ...]
) -> None:
    browser = await (await Person.make(live, f"Other {sorted(scopes)}")).browser(*scopes)
    for path in (PAGE, f"{PAGE}/states"):
        answer = await browser.see(path)
        assert (answer.status_code, PATH_IN_REASON in answer.text) == (403, False)
    for action in ("load", "unload"):
        assert (await browser.send(f"{PAGE}/{action}", name="ready", drain="yes")).status_code == 403
    assert registry.calls == []
    if Scope.READ in scopes:
        assert PAGE not in (await browser.see("/dashboard")).text
    await browser.http.aclose()
