"""Pages for API keys, webhook secrets, accounts and the dashboard figures, over HTTP."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from html import unescape

import pytest

from corral.core.accounts import Limits, Scope
from corral.core.pricing import NUSD_PER_USD, usd
from tests.web.account_fixtures import SignedInBrowser, StoredAccount
from tests.web.conftest import PageServer

pytestmark = pytest.mark.anyio

SECRET_SHOWN = re.compile(r'<code id="secret"[^>]*>([^<]+)</code>')
NEEDED = "This is needed."
ONCE = re.compile(r'<input type="hidden" name="once" value="([0-9a-f]{32})">')
FAULT = re.compile(r'<p class="fault" id="([a-z_]+)-fault">([^<]*)</p>')


@pytest.fixture(scope="module")
async def stored_account(live: PageServer) -> StoredAccount:
    return await StoredAccount.create(live, "Ann")


@pytest.fixture(scope="module")
async def owner(stored_account: StoredAccount) -> AsyncIterator[SignedInBrowser]:
    browser = await stored_account.browser()
    yield browser
    await browser.http.aclose()


def field_errors(page: str) -> dict[str, str]:
    """Error messages by field; asserts ``aria-invalid`` and ``aria-describedby``."""
    found = {field: unescape(text) for field, text in FAULT.findall(page)}
    for field in found.keys() - {"scopes", "models"}:
        (tag,) = re.findall(rf'<input [^>]*id="{field}"[^>]*>', page)
        assert 'aria-invalid="true"' in tag
        assert re.search(rf'aria-describedby="[^"]*{field}-fault', tag)
    return found


async def test_created_key_is_shown_once_works_and_is_revoked(
    stored_account: StoredAccount, owner: SignedInBrowser
) -> None:
    made = await owner.send(
        "/dashboard/keys",
        name="laptop",
        scopes=["inference", "read"],
        models=["corral/demo"],
        expires="2099-01-31",
        spend_limit="2.50",
        privacy="yes",
    )
    assert (made.status_code, made.text) == (303, "")
    address = made.headers["location"]
    (secret,) = SECRET_SHOWN.findall((await owner.get(address)).text)
    caller = await stored_account.services.keys.authenticate(secret)
    assert caller is not None
    assert address == f"/dashboard/keys?made={caller.key_id}"
    again = (await owner.get(address)).text
    assert secret not in again
    assert "was shown once and cannot be shown again" in again
    key = next(
        key for key in await stored_account.services.keys.list(stored_account.account.id) if key.id == caller.key_id
    )
    assert (key.name, key.scopes, key.models) == ("laptop", {Scope.INFERENCE, Scope.READ}, ("corral/demo",))
    assert (key.expires_at_ms, key.spend_limit_nusd, key.privacy) == (4_073_500_800_000, 2_500_000_000, True)
    listed = (await owner.get("/dashboard/keys")).text
    assert secret not in listed
    assert key.id in listed
    assert "Revoke “laptop”?" in (await owner.get(f"/dashboard/keys/{key.id}/revoke")).text
    answer = await owner.send(f"/dashboard/keys/{key.id}/revoke")
    assert (answer.status_code, answer.headers["location"]) == (303, "/dashboard/keys")
    assert await stored_account.services.keys.authenticate(secret) is None
    assert f"/dashboard/keys/{key.id}/revoke" not in (await owner.get("/dashboard/keys")).text


async def test_revoking_the_session_key_signs_out(stored_account: StoredAccount) -> None:
    browser = await stored_account.browser()
    page = (await browser.get(f"/dashboard/keys/{browser.key_id}/revoke")).text
    assert "You are signed in with this key" in page
    await browser.send(f"/dashboard/keys/{browser.key_id}/revoke")
    assert (await browser.get("/dashboard/keys")).headers["location"].startswith("/sign-in")
    await browser.http.aclose()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"name": ""}, {"name": NEEDED}),
        ({"name": "x" * 201}, {"name": "A name must have 1 to 200 printable characters."}),
        ({"scopes": []}, {"scopes": "An API key needs at least one scope."}),
        ({"scopes": ["root"]}, {"scopes": "An API key needs at least one scope."}),
        ({"models": ["no/such"]}, {"models": "There is no model 'no/such'."}),
        ({"expires": "2020-01-01"}, {"expires": "The expiry is in the past; choose a later time."}),
        (
            {"expires": "soon", "name": ""},
            {"expires": "'soon' is no day such as 2026-01-31.", "name": "This is needed."},
        ),
        ({"spend_limit": "-1"}, {"spend_limit": "'-1' is negative."}),
    ],
)
async def test_new_key_errors_are_shown_beside_the_field(
    stored_account: StoredAccount, owner: SignedInBrowser, changes: dict[str, str | list[str]], expected: dict[str, str]
) -> None:
    before = await stored_account.services.keys.list()
    fields: dict[str, str | list[str]] = {"name": "a <b> key", "scopes": ["read"], **changes}
    answer = await owner.send("/dashboard/keys", **fields)
    assert answer.status_code == 422
    assert field_errors(answer.text) == expected
    if "name" not in changes:
        assert 'value="a &lt;b&gt; key"' in answer.text
    assert await stored_account.services.keys.list() == before


async def test_admin_creates_keys_for_another_account(
    live: PageServer, stored_account: StoredAccount, owner: SignedInBrowser
) -> None:
    other_account = await StoredAccount.create(live, "Bob")
    address = f"/dashboard/keys?account={other_account.account.id}"
    assert "API keys of Bob" in (await owner.get(address)).text
    made = await owner.send(address, name="bob's", scopes=["read"])
    (secret,) = SECRET_SHOWN.findall((await owner.get(made.headers["location"])).text)
    caller = await stored_account.services.keys.authenticate(secret)
    assert caller is not None
    assert made.headers["location"] == f"{address}&made={caller.key_id}"
    assert caller.account_id == other_account.account.id
    answer = await owner.send(f"/dashboard/keys/{caller.key_id}/revoke")
    assert answer.headers["location"] == address


async def test_webhook_secret_is_shown_on_demand_and_rotated_after_confirmation(
    stored_account: StoredAccount, owner: SignedInBrowser
) -> None:
    first = await stored_account.server.webhooks.secret(stored_account.account.id)
    assert first not in (await owner.get("/dashboard/webhooks")).text
    asked = await owner.send("/dashboard/webhooks/secret")
    assert (asked.status_code, asked.headers["location"]) == (303, "/dashboard/webhooks")
    assert SECRET_SHOWN.findall((await owner.get("/dashboard/webhooks")).text) == [first]
    assert first not in (await owner.get("/dashboard/webhooks")).text
    unsure = await owner.send("/dashboard/webhooks/rotate")
    assert unsure.status_code == 422
    assert "Tick the box first" in field_errors(unsure.text)["sure"]
    assert await stored_account.server.webhooks.secret(stored_account.account.id) == first
    rotation = await owner.send("/dashboard/webhooks/rotate", sure="yes")
    assert (rotation.status_code, rotation.headers["location"]) == (303, "/dashboard/webhooks?done=rotated")
    rotated = (await owner.get(rotation.headers["location"])).text
    second = await stored_account.server.webhooks.secret(stored_account.account.id)
    assert second != first
    assert SECRET_SHOWN.findall(rotated) == [second]
    assert "also signs webhooks for 24 hours" in rotated
    reloaded = (await owner.get(rotation.headers["location"])).text
    assert second not in reloaded
    assert "The secret was rotated." in reloaded
    assert await stored_account.server.webhooks.secret(stored_account.account.id) == second


async def test_new_secret_is_shown_only_to_its_session_and_not_to_head(
    stored_account: StoredAccount, owner: SignedInBrowser
) -> None:
    other = await stored_account.browser()
    address = (await owner.send("/dashboard/keys", name="for one", scopes=["read"])).headers["location"]
    assert SECRET_SHOWN.findall((await other.get(address)).text) == []
    assert (await owner.http.head(address)).status_code == 200
    assert len(SECRET_SHOWN.findall((await owner.get(address)).text)) == 1
    await owner.send("/dashboard/webhooks/secret")
    assert SECRET_SHOWN.findall((await other.get("/dashboard/webhooks")).text) == []
    assert len(SECRET_SHOWN.findall((await owner.get("/dashboard/webhooks")).text)) == 1
    await other.http.aclose()


async def test_key_of_another_account_is_not_shown(live: PageServer, owner: SignedInBrowser) -> None:
    other_account = await StoredAccount.create(live, "Zoe")
    key_id, _ = await other_account.key(name="zoe's own")
    page = (await owner.get(f"/dashboard/keys?made={key_id}")).text
    assert "zoe" not in page
    assert "was created" not in page


async def test_account_is_created_credited_and_limited(stored_account: StoredAccount, owner: SignedInBrowser) -> None:
    made = await owner.send("/dashboard/accounts", name="Carol", credit="5", concurrent_runs="2")
    address = made.headers["location"].partition("?")[0]
    account_id = address.rpartition("/")[2]
    assert "The account was made." in (await owner.get(made.headers["location"])).text
    given = await owner.send(f"{address}/credit", amount="-1.5", note="Too much.")
    assert given.headers["location"] == f"{address}?done=credit"
    await owner.send(f"{address}/limits", spend_per_day="0.5", requests_per_minute="60")
    account = await stored_account.services.accounts.get(account_id)
    assert account.available_nusd == 3_500_000_000
    assert account.limits == Limits(spend_per_day_nusd=NUSD_PER_USD // 2, requests_per_minute=60)
    page = (await owner.get(address)).text
    assert "$3.5" in page
    assert 'id="spend_per_day" name="spend_per_day" type="text" value="0.5"' in page


@pytest.mark.parametrize(
    ("form", "fields", "expected"),
    [
        ("", {"name": "Ann"}, {"name": "An account named 'Ann' already exists."}),
        ("", {"name": "", "credit": "x"}, {"name": "This is needed.", "credit": "'x' is not an amount in dollars"}),
        ("", {"name": "Dan", "tokens_per_minute": "0"}, {"tokens_per_minute": "'0' is no whole number"}),
        ("/{id}/credit", {"amount": ""}, {"amount": "This is needed."}),
        ("/{id}/credit", {"amount": "0"}, {"amount": "$0 cannot be credited: it is 0 or too large."}),
        ("/{id}/credit", {"amount": "-100"}, {"amount": "$100 cannot be withdrawn"}),
        ("/{id}/limits", {"spend_per_month": "all"}, {"spend_per_month": "'all' is not an amount"}),
    ],
)
async def test_account_errors_are_shown_beside_the_field(
    stored_account: StoredAccount,
    owner: SignedInBrowser,
    form: str,
    fields: dict[str, str | list[str]],
    expected: dict[str, str],
) -> None:
    before = await stored_account.services.accounts.list()
    answer = await owner.send("/dashboard/accounts" + form.format(id=stored_account.account.id), **fields)
    assert answer.status_code == 422
    told = field_errors(answer.text)
    assert told.keys() == expected.keys()
    assert all(told[field].startswith(text) for field, text in expected.items())
    assert await stored_account.services.accounts.list() == before


async def test_credit_form_that_is_sent_twice_gives_credit_once(live: PageServer, owner: SignedInBrowser) -> None:
    account = (await StoredAccount.create(live, "Kim", credit_nusd=0)).account
    address = f"/dashboard/accounts/{account.id}"
    for total in (5, 10):
        (once,) = ONCE.findall((await owner.get(address)).text)
        both = await asyncio.gather(
            *(owner.send(f"{address}/credit", amount="5", note="double click", once=once) for _ in range(2))
        )
        assert {answer.headers["location"] for answer in both} == {f"{address}?done=credit"}
        stored = await live.server.account_services.accounts.get(account.id)
        assert stored.available_nusd == total * NUSD_PER_USD


async def test_credit_form_that_is_sent_again_with_another_amount_is_refused(
    live: PageServer, owner: SignedInBrowser
) -> None:
    account = (await StoredAccount.create(live, "Lou", credit_nusd=0)).account
    address = f"/dashboard/accounts/{account.id}"
    (once,) = ONCE.findall((await owner.get(address)).text)
    await owner.send(f"{address}/credit", amount="5", once=once)
    changed = await owner.send(f"{address}/credit", amount="6", once=once)
    assert changed.status_code == 422
    assert field_errors(changed.text)["amount"].startswith("This form was sent before with other values")
    (fresh,) = ONCE.findall(changed.text)
    assert (await owner.send(f"{address}/credit", amount="6", once=fresh)).status_code == 303
    stored = await live.server.account_services.accounts.get(account.id)
    assert stored.available_nusd == 11 * NUSD_PER_USD


@pytest.mark.parametrize("once", ["", "x" * 32, "0" * 31])
async def test_credit_form_without_a_valid_idempotency_key_gives_no_credit(
    stored_account: StoredAccount, owner: SignedInBrowser, once: str
) -> None:
    before = await stored_account.services.accounts.get(stored_account.account.id)
    answer = await owner.send(f"/dashboard/accounts/{before.id}/credit", amount="5", once=once)
    assert answer.status_code == 422
    assert field_errors(answer.text)["amount"] == "The form is not complete. It was loaded again: send it once more."
    assert await stored_account.services.accounts.get(before.id) == before


async def test_dashboard_figures_match_the_receipts(live: PageServer) -> None:
    stored_account = await StoredAccount.create(live, "Eve")
    laptop, _ = await stored_account.key(name="laptop")
    server, _ = await stored_account.key(name="server")
    runs = [
        await stored_account.run(tokens=10, key_id=laptop),
        await stored_account.run(tokens=20, key_id=laptop, door="replicate"),
        await stored_account.run(tokens=30, key_id=server, model="meta/llama-2-7b-chat"),
    ]
    await stored_account.run(key_id=server, finished=False)
    total_nusd = sum((run.receipt or {})["total_nusd"] for run in runs)
    browser = await stored_account.browser()
    for by, parts in (
        ("key", {"laptop": runs[:2], "server": runs[2:]}),
        ("door", {"openai": [runs[0], runs[2]], "replicate": [runs[1]]}),
        ("model", {"meta/llama-2-70b-chat": runs[:2], "meta/llama-2-7b-chat": runs[2:]}),
    ):
        page = (await browser.get(f"/dashboard?by={by}&measure=cost&days=7")).text
        drawn = json.loads(unescape(re.findall(r'data-chart="([^"]+)"', page)[0]))
        assert drawn["measure"] == "cost"
        assert len(drawn["days"]) == 7
        for each in drawn["series"]:
            expected_nusd = sum((run.receipt or {})["total_nusd"] for run in parts[each["label"]])
            assert each["values"][-1] * NUSD_PER_USD == pytest.approx(expected_nusd)
            assert f"${usd(expected_nusd)}" in page
        assert {each["label"] for each in drawn["series"]} == parts.keys()
        assert rf"${usd(total_nusd)}" in page
    figures = (await browser.get("/dashboard/figures")).text
    assert figures.count(f"${usd(total_nusd)}") == 2  # today, this month
    assert "of your last 3 predictions" in figures
    assert figures.count(">100.0<") == 3  # to the first token, as each was stored
    await browser.http.aclose()


async def test_limits_show_their_usage(live: PageServer) -> None:
    stored_account = await StoredAccount.create(live, "Fay")
    await stored_account.services.accounts.change_limits(
        stored_account.account.id, {"spend_per_day_nusd": 1_000_000, "spend_per_month_nusd": 0, "concurrent_runs": 4}
    )
    await stored_account.services.accounts.change_limits(
        stored_account.account.id, {"spend_per_month_nusd": 10_000_000}
    )
    await stored_account.run(tokens=10)
    browser = await stored_account.browser(Scope.READ)
    page = (await browser.get("/dashboard")).text
    assert "$0.0000925 of $0.001" in page
    assert 'aria-label="Spend limit a day: 9 percent used"' in page
    assert "at most 4" in page
    await browser.http.aclose()


async def test_invalid_dashboard_query_is_reported_and_ignored(owner: SignedInBrowser) -> None:
    page = await owner.get("/dashboard?by=colour&measure=joy&days=99999999")
    assert page.status_code == 200
    assert '<option value="30" selected>' in page.text
    said = unescape(page.text)
    for text in ("“by=colour” is ignored", "“measure=joy” is ignored", "“days=99999999” is ignored"):
        assert text in said
    assert "ignored" not in (await owner.get("/dashboard?by=key&measure=tokens&days=7")).text


async def test_unknown_ids_are_404_on_every_page_and_form(
    stored_account: StoredAccount, owner: SignedInBrowser
) -> None:
    prediction = await stored_account.run()
    for path in (
        "/dashboard/keys?account=acct_nobody",
        "/dashboard/keys/key_nobody/revoke",
        "/dashboard/accounts/acct_nobody",
        "/p/nothing",
        "/p/nothing/events",
        "/p/nothing/receipt",
        "/p/nothing/deliveries",
        "/p?before=nothing",
        "/run/nothing",
    ):
        assert (await owner.get(path)).status_code == 404, path
    for path in (
        "/dashboard/keys?account=acct_nobody",
        "/dashboard/keys/key_nobody/revoke",
        "/dashboard/accounts/acct_nobody/credit",
        "/dashboard/accounts/acct_nobody/limits",
        "/p/nothing/cancel",
        "/p/nothing/deliveries/x/replay",
        f"/p/{prediction.id}/deliveries/x/replay",
        "/run/nothing/cancel",
    ):
        answer = await owner.send(path, name="x", amount="1", scopes="read")
        assert answer.status_code == 404, path
        assert "Nothing here" in answer.text
