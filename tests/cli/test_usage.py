"""Usage on the command line: exact sums by column, day and account."""

from typing import Any

import pytest
from rich.console import Console

from corral.cli.terminal import tables
from tests.cli.harness import CliHarness
from tests.contract.store.books import DAY, NOON

RUNS: tuple[dict[str, Any], ...] = (
    {"tokens": 10},
    {"tokens": 20, "door": "replicate"},
    {"tokens": 30, "model": "corral/demo", "at_ms": NOON + DAY},
    {"tokens": 40, "at_ms": NOON + 2 * DAY},
)
"""Each 100 tokens in at 650 nano-dollars, and its tokens out at 2750."""


def test_usage_in_a_pipe_is_one_line_for_each_day_model_key_and_door(cli: CliHarness) -> None:
    account, key = cli.create_account()
    cli.settle_runs(account, key, *RUNS)
    header, *rows = (line.split("\t") for line in cli.output("usage").splitlines())
    llama = "meta/llama-2-70b-chat"
    assert header == ["day", "model", "key", "door", "predictions", "prompt", "completion", "cost_usd"]
    assert rows == [
        ["2026-01-01", llama, key.id, "openai", "1", "100", "10", "0.0000925"],
        ["2026-01-01", llama, key.id, "replicate", "1", "100", "20", "0.00012"],
        ["2026-01-02", "corral/demo", key.id, "openai", "1", "100", "30", "0.0001475"],
        ["2026-01-03", llama, key.id, "openai", "1", "100", "40", "0.000175"],
    ]


def test_usage_is_grouped_by_the_chosen_columns(cli: CliHarness) -> None:
    account, key = cli.create_account()
    cli.settle_runs(account, key, *RUNS)
    assert cli.json("usage", "--by", "account,door") == [
        {"account_id": account.id, "door": "openai", "predictions": 3, "prompt_tokens": 300, "completion_tokens": 80,
         "cost_usd": "0.000415"},
        {"account_id": account.id, "door": "replicate", "predictions": 1, "prompt_tokens": 100, "completion_tokens": 20,
         "cost_usd": "0.00012"},
    ]  # fmt: skip
    assert [row["model"] for row in cli.json("usage", "--by", "model")] == ["corral/demo", "meta/llama-2-70b-chat"]


def test_usage_is_limited_to_the_chosen_days_and_account(cli: CliHarness) -> None:
    account, key = cli.create_account()
    cli.settle_runs(account, key, *RUNS)
    cli.output("account", "create", "bob")
    assert cli.json("usage", "--account", "bob") == []
    since = ["usage", "--account", "Ann", "--by", "day", "--since", "2026-01-02"]
    assert [row["day"] for row in cli.json(*since)] == ["2026-01-02", "2026-01-03"]
    assert [row["day"] for row in cli.json(*since, "--until", "2026-01-02")] == ["2026-01-02"]


def test_usage_on_a_terminal_has_a_total(cli: CliHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    account, key = cli.create_account()
    cli.settle_runs(account, key, *RUNS)

    def terminal(**options: Any) -> Console:
        return Console(force_terminal=True, width=120, color_system=None, **options)

    monkeypatch.setattr(tables, "draws_tables", lambda: True)
    monkeypatch.setattr("rich.console.Console", terminal)
    total = cli.output("usage", "--by", "day,door").splitlines()[-1]
    assert total.split() == ["total", "4", "400", "100", "0.000535"]


@pytest.mark.parametrize(
    ("option", "value"),
    [("--by", "day,colour"), ("--by", "day,day"), ("--by", ""), ("--since", "yesterday"), ("--until", "2026-13-01")],
)
def test_invalid_usage_option_is_a_usage_error(cli: CliHarness, option: str, value: str) -> None:
    assert option in cli.error("usage", option, value, status=2)
