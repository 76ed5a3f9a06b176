"""Days, ids and error messages of the store, without a database."""

import sqlite3

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from corral.core.errors import InvalidRequest, Overloaded, StorageUnavailable
from corral.store.books.days import day_of, month_of
from corral.store.databases.failures import StoreFailed, is_retryable, translate
from corral.store.ids import new_id


@pytest.mark.parametrize(
    ("at_ms", "day"),
    [
        (0, "1970-01-01"),
        (1_767_225_599_999, "2025-12-31"),
        (1_767_225_600_000, "2026-01-01"),
        (1_709_164_800_000, "2024-02-29"),
    ],
)
def test_a_day_begins_at_midnight_utc(at_ms: int, day: str) -> None:
    assert day_of(at_ms) == day
    assert month_of(day) == day[:7]


def test_names_are_16_random_characters_behind_their_kind() -> None:
    made = {new_id("key") for _ in range(100)}
    assert len(made) == 100
    assert all(name.startswith("key_") and len(name) == 20 and name.islower() for name in made)


def of_driver(cause: BaseException) -> DBAPIError:
    return DBAPIError("SELECT 'my secret'", {"prompt": "my secret"}, cause)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (of_driver(psycopg.OperationalError("connection to my secret failed")), StorageUnavailable),
        (of_driver(psycopg.errors.LockNotAvailable("my secret")), Overloaded),
        (of_driver(psycopg.errors.QueryCanceled("my secret")), StorageUnavailable),
        (of_driver(psycopg.errors.AdminShutdown("my secret")), StorageUnavailable),
        (of_driver(psycopg.errors.TooManyConnections("my secret")), StorageUnavailable),
        (of_driver(psycopg.errors.CheckViolation("my secret")), StoreFailed),
        (of_driver(psycopg.errors.UniqueViolation("my secret")), StoreFailed),
        (of_driver(ValueError("my secret")), StoreFailed),
        (PoolTimeout("my secret"), Overloaded),
    ],
)
def test_database_error_text_is_not_repeated(error: Exception, kind: type[Exception]) -> None:
    answer = translate(error)
    assert type(answer) is kind
    assert "secret" not in str(answer)


def test_error_of_a_transaction_function_is_raised_unchanged() -> None:
    for error in (InvalidRequest("no"), KeyError("x")):
        assert translate(error) is error


def test_only_deadlocks_and_serialization_failures_are_worth_another_try() -> None:
    assert is_retryable(of_driver(psycopg.errors.DeadlockDetected()))
    assert is_retryable(of_driver(psycopg.errors.SerializationFailure()))
    assert not is_retryable(of_driver(psycopg.errors.UniqueViolation()))
    assert not is_retryable(of_driver(psycopg.OperationalError("gone at COMMIT: perhaps done")))
    assert not is_retryable(of_driver(sqlite3.OperationalError("database is locked")))
    assert not is_retryable(InvalidRequest("no"))
