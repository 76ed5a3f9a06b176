"""Numbers of any size in every form field: accepted, or rejected beside the field. Never a 5xx."""

from collections.abc import AsyncIterator
from html import unescape

import pytest
from httpx2 import AsyncClient

from corral.api.doors.replicate.input_table import INPUTS
from corral.web.models.form import read_inputs
from tests.web.account_fixtures import SignedInBrowser, StoredAccount
from tests.web.conftest import PageServer
from tests.web.test_managing_pages import field_errors

pytestmark = pytest.mark.anyio

MODEL = "/meta/llama-2-70b-chat"
HUGE = (
    "99999999999999999999",
    "-99999999999999999999",
    str(2**64 + 1),
    "9" * 30,
    "9" * 5000,
    "-" + "9" * 5000,
    "1e400",
    "-1e400",
    "1e99999999999",
    "9" * 350 + ".5",
)
INTEGERS = ("max_tokens", "min_tokens", "top_k", "seed", "max_new_tokens", "min_new_tokens")
NUMBERS = ("temperature", "top_p", "length_penalty", "presence_penalty")
NO_NUMBERS = ("abc", "0x10", "1_000", "nan", "inf", "1,5", "\u0663", "--1", "1 2", "\x00", "1e", ".")
SMALL = ("1e-300", "1e-99999", "-1e-300")
AMOUNTS = ("99999999999999999999", "9" * 999, "1e400", "nan", "\u0663", "1000000001", "0.0000000001", "-0.5e1")


@pytest.fixture(scope="module")
async def stored_account(live: PageServer) -> StoredAccount:
    return await StoredAccount.create(live, "Ann")


@pytest.fixture(scope="module")
async def owner(stored_account: StoredAccount) -> AsyncIterator[SignedInBrowser]:
    browser = await stored_account.browser()
    yield browser
    await browser.http.aclose()


async def assert_list_pages_work(owner: SignedInBrowser, stored_account: StoredAccount) -> None:
    for path in (
        "/p",
        "/dashboard",
        "/dashboard/keys",
        "/dashboard/accounts",
        f"/dashboard/accounts/{stored_account.account.id}",
    ):
        assert (await owner.get(path)).status_code == 200, path


@pytest.mark.parametrize("field", [*INTEGERS, *NUMBERS])
async def test_playground_shows_number_errors_beside_the_field(
    stored_account: StoredAccount, owner: SignedInBrowser, field: str
) -> None:
    for value in (*HUGE, *NO_NUMBERS):
        by_script = await submit_as_page_script(owner, prompt="Hello!", **{field: value})
        assert by_script["faults"].keys() == {field}, value
    for value in ("99999999999999999999", "9" * 5000, "-1e400", "1,5"):
        page = await owner.send(f"{MODEL}/run", prompt="Hello!", **{field: value})
        assert page.status_code == 422, value
        told = page.text.partition(f'id="fault-{field}"')[2].partition("</p>")[0]
        assert "hidden" not in told, value
        assert "Must be" in told or "Invalid type" in told, value
        # The form keeps the typed value.
        (control,) = [tag for tag in page.text.split("<input ") if f'id="in-{field}"' in tag]
        assert f'value="{value}"' in unescape(control), value
        assert 'aria-invalid="true"' in control
    await assert_list_pages_work(owner, stored_account)


async def submit_as_page_script(owner: SignedInBrowser, **fields: str) -> dict[str, dict[str, str]]:
    """Submit the form as the page's script does."""
    owner.http.headers["accept"] = "application/json"
    try:
        answer = await owner.send(f"{MODEL}/run", **fields)
    finally:
        owner.http.headers["accept"] = "*/*"
    assert answer.status_code == 422
    return answer.json()


async def test_oversized_seed_error_names_its_range(owner: SignedInBrowser) -> None:
    told = await submit_as_page_script(owner, prompt="Hello!", seed="9" * 30)
    assert told["faults"] == {"seed": "Must be less than or equal to 18446744073709551616"}
    told = await submit_as_page_script(owner, prompt="Hello!", max_tokens="99999999999999999999")
    assert told["faults"] == {"max_tokens": "Must be less than or equal to 9223372036854775807"}


async def test_code_page_rejects_the_same_numbers(anonymous_client: AsyncClient) -> None:
    for field in (*INTEGERS, *NUMBERS):
        for value in ("9" * 5000, "1e400", *SMALL):
            page = await anonymous_client.post(f"{MODEL}/api", data={"prompt": "x", field: value})
            assert page.status_code == 200, (field, value)


@pytest.mark.parametrize("value", AMOUNTS)
async def test_unstorable_amounts_and_limits_show_errors_beside_the_field(
    stored_account: StoredAccount, owner: SignedInBrowser, value: str
) -> None:
    before = await stored_account.services.accounts.list(), await stored_account.services.keys.list()
    account = f"/dashboard/accounts/{stored_account.account.id}"
    new = {"name": "New"}
    for path, field, others in (
        ("/dashboard/accounts", "credit", new),
        ("/dashboard/accounts", "spend_per_day", new),
        ("/dashboard/accounts", "tokens_per_minute", new),
        (f"{account}/credit", "amount", {}),
        (f"{account}/limits", "spend_per_day", {}),
        (f"{account}/limits", "spend_per_month", {}),
        (f"{account}/limits", "requests_per_minute", {}),
        (f"{account}/limits", "tokens_per_minute", {}),
        (f"{account}/limits", "concurrent_runs", {}),
        ("/dashboard/keys", "spend_limit", {"name": "k", "scopes": "read"}),
        ("/dashboard/keys", "expires", {"name": "k", "scopes": "read"}),
    ):
        if value == "1000000001" and field in ("requests_per_minute", "tokens_per_minute", "concurrent_runs"):
            continue  # a valid limit
        answer = await owner.send(path, **others, **{field: value})
        assert answer.status_code == 422, (path, field)
        assert field_errors(answer.text).keys() == {field}, (path, field)
    assert (await stored_account.services.accounts.list(), await stored_account.services.keys.list()) == before
    await assert_list_pages_work(owner, stored_account)


async def test_credit_beyond_the_ledger_maximum_is_rejected(live: PageServer, owner: SignedInBrowser) -> None:
    rich_account = await StoredAccount.create(live, "Rich")
    address = f"/dashboard/accounts/{rich_account.account.id}"
    statuses = [(await owner.send(f"{address}/credit", amount="1000000000")).status_code for _ in range(6)]
    assert statuses == [303, 303, 303, 303, 422, 422]
    assert (await owner.get(address)).status_code == 200


async def test_unstorable_text_shows_an_error_beside_the_field(
    stored_account: StoredAccount, owner: SignedInBrowser
) -> None:
    account = f"/dashboard/accounts/{stored_account.account.id}"
    for path, field, others in (
        ("/dashboard/accounts", "name", {}),
        ("/dashboard/keys", "name", {"scopes": "read"}),
        (f"{account}/credit", "note", {"amount": "1"}),
    ):
        answer = await owner.send(path, **others, **{field: "a\x00b"})
        assert answer.status_code == 422, path
        assert field_errors(answer.text).keys() == {field}, path


async def test_numbers_in_query_strings_never_cause_a_5xx(owner: SignedInBrowser) -> None:
    for value in ("99999999999999999999", "-1", "1e400", "%00", "\u0663"):
        for path in (
            f"/p?before={value}",
            f"/p/{value}",
            f"/run/{value}",
            f"/dashboard?days={value}",
            f"/dashboard/keys?account={value}",
            f"/dashboard/keys?made={value}",
            f"/dashboard/keys/{value}/revoke",
            f"/dashboard/accounts/{value}",
            f"/dashboard/accounts/{value}?done={value}",
            f"{MODEL}?prediction={value}",
            f"{MODEL}?example={value}",
        ):
            answer = await owner.get(path)
            assert answer.status_code in (200, 404), path
            if value == "%00":
                # Rejected before any query: PostgreSQL cannot store NUL.
                assert (answer.status_code, "There is no page at" in answer.text) == (404, True), path


async def test_whole_numbers_are_integers_in_any_notation(live: PageServer) -> None:
    fields = INPUTS.for_model(live.server.catalog.get(MODEL[1:]))
    for text, value in (("+5", 5), ("007", 7), (" 8 ", 8), ("9.0", 9.0), ("1e2", 100.0), ("0" * 5000 + "3", 3)):
        assert read_inputs({"max_tokens": [text]}, fields) == {"max_tokens": value}
