"""Parsing of submitted forms."""

import pytest

from corral.core.errors import InvalidRequest
from corral.web.dashboard.form_values import FormValues


def typed(value: str) -> FormValues:
    return FormValues({"field": [value]})


@pytest.mark.parametrize(
    ("value", "expected"),
    [("1.5", 1_500_000_000), (" $2 ", 2_000_000_000), ("0.000000001", 1), ("", None), ("0", 0)],
)
def test_dollars_are_read_exactly(value: str, expected: int | None) -> None:
    form = typed(value)
    assert (form.usd("field"), form.errors) == (expected, {})


@pytest.mark.parametrize("value", ["-1", "1e3", "1,50", "0.0000000001", "99999999999", "five", "\u0661"])
def test_invalid_amount_is_reported_beside_its_field(value: str) -> None:
    form = typed(value)
    assert form.usd("field") is None
    assert f"'{value}'" in form.errors["field"]


def test_credit_may_be_taken_back() -> None:
    assert typed("-1").usd("field", signed=True) == -(10**9)


@pytest.mark.parametrize(("value", "expected"), [("60", 60), ("", None), ("999999999999999", 10**15 - 1)])
def test_counts_are_whole_numbers(value: str, expected: int | None) -> None:
    form = typed(value)
    assert (form.count("field"), form.errors) == (expected, {})


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "9999999999999999", "many"])
def test_invalid_count_is_reported(value: str) -> None:
    form = typed(value)
    assert form.count("field") is None
    assert "whole number" in form.errors["field"]


def test_date_is_read_as_midnight_utc() -> None:
    assert typed("2026-01-01").day_ms("field") == 1_767_225_600_000
    assert typed("").day_ms("field") is None


@pytest.mark.parametrize("value", ["2026-02-30", "20260101", "tomorrow", "2026-01-01T00:00"])
def test_invalid_date_is_reported(value: str) -> None:
    form = typed(value)
    assert form.day_ms("field") is None
    assert f"'{value}'" in form.errors["field"]


def test_missing_and_repeated_fields_and_long_ones() -> None:
    form = FormValues({"scopes": ["read", "admin"], "name": ["x" * 1001]})
    assert form.many("scopes") == ("read", "admin")
    assert (form.many("models"), form.ticked("privacy"), form.ticked("scopes")) == ((), False, True)
    assert form.text("name") == ""
    assert "1000 characters" in form.errors["name"]


def test_missing_required_field_is_reported() -> None:
    form = typed("  ")
    assert (form.text("field", needed=True), form.status) == ("", 422)
    assert form.errors == {"field": "This is needed."}


def test_a_refusal_of_the_service_stands_beside_the_field_that_it_means() -> None:
    form = typed("x")
    fields = {"spend_limit_nusd": "spend_limit"}
    form.refuse(InvalidRequest("Too little.", param="spend_limit_nusd"), fields=fields, otherwise="name")
    form.refuse(InvalidRequest("No."), fields=fields, otherwise="name")
    assert form.errors == {"spend_limit": "Too little.", "name": "No."}
