"""Numbers of any size in every field of every form: refused beside the field or taken, never an error of the server."""

from collections.abc import AsyncIterator
from html import unescape

import pytest
from httpx2 import AsyncClient

from corral.api.doors.replicate.input_table import INPUTS
from corral.web.models.form import read_inputs
from tests.web.conftest import PageServer
from tests.web.people import Person, SignedIn
from tests.web.test_managing_pages import faults

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
async def ann(live: PageServer) -> Person:
    return await Person.make(live, "Ann")


@pytest.fixture(scope="module")
async def owner(ann: Person) -> AsyncIterator[SignedIn]:
    browser = await ann.browser()
    yield browser
    await browser.http.aclose()


async def lists_still_work(owner: SignedIn, ann: Person) -> None:
    for path in ("/p", "/dashboard", "/dashboard/keys", "/dashboard/accounts", f"/dashboard/accounts/{ann.account.id}"):
        assert (await owner.see(path)).status_code == 200, path


@pytest.mark.parametrize("field", [*INTEGERS, *NUMBERS])
async def test_a_number_that_cannot_be_taken_is_refused_beside_its_field_in_the_playground(
    ann: Person, owner: SignedIn, field: str
) -> None:
    for value in (*HUGE, *NO_NUMBERS):
        by_script = await by_page_script(owner, prompt="Hello!", **{field: value})
        assert by_script["faults"].keys() == {field}, value
    for value in ("99999999999999999999", "9" * 5000, "-1e400", "1,5"):
        page = await owner.send(f"{MODEL}/run", prompt="Hello!", **{field: value})
        assert page.status_code == 422, value
        told = page.text.partition(f'id="fault-{field}"')[2].partition("</p>")[0]
        assert "hidden" not in told, value
        assert "Must be" in told or "Invalid type" in told, value
        # What was typed is still there, to be mended.
        (control,) = [tag for tag in page.text.split("<input ") if f'id="in-{field}"' in tag]
        assert f'value="{value}"' in unescape(control), value
        assert 'aria-invalid="true"' in control
    await lists_still_work(owner, ann)


async def by_page_script(owner: SignedIn, **fields: str) -> dict[str, dict[str, str]]:
    """Send the form as the page's script does."""
    owner.http.headers["accept"] = "application/json"
    try:
        answer = await owner.send(f"{MODEL}/run", **fields)
    finally:
        owner.http.headers["accept"] = "*/*"
    assert answer.status_code == 422
    return answer.json()


async def test_a_seed_of_thirty_digits_is_refused_for_its_size_not_for_its_type(owner: SignedIn) -> None:
    told = await by_page_script(owner, prompt="Hello!", seed="9" * 30)
    assert told["faults"] == {"seed": "Must be less than or equal to 18446744073709551616"}
    told = await by_page_script(owner, prompt="Hello!", max_tokens="99999999999999999999")
    assert told["faults"] == {"max_tokens": "Must be less than or equal to 9223372036854775807"}


async def test_the_code_page_refuses_the_same_numbers(stranger: AsyncClient) -> None:
    for field in (*INTEGERS, *NUMBERS):
        for value in ("9" * 5000, "1e400", *SMALL):
            page = await stranger.post(f"{MODEL}/api", data={"prompt": "x", field: value})
            assert page.status_code == 200, (field, value)


@pytest.mark.parametrize("value", AMOUNTS)
async def test_an_amount_or_a_limit_that_cannot_be_stored_is_refused_beside_its_field(
    ann: Person, owner: SignedIn, value: str
) -> None:
    before = await ann.made.accounts.accounts(), await ann.made.accounts.keys()
    account = f"/dashboard/accounts/{ann.account.id}"
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
            continue  # a limit that can be kept
        answer = await owner.send(path, **others, **{field: value})
        assert answer.status_code == 422, (path, field)
        assert faults(answer.text).keys() == {field}, (path, field)
    assert (await ann.made.accounts.accounts(), await ann.made.accounts.keys()) == before
    await lists_still_work(owner, ann)


async def test_credit_that_adds_up_to_more_than_the_ledger_holds_is_refused(live: PageServer, owner: SignedIn) -> None:
    rich = await Person.make(live, "Rich")
    address = f"/dashboard/accounts/{rich.account.id}"
    statuses = [(await owner.send(f"{address}/credit", amount="1000000000")).status_code for _ in range(6)]
    assert statuses == [303, 303, 303, 303, 422, 422]
    assert (await owner.see(address)).status_code == 200


async def test_text_that_a_database_cannot_store_is_refused_beside_its_field(ann: Person, owner: SignedIn) -> None:
    account = f"/dashboard/accounts/{ann.account.id}"
    for path, field, others in (
        ("/dashboard/accounts", "name", {}),
        ("/dashboard/keys", "name", {"scopes": "read"}),
        (f"{account}/credit", "note", {"amount": "1"}),
    ):
        answer = await owner.send(path, **others, **{field: "a\x00b"})
        assert answer.status_code == 422, path
        assert faults(answer.text).keys() == {field}, path


async def test_no_number_in_an_address_breaks_a_page(owner: SignedIn) -> None:
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
            answer = await owner.see(path)
            assert answer.status_code in (200, 404), path
            if value == "%00":
                # Before any database is asked: PostgreSQL refuses the character.
                assert (answer.status_code, "There is no page at" in answer.text) == (404, True), path


async def test_what_is_whole_is_an_integer_however_it_is_written(live: PageServer) -> None:
    fields = INPUTS.for_model(live.made.catalog.get(MODEL[1:]))
    for text, value in (("+5", 5), ("007", 7), (" 8 ", 8), ("9.0", 9.0), ("1e2", 100.0), ("0" * 5000 + "3", 3)):
        assert read_inputs({"max_tokens": [text]}, fields) == {"max_tokens": value}
