"""Accounts on the command line: money exact, limits changed one by one, bad amounts refused before anything is done."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.cli.terminal.amounts import signed_usd
from corral.core.accounts import Limits
from corral.core.pricing import usd
from corral.store.books import accounts
from tests.cli.harness import CliHarness


def test_account_create_stores_credit_and_limits(cli: CliHarness) -> None:
    cli.output(
        "account", "create", "ann", "--credit", "5.000000001", "--limit-day", "1.5", "--limit-month", "20",
        "--requests-per-minute", "60", "--tokens-per-minute", "10000", "--concurrent-runs", "4",
    )  # fmt: skip
    (ann,) = cli.with_store(lambda store: store.read(accounts.list_accounts))
    assert (ann.name, ann.unlimited, ann.available_nusd, ann.held_nusd) == ("ann", False, 5_000_000_001, 0)
    assert ann.limits == Limits(
        spend_per_day_nusd=1_500_000_000,
        spend_per_month_nusd=20_000_000_000,
        requests_per_minute=60,
        tokens_per_minute=10000,
        concurrent_runs=4,
    )


def test_lists_in_a_pipe_are_separated_by_tabs(cli: CliHarness) -> None:
    cli.output("account", "create", "ann", "--credit", "0.1")
    cli.output("account", "create", "bob [bold]", "--unlimited")
    header, ann, bob = (line.split("\t") for line in cli.output("account", "list").splitlines())
    assert header == ["id", "name", "credit", "held", "unlimited"]
    assert ann[1:] == ["ann", "0.1", "0", ""]
    assert bob[1:] == ["bob [bold]", "0", "0", "yes"]
    assert [account["name"] for account in cli.json("account", "list")] == ["ann", "bob [bold]"]


def test_credit_adds_up_exactly_and_can_be_taken_back(cli: CliHarness) -> None:
    cli.output("account", "create", "ann", "--credit", "0.1")
    cli.output("account", "credit", "ann", "0.2")
    assert cli.json("account", "show", "ann")["available_usd"] == "0.3"
    assert "$0.05" in cli.output("account", "credit", "ann", "-0.25", "--note", "refund")
    assert "has $0.05 of credit left" in cli.error("account", "credit", "ann", "-0.06")
    assert cli.output("reconcile") == "no difference\n"


@given(st.integers(min_value=-(10**18), max_value=10**18))
def test_printed_amounts_can_be_read_back(nusd: int) -> None:
    assert signed_usd(usd(nusd)) == nusd


def test_an_account_is_shown_with_what_it_spent(cli: CliHarness) -> None:
    account, key = cli.create_account()
    cli.settle_runs(account, key, {"tokens": 10})
    shown = cli.json("account", "show", "Ann")
    assert shown["available_usd"] == "0.9999075"  # a dollar less 100 x 650 and 10 x 2750 nano-dollars
    assert shown["spent"].keys() == {"today_usd", "this_month_usd"}
    lines = cli.output("account", "show", account.id).splitlines()
    assert ["credit", "$0.9999075"] in [line.split() for line in lines]
    assert ["limits", "no", "limits"] in [line.split() for line in lines]


def test_account_limit_changes_only_the_given_limits(cli: CliHarness) -> None:
    cli.output("account", "create", "ann", "--limit-day", "1", "--concurrent-runs", "2")
    said = cli.output("account", "limits", "ann", "--limit-month", "20", "--concurrent-runs", "none")
    assert said.endswith("ann: $1 per day, $20 per month\n")
    limits = cli.json("account", "show", "ann")["limits"]
    assert (limits["spend_per_day_usd"], limits["spend_per_month_usd"]) == ("1", "20")
    assert limits["concurrent_runs"] is None


@pytest.mark.parametrize(
    "amount",
    [
        "1e3",
        "nan",
        "inf",
        "1.0000000001",
        "",
        "1,5",
        "\N{ARABIC-INDIC DIGIT ONE}",
        "--1",
    ],
)
def test_invalid_amount_is_a_usage_error(cli: CliHarness, amount: str) -> None:
    cli.output("account", "create", "ann")
    assert "not an amount in dollars" in cli.error("account", "credit", "ann", amount, status=2)
    assert cli.json("account", "show", "ann")["available_usd"] == "0"


@pytest.mark.parametrize("amount", ["1000000000.1", "99999999999"])
def test_an_amount_beyond_a_thousand_million_dollars_is_a_usage_error(cli: CliHarness, amount: str) -> None:
    cli.output("account", "create", "ann")
    said = " ".join(cli.error("account", "credit", "ann", amount, status=2).split())
    assert f"'{amount}' is more than the maximum of 1,000,000,000 dollars" in said
    assert cli.json("account", "show", "ann")["available_usd"] == "0"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--credit", "-1"),
        ("--limit-day", "-0.1"),
        ("--limit-month", "much"),
        ("--requests-per-minute", "0"),
        ("--tokens-per-minute", "1.5"),
        ("--concurrent-runs", "-1"),
    ],
)
def test_invalid_option_creates_no_account(cli: CliHarness, option: str, value: str) -> None:
    assert option in cli.error("account", "create", "ann", option, value, status=2)
    assert json.loads(cli.output("account", "list", "--json")) == []


def test_account_name_is_unique_and_cannot_be_another_id(cli: CliHarness) -> None:
    cli.output("account", "create", "ann")
    assert "named 'ann' already" in cli.error("account", "create", "ann")
    account_id = cli.json("account", "show", "ann")["id"]
    assert "already" in cli.error("account", "create", account_id)


def test_unknown_account_error_names_it(cli: CliHarness) -> None:
    for command in (["show", "bob"], ["credit", "bob", "1"], ["limits", "bob", "--limit-day", "1"]):
        said = cli.error("account", *command)
        assert said == "corral: No account is called 'bob'; `corral account list` shows them. "
