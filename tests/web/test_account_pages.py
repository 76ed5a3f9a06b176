"""The pages of an account over real HTTP: who may see and change what, and that what they say is what is stored."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from html import unescape

import pytest
from httpx2 import AsyncClient

from corral.core.accounts import Scope
from corral.core.prediction import Prediction, WebhookEvent
from corral.core.pricing import usd
from corral.store.runs import predictions
from tests.web.conftest import PageServer
from tests.web.people import Person, SignedIn

pytestmark = pytest.mark.anyio


@dataclass
class Town:
    """Ann with a prediction that was told of, and Bob."""

    ann: Person
    bob: Person
    prediction: Prediction
    delivery_id: str
    key_id: str


@pytest.fixture(scope="module")
async def town(live: PageServer) -> Town:
    ann, bob = await Person.make(live, "Ann <b>"), await Person.make(live, "Bob")
    prediction = await ann.run(webhook=None)
    await ann.tell(prediction, WebhookEvent.COMPLETED)
    (delivery,) = await live.made.webhooks.deliveries(ann.account.id)
    key_id, _ = await ann.key(Scope.READ, name="to be revoked")
    return Town(ann=ann, bob=bob, prediction=prediction, delivery_id=delivery.id, key_id=key_id)


@pytest.fixture(scope="module")
async def owner(town: Town) -> AsyncIterator[SignedIn]:
    """Ann's browser, with a key of every scope."""
    browser = await town.ann.browser()
    yield browser
    await browser.http.aclose()


GETS = {
    "/p": {Scope.READ, Scope.INFERENCE},
    "/p/{prediction_id}": {Scope.READ, Scope.INFERENCE},
    "/p/{prediction_id}/events": {Scope.READ, Scope.INFERENCE},
    "/p/{prediction_id}/receipt": {Scope.READ, Scope.INFERENCE},
    "/p/{prediction_id}/deliveries": {Scope.READ, Scope.INFERENCE},
    "/dashboard": {Scope.READ},
    "/dashboard/figures": {Scope.READ},
    "/dashboard/keys": {Scope.READ, Scope.ADMIN},
    "/dashboard/keys/{key_id}/revoke": {Scope.ADMIN},
    "/dashboard/webhooks": {Scope.INFERENCE, Scope.ADMIN},
    "/dashboard/accounts": {Scope.ADMIN},
    "/dashboard/accounts/{account_id}": {Scope.ADMIN},
    "/dashboard/deployments": {Scope.ADMIN},
    "/dashboard/deployments/states": {Scope.ADMIN},
}
POSTS = {
    "/p/{prediction_id}/cancel": {Scope.INFERENCE},
    "/p/{prediction_id}/deliveries/{delivery_id}/replay": {Scope.INFERENCE},
    "/dashboard/keys": {Scope.ADMIN},
    "/dashboard/keys/{key_id}/revoke": {Scope.ADMIN},
    "/dashboard/webhooks/secret": {Scope.INFERENCE},
    "/dashboard/webhooks/rotate": {Scope.ADMIN},
    "/dashboard/accounts": {Scope.ADMIN},
    "/dashboard/accounts/{account_id}/credit": {Scope.ADMIN},
    "/dashboard/accounts/{account_id}/limits": {Scope.ADMIN},
    "/dashboard/deployments/load": {Scope.ADMIN},
    "/dashboard/deployments/unload": {Scope.ADMIN},
}
"""Each route with the scopes of which a key needs one."""
BACK = {
    "/p/{prediction_id}/cancel": "/p/{prediction_id}",
    "/p/{prediction_id}/deliveries/{delivery_id}/replay": "/p/{prediction_id}#deliveries",
    "/dashboard/webhooks/secret": "/dashboard/webhooks",
    "/dashboard/webhooks/rotate": "/dashboard/webhooks",
    "/dashboard/accounts/{account_id}/credit": "/dashboard/accounts/{account_id}",
    "/dashboard/accounts/{account_id}/limits": "/dashboard/accounts/{account_id}",
    "/dashboard/deployments/load": "/dashboard/deployments",
    "/dashboard/deployments/unload": "/dashboard/deployments",
}
"""Addresses that take forms only: where GET leads."""


def at(path: str, town: Town) -> str:
    """The address of Ann's things at a route."""
    return path.format(
        prediction_id=town.prediction.id,
        delivery_id=town.delivery_id,
        key_id=town.key_id,
        account_id=town.ann.account.id,
    )


def digest_of(prediction: Prediction) -> str:
    return (prediction.receipt or {})["digest"]


async def stored(town: Town) -> object:
    """What no refused form may change."""
    accounts = town.ann.made.accounts
    secrets = [await town.ann.made.webhooks.secret(person.account.id) for person in (town.ann, town.bob)]
    kept = [(key.id, key.revoked_at_ms) for key in await accounts.keys() if key.name != "test"]
    return secrets, kept, await accounts.accounts(), await town.ann.made.webhooks.deliveries()


async def test_the_lists_above_name_every_route(live: PageServer) -> None:
    from fastapi.routing import iter_route_contexts  # noqa: PLC0415

    mine = [
        (method, route.path or "")
        for route in iter_route_contexts(live.made.app.routes)
        for method in getattr(route.original_route, "methods", None) or ()
        if re.match(r"/(p|dashboard)(/|$)", route.path or "") and method != "HEAD"
    ]
    assert {path for method, path in mine if method == "GET"} == GETS.keys() | BACK.keys()
    assert {path for method, path in mine if method == "POST"} == POSTS.keys()


@pytest.mark.parametrize("path", BACK)
async def test_get_of_a_forms_address_leads_to_its_page_and_does_nothing(
    town: Town, owner: SignedIn, stranger: AsyncClient, path: str
) -> None:
    before = await stored(town)
    for http in (owner.http, stranger):
        answer = await http.get(at(path, town))
        assert (answer.status_code, answer.headers["location"]) == (303, at(BACK[path], town))
    assert await stored(town) == before


@pytest.mark.parametrize("path", GETS)
async def test_who_is_signed_out_is_sent_to_sign_in(town: Town, stranger: AsyncClient, path: str) -> None:
    answer = await stranger.get(at(path, town))
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/sign-in?next=")


@pytest.mark.parametrize("path", POSTS)
async def test_no_form_is_taken_from_who_is_signed_out(town: Town, stranger: AsyncClient, path: str) -> None:
    before = await stored(town)
    assert (await stranger.post(at(path, town), data={"sure": "yes", "name": "x"})).status_code == 401
    assert await stored(town) == before


@pytest.mark.parametrize("path", POSTS)
async def test_no_form_is_taken_without_the_sessions_token(town: Town, owner: SignedIn, path: str) -> None:
    before = await stored(town)
    for token in ({}, {"csrf": "wrong"}):
        answer = await owner.http.post(at(path, town), data={"sure": "yes", "name": "x", "amount": "1", **token})
        assert answer.status_code == 403
        assert "another session" in answer.text
    assert await stored(town) == before


@pytest.mark.parametrize("scope", Scope)
async def test_a_page_is_shown_to_keys_with_its_scope_only(town: Town, scope: Scope) -> None:
    browser = await town.ann.browser(scope)
    for path, scopes in GETS.items():
        answer = await browser.see(at(path, town))
        assert answer.status_code == (200 if scope in scopes else 403), path
        assert scope in scopes or "lacks the scope" in answer.text
    await browser.http.aclose()


@pytest.mark.parametrize("scope", Scope)
async def test_a_form_is_taken_from_keys_with_its_scope_only(town: Town, scope: Scope) -> None:
    browser = await town.ann.browser(scope)
    before = await stored(town)
    for path, scopes in POSTS.items():
        if scope not in scopes:
            answer = await browser.send(at(path, town), sure="yes", name="x", amount="1", scopes="read")
            assert answer.status_code == 403, path
            assert "lacks the scope" in answer.text
    assert await stored(town) == before
    await browser.http.aclose()


async def test_no_other_account_sees_or_changes_a_prediction(town: Town) -> None:
    browser = await town.bob.browser()
    before = await stored(town)
    for path in GETS:
        if "prediction_id" in path:
            answer = await browser.see(at(path, town))
            assert answer.status_code == 404, path
            assert "Say hello" not in answer.text
    for path in POSTS:
        if "prediction_id" in path:
            assert (await browser.send(at(path, town))).status_code == 404, path
    assert town.prediction.id not in (await browser.see("/p")).text
    assert await stored(town) == before
    await browser.http.aclose()


async def test_no_other_account_sees_keys_or_accounts_unless_it_may_manage_them(town: Town) -> None:
    browser = await town.bob.browser(Scope.READ, Scope.INFERENCE)
    for path in (
        f"/dashboard/keys?account={town.ann.account.id}",
        f"/dashboard/keys/{town.key_id}/revoke",
        f"/dashboard/accounts/{town.ann.account.id}",
    ):
        answer = await browser.see(path)
        assert answer.status_code == 403
        assert "to be revoked" not in answer.text
    assert "to be revoked" not in (await browser.see("/dashboard/keys")).text
    await browser.http.aclose()


async def test_what_anybody_wrote_stays_text(town: Town, owner: SignedIn) -> None:
    nasty = "<script>alert(1)</script>"
    ran = await town.ann.run(input={"shown": {"prompt": nasty, "<img src=x>": [nasty]}, "request": {}})
    for path in (f"/p/{ran.id}", "/dashboard", f"/dashboard/accounts/{town.ann.account.id}"):
        page = (await owner.see(path)).text
        assert "<script>alert" not in page
        assert "<img src=x" not in page
        assert "Ann <b>" not in page


async def test_the_page_of_a_prediction_says_what_is_stored(town: Town, owner: SignedIn) -> None:
    page = (await owner.see(f"/p/{town.prediction.id}")).text
    assert "Say hello." in page
    assert "Hello." in page
    assert "$0.0000925" in page
    assert "Succeeded: the model ended its answer." in page
    assert digest_of(town.prediction) in page
    assert "receiver.example" in page
    assert "data-events" not in page
    verified = (await owner.see(f"/p/{town.prediction.id}/receipt")).text
    assert "The receipt holds: 100 \N{MULTIPLICATION SIGN} 650" in verified
    assert "= 92,500 nano-dollars, which is $0.0000925" in verified


async def test_one_that_runs_is_watched_has_no_receipt_and_can_be_canceled(town: Town, owner: SignedIn) -> None:
    running = await town.ann.run(over=False)
    page = (await owner.see(f"/p/{running.id}")).text
    assert f'data-events="/p/{running.id}/events"' in page
    assert f'action="/p/{running.id}/cancel"' in page
    assert "Issued when the prediction ends" in page
    assert usd(running.hold_nusd) in page
    early = await owner.see(f"/p/{running.id}/receipt")
    assert (early.status_code, early.headers["location"]) == (303, f"/p/{running.id}#receipt")
    reader = await town.ann.browser(Scope.READ)
    assert "/cancel" not in (await reader.see(f"/p/{running.id}")).text
    await reader.http.aclose()


async def test_text_that_was_removed_or_never_stored_is_told_as_that(town: Town, owner: SignedIn) -> None:
    removed = await town.ann.run()
    await town.ann.made.store.write(lambda c: predictions.purge_data(c, before_ms=2**62))
    private, _ = await town.ann.key(privacy=True)
    for gone in (removed, await town.ann.run(key_id=private)):
        page = (await owner.see(f"/p/{gone.id}")).text
        assert "Input and output are not stored" in page
        assert page.count("Not stored.") == 2
        assert "Hello." not in page
        assert digest_of(gone) in page


async def test_a_delivery_is_sent_again_from_its_page(town: Town, owner: SignedIn) -> None:
    webhooks = town.ann.made.webhooks
    answer = await owner.send(f"/p/{town.prediction.id}/deliveries/{town.delivery_id}/replay")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/p/{town.prediction.id}#deliveries")
    other = await town.ann.run()
    wrong = await owner.send(f"/p/{other.id}/deliveries/{town.delivery_id}/replay")
    assert (wrong.status_code, "has no delivery" in wrong.text) == (404, True)
    assert [each.id for each in await webhooks.deliveries(town.ann.account.id)] == [town.delivery_id]


async def test_the_list_is_filtered_and_goes_on_where_it_ended(live: PageServer) -> None:
    eve = await Person.make(live, "Eve")
    made = [await eve.run(door="replicate" if number % 2 else "openai") for number in range(27)]
    browser = await eve.browser(Scope.READ)

    def listed(page: str) -> list[str]:
        return re.findall(r'class="mono" href="/p/(page\d+)"', page)

    first = (await browser.see("/p")).text
    assert len(listed(first)) == 25
    older = re.search(r'rel="next" href="([^"]+)"', first)
    assert older is not None
    second = (await browser.see(older[1])).text
    assert listed(first) + listed(second) == [each.id for each in sorted(made, key=_newest_first)]
    by_door = listed((await browser.see("/p?door=replicate&status=succeeded")).text)
    assert set(by_door) == {each.id for each in made if each.door == "replicate"}
    assert "No predictions match these filters" in (await browser.see("/p?status=failed")).text
    nonsense = unescape((await browser.see("/p?status=nonsense&model=<x>&state=failed&door=web&door=openai")).text)
    assert len(listed(nonsense)) == 25
    assert "“status=nonsense” is ignored: status is one of running, succeeded, failed, canceled." in nonsense
    assert "“model=<x>” is ignored: model is one of " in nonsense
    assert "“state” is ignored: the filters here are status, model, door." in nonsense
    assert "“door” is ignored, since it is given 2 times." in nonsense
    assert "ignored" not in (await browser.see("/p?status=&model=&door=replicate")).text
    assert (await browser.see("/p?before=unknown")).status_code == 404
    await browser.http.aclose()


def _newest_first(prediction: Prediction) -> tuple[int, int]:
    return -prediction.created_at_ms, -int(prediction.id.removeprefix("page"))
