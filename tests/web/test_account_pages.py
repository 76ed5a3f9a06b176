"""Account pages over HTTP: scopes, CSRF, isolation between accounts, and the data they show."""

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
from tests.web.account_fixtures import SignedInBrowser, StoredAccount
from tests.web.conftest import PageServer

pytestmark = pytest.mark.anyio


@dataclass
class AccountFixtures:
    """An owner account with a prediction, a webhook delivery and a key; and another account."""

    owner: StoredAccount
    other: StoredAccount
    prediction: Prediction
    delivery_id: str
    key_id: str


@pytest.fixture(scope="module")
async def account_fixtures(live: PageServer) -> AccountFixtures:
    owner_account, other_account = await StoredAccount.create(live, "Ann <b>"), await StoredAccount.create(live, "Bob")
    prediction = await owner_account.run(webhook=None)
    await owner_account.enqueue_deliveries(prediction, WebhookEvent.COMPLETED)
    (delivery,) = await live.server.webhooks.deliveries(owner_account.account.id)
    key_id, _ = await owner_account.key(Scope.READ, name="to be revoked")
    return AccountFixtures(
        owner=owner_account, other=other_account, prediction=prediction, delivery_id=delivery.id, key_id=key_id
    )


@pytest.fixture(scope="module")
async def owner(account_fixtures: AccountFixtures) -> AsyncIterator[SignedInBrowser]:
    """Browser signed in to the owner account with every scope."""
    browser = await account_fixtures.owner.browser()
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
"""Scopes by route; a key needs one of them."""
FORM_PAGES = {
    "/p/{prediction_id}/cancel": "/p/{prediction_id}",
    "/p/{prediction_id}/deliveries/{delivery_id}/replay": "/p/{prediction_id}#deliveries",
    "/dashboard/webhooks/secret": "/dashboard/webhooks",
    "/dashboard/webhooks/rotate": "/dashboard/webhooks",
    "/dashboard/accounts/{account_id}/credit": "/dashboard/accounts/{account_id}",
    "/dashboard/accounts/{account_id}/limits": "/dashboard/accounts/{account_id}",
    "/dashboard/deployments/load": "/dashboard/deployments",
    "/dashboard/deployments/unload": "/dashboard/deployments",
}
"""Redirect target of GET for each POST-only route."""


def path_for(path: str, account_fixtures: AccountFixtures) -> str:
    """Fill in the ids of the owner account's objects."""
    return path.format(
        prediction_id=account_fixtures.prediction.id,
        delivery_id=account_fixtures.delivery_id,
        key_id=account_fixtures.key_id,
        account_id=account_fixtures.owner.account.id,
    )


def digest_of(prediction: Prediction) -> str:
    return (prediction.receipt or {})["digest"]


async def state_snapshot(account_fixtures: AccountFixtures) -> object:
    """State that a rejected form must not change."""
    services = account_fixtures.owner.services
    secrets = [
        await account_fixtures.owner.server.webhooks.secret(stored.account.id)
        for stored in (account_fixtures.owner, account_fixtures.other)
    ]
    kept = [(key.id, key.revoked_at_ms) for key in await services.keys.list() if key.name != "test"]
    return secrets, kept, await services.accounts.list(), await account_fixtures.owner.server.webhooks.deliveries()


async def test_gets_and_posts_list_every_account_route(live: PageServer) -> None:
    from fastapi.routing import iter_route_contexts  # noqa: PLC0415

    mine = [
        (method, route.path or "")
        for route in iter_route_contexts(live.server.app.routes)
        for method in getattr(route.original_route, "methods", None) or ()
        if re.match(r"/(p|dashboard)(/|$)", route.path or "") and method != "HEAD"
    ]
    assert {path for method, path in mine if method == "GET"} == GETS.keys() | FORM_PAGES.keys()
    assert {path for method, path in mine if method == "POST"} == POSTS.keys()


@pytest.mark.parametrize("path", FORM_PAGES)
async def test_get_of_a_post_route_redirects_and_changes_nothing(
    account_fixtures: AccountFixtures, owner: SignedInBrowser, anonymous_client: AsyncClient, path: str
) -> None:
    before = await state_snapshot(account_fixtures)
    for http in (owner.http, anonymous_client):
        answer = await http.get(path_for(path, account_fixtures))
        assert (answer.status_code, answer.headers["location"]) == (303, path_for(FORM_PAGES[path], account_fixtures))
    assert await state_snapshot(account_fixtures) == before


@pytest.mark.parametrize("path", GETS)
async def test_pages_without_a_session_redirect_to_sign_in(
    account_fixtures: AccountFixtures, anonymous_client: AsyncClient, path: str
) -> None:
    answer = await anonymous_client.get(path_for(path, account_fixtures))
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/sign-in?next=")


@pytest.mark.parametrize("path", POSTS)
async def test_forms_without_a_session_are_rejected(
    account_fixtures: AccountFixtures, anonymous_client: AsyncClient, path: str
) -> None:
    before = await state_snapshot(account_fixtures)
    assert (
        await anonymous_client.post(path_for(path, account_fixtures), data={"sure": "yes", "name": "x"})
    ).status_code == 401
    assert await state_snapshot(account_fixtures) == before


@pytest.mark.parametrize("path", POSTS)
async def test_forms_without_the_csrf_token_are_rejected(
    account_fixtures: AccountFixtures, owner: SignedInBrowser, path: str
) -> None:
    before = await state_snapshot(account_fixtures)
    for token in ({}, {"csrf": "wrong"}):
        answer = await owner.http.post(
            path_for(path, account_fixtures), data={"sure": "yes", "name": "x", "amount": "1", **token}
        )
        assert answer.status_code == 403
        assert "another session" in answer.text
    assert await state_snapshot(account_fixtures) == before


@pytest.mark.parametrize("scope", Scope)
async def test_pages_require_their_scope(account_fixtures: AccountFixtures, scope: Scope) -> None:
    browser = await account_fixtures.owner.browser(scope)
    for path, scopes in GETS.items():
        answer = await browser.get(path_for(path, account_fixtures))
        assert answer.status_code == (200 if scope in scopes else 403), path
        assert scope in scopes or "lacks the scope" in answer.text
    await browser.http.aclose()


@pytest.mark.parametrize("scope", Scope)
async def test_forms_require_their_scope(account_fixtures: AccountFixtures, scope: Scope) -> None:
    browser = await account_fixtures.owner.browser(scope)
    before = await state_snapshot(account_fixtures)
    for path, scopes in POSTS.items():
        if scope not in scopes:
            answer = await browser.send(
                path_for(path, account_fixtures), sure="yes", name="x", amount="1", scopes="read"
            )
            assert answer.status_code == 403, path
            assert "lacks the scope" in answer.text
    assert await state_snapshot(account_fixtures) == before
    await browser.http.aclose()


async def test_another_account_cannot_read_or_change_a_prediction(account_fixtures: AccountFixtures) -> None:
    browser = await account_fixtures.other.browser()
    before = await state_snapshot(account_fixtures)
    for path in GETS:
        if "prediction_id" in path:
            answer = await browser.get(path_for(path, account_fixtures))
            assert answer.status_code == 404, path
            assert "Say hello" not in answer.text
    for path in POSTS:
        if "prediction_id" in path:
            assert (await browser.send(path_for(path, account_fixtures))).status_code == 404, path
    assert account_fixtures.prediction.id not in (await browser.get("/p")).text
    assert await state_snapshot(account_fixtures) == before
    await browser.http.aclose()


async def test_keys_and_accounts_of_others_require_the_admin_scope(account_fixtures: AccountFixtures) -> None:
    browser = await account_fixtures.other.browser(Scope.READ, Scope.INFERENCE)
    for path in (
        f"/dashboard/keys?account={account_fixtures.owner.account.id}",
        f"/dashboard/keys/{account_fixtures.key_id}/revoke",
        f"/dashboard/accounts/{account_fixtures.owner.account.id}",
    ):
        answer = await browser.get(path)
        assert answer.status_code == 403
        assert "to be revoked" not in answer.text
    assert "to be revoked" not in (await browser.get("/dashboard/keys")).text
    await browser.http.aclose()


async def test_user_text_is_escaped(account_fixtures: AccountFixtures, owner: SignedInBrowser) -> None:
    script = "<script>alert(1)</script>"
    ran = await account_fixtures.owner.run(input={"shown": {"prompt": script, "<img src=x>": [script]}, "request": {}})
    for path in (f"/p/{ran.id}", "/dashboard", f"/dashboard/accounts/{account_fixtures.owner.account.id}"):
        page = (await owner.get(path)).text
        assert "<script>alert" not in page
        assert "<img src=x" not in page
        assert "Ann <b>" not in page


async def test_prediction_page_shows_the_stored_prediction(
    account_fixtures: AccountFixtures, owner: SignedInBrowser
) -> None:
    page = (await owner.get(f"/p/{account_fixtures.prediction.id}")).text
    assert "Say hello." in page
    assert "Hello." in page
    assert "$0.0000925" in page
    assert "Succeeded: the model ended its answer." in page
    assert digest_of(account_fixtures.prediction) in page
    assert "receiver.example" in page
    assert "data-events" not in page
    verified = (await owner.get(f"/p/{account_fixtures.prediction.id}/receipt")).text
    assert "The receipt holds: 100 \N{MULTIPLICATION SIGN} 650" in verified
    assert "= 92,500 nano-dollars, which is $0.0000925" in verified


async def test_running_prediction_is_live_without_receipt_and_can_be_canceled(
    account_fixtures: AccountFixtures, owner: SignedInBrowser
) -> None:
    running = await account_fixtures.owner.run(finished=False)
    page = (await owner.get(f"/p/{running.id}")).text
    assert f'data-events="/p/{running.id}/events"' in page
    assert f'action="/p/{running.id}/cancel"' in page
    assert "Issued when the prediction ends" in page
    assert usd(running.hold_nusd) in page
    early = await owner.get(f"/p/{running.id}/receipt")
    assert (early.status_code, early.headers["location"]) == (303, f"/p/{running.id}#receipt")
    reader = await account_fixtures.owner.browser(Scope.READ)
    assert "/cancel" not in (await reader.get(f"/p/{running.id}")).text
    await reader.http.aclose()


async def test_purged_or_unstored_text_is_shown_as_not_stored(
    account_fixtures: AccountFixtures, owner: SignedInBrowser
) -> None:
    removed = await account_fixtures.owner.run()
    await account_fixtures.owner.server.store.write(lambda c: predictions.purge_data(c, before_ms=2**62))
    private, _ = await account_fixtures.owner.key(privacy=True)
    for gone in (removed, await account_fixtures.owner.run(key_id=private)):
        page = (await owner.get(f"/p/{gone.id}")).text
        assert "Input and output are not stored" in page
        assert page.count("Not stored.") == 2
        assert "Hello." not in page
        assert digest_of(gone) in page


async def test_webhook_delivery_is_replayed_from_the_prediction_page(
    account_fixtures: AccountFixtures, owner: SignedInBrowser
) -> None:
    webhooks = account_fixtures.owner.server.webhooks
    answer = await owner.send(f"/p/{account_fixtures.prediction.id}/deliveries/{account_fixtures.delivery_id}/replay")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/p/{account_fixtures.prediction.id}#deliveries")
    other = await account_fixtures.owner.run()
    wrong = await owner.send(f"/p/{other.id}/deliveries/{account_fixtures.delivery_id}/replay")
    assert (wrong.status_code, "has no delivery" in wrong.text) == (404, True)
    assert [each.id for each in await webhooks.deliveries(account_fixtures.owner.account.id)] == [
        account_fixtures.delivery_id
    ]


async def test_prediction_list_filters_and_paginates(live: PageServer) -> None:
    stored_account = await StoredAccount.create(live, "Eve")
    made = [await stored_account.run(door="replicate" if number % 2 else "openai") for number in range(27)]
    browser = await stored_account.browser(Scope.READ)

    def listed(page: str) -> list[str]:
        return re.findall(r'class="mono" href="/p/(page\d+)"', page)

    first = (await browser.get("/p")).text
    assert len(listed(first)) == 25
    older = re.search(r'rel="next" href="([^"]+)"', first)
    assert older is not None
    second = (await browser.get(older[1])).text
    assert listed(first) + listed(second) == [each.id for each in sorted(made, key=_newest_first)]
    by_door = listed((await browser.get("/p?door=replicate&status=succeeded")).text)
    assert set(by_door) == {each.id for each in made if each.door == "replicate"}
    assert "No predictions match these filters" in (await browser.get("/p?status=failed")).text
    nonsense = unescape((await browser.get("/p?status=nonsense&model=<x>&state=failed&door=web&door=openai")).text)
    assert len(listed(nonsense)) == 25
    assert "“status=nonsense” is ignored: status is one of running, succeeded, failed, canceled." in nonsense
    assert "“model=<x>” is ignored: model is one of " in nonsense
    assert "“state” is ignored: the filters here are status, model, door." in nonsense
    assert "“door” is ignored, since it is given 2 times." in nonsense
    assert "ignored" not in (await browser.get("/p?status=&model=&door=replicate")).text
    assert (await browser.get("/p?before=unknown")).status_code == 404
    await browser.http.aclose()


def _newest_first(prediction: Prediction) -> tuple[int, int]:
    return -prediction.created_at_ms, -int(prediction.id.removeprefix("page"))
