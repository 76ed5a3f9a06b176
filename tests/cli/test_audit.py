"""Verify receipts and reconcile the ledger on the command line; every altered value is named."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from corral.catalog.catalog import demo_catalog
from corral.catalog.prices import read_price_book
from corral.core.prediction import Prediction
from tests.cli.harness import CliHarness
from tests.contract.store.books import Books

PAGE = Path(__file__).parents[2] / "docs" / "billing.md"


@pytest.fixture
def settled(cli: CliHarness) -> Prediction:
    """A settled run with 100 prompt and 10 completion tokens."""
    (prediction,) = cli.settle_runs(*cli.create_account(), {"tokens": 10})
    return prediction


def verified(cli: CliHarness, document: object) -> tuple[int, str]:
    done = cli.run("verify-receipt", "-", stdin=json.dumps(document).encode())
    return done.status, done.stdout.decode()


def test_receipt_of_a_run_verifies(cli: CliHarness, settled: Prediction, tmp_path: Path) -> None:
    file = tmp_path / "receipt.json"
    file.write_text(cli.output("receipt", settled.id))
    assert json.loads(file.read_text()) == settled.receipt
    assert cli.output("verify-receipt", str(file)) == (
        "The receipt is valid: $0.0000925 for 100 prompt and 10 completion tokens "
        "at meta/llama-2-70b-chat@2024-01-01.\n"
    )


def test_a_prediction_is_verified_by_the_receipt_in_it(cli: CliHarness, settled: Prediction) -> None:
    status, said = verified(cli, {"id": settled.id, "status": "succeeded", "receipt": settled.receipt})
    assert (status, said.startswith("The receipt is valid: ")) == (0, True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"completion_tokens": 9}, ["The total is 92500 nano-dollars", "digest"]),
        ({"total_nusd": 1}, ["the counts and prices give 92500", "digest"]),
        ({"model": "another"}, ["digest"]),
        ({"stopped_by": "nobody"}, ["stopped_by is 'nobody', which is not a known reason", "digest"]),
        ({"stopped_by": ["model"]}, ["stopped_by must be text or a number"]),
        ({"prompt_tokens": -1}, ["prompt_tokens is -1"]),
        ({"prompt_tokens": 1.5}, ["prompt_tokens is 1.5"]),
        ({"total_nusd": {"x": 1}}, ["total_nusd must be text or a number"]),
        ({"format": 1}, ["digest"]),
        ({"format": 3}, ["The receipt format is 3"]),
        ({"digest": None}, ["digest"]),
    ],
)
def test_altered_receipt_fields_are_named(
    cli: CliHarness, settled: Prediction, change: dict[str, Any], said: list[str]
) -> None:
    status, problems = verified(cli, {**(settled.receipt or {}), **change})
    assert status == 1
    assert len(problems.splitlines()) == len(said)
    assert all(part in problems for part in said)


@pytest.mark.parametrize(
    ("stdin", "said"),
    [
        (b"no json", "- is not JSON"),
        (b"[]", "No receipt found"),
        (b'{"receipt": null}', "No receipt found"),
        (b" " * (4 * 2**20 + 1), "longer than"),
    ],
)
def test_document_that_is_not_a_receipt_is_rejected(cli: CliHarness, stdin: bytes, said: str) -> None:
    done = cli.run("verify-receipt", "-", stdin=stdin)
    assert (done.status, done.stdout) == (1, b"")
    assert said in done.stderr.decode()


def test_incomplete_receipt_and_missing_file_are_reported(cli: CliHarness) -> None:
    assert verified(cli, {"model": "x"})[1].startswith("The receipt lacks account_id, ")
    assert "/no/such/file cannot be read" in cli.error("verify-receipt", "/no/such/file")


def test_unfinished_prediction_has_no_receipt(cli: CliHarness) -> None:
    account, key = cli.create_account()
    running: Prediction = cli.with_store(lambda store: Books(store, account, key).claim())
    assert "is starting; it gets a receipt when it ends" in cli.error("receipt", running.id)
    assert "There is no prediction 'nobody'" in cli.error("receipt", "nobody")


def test_reconcile_of_consistent_books_prints_no_difference(cli: CliHarness, settled: Prediction) -> None:
    assert settled.cost_nusd
    assert cli.output("reconcile") == "no difference\n"
    assert cli.json("reconcile") == []


def test_every_difference_is_printed_and_makes_the_exit_status_1(cli: CliHarness, settled: Prediction) -> None:
    tamper = text("UPDATE predictions SET cost_nusd = cost_nusd + 1 WHERE id = :id")
    cli.with_store(lambda store: store.write(lambda c: c.execute(tamper, {"id": settled.id})))
    done = cli.run("reconcile")
    lines = done.stdout.decode().splitlines()
    assert done.status == 1
    assert f"Prediction {settled.id} cost: 92501 is stored, its usage record says 92500." in lines
    as_json = cli.run("reconcile", "--json")
    assert (as_json.status, json.loads(as_json.stdout)) == (1, lines)


def test_the_price_file_of_the_documentation_costs_what_the_page_says(tmp_path: Path) -> None:
    example = re.search(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert example is not None
    file = tmp_path / "prices.toml"
    file.write_text(example.group(1))
    book = read_price_book(file)
    assert book["local/my-finetune"][0].price.output_nusd == 400
    model = demo_catalog(book).get("meta/llama-2-7b-chat")
    costs = [
        model.price_at(day.timestamp()).cost_nusd(prompt_tokens=1000, completion_tokens=500)
        for day in (datetime(2026, 3, 15, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC))
    ]
    assert costs == [180_000, 140_000]
