"""Migrations keep data of earlier versions."""

from collections.abc import Iterator

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, create_engine, text

from corral.core.errors import InvalidRequest
from corral.store.books import accounts
from corral.store.databases.migrate import migrate
from corral.store.runs import predictions

ROW = {
    "id": "p1",
    "account_id": "acct_1",
    "key_id": "key_1",
    "door": "openai",
    "model": "corral/demo",
    "version": "demo",
    "status": "succeeded",
    "background": False,
    "created_at_ms": 1,
    "output": '["Hello.", ""]',
    "data_removed": False,
    "prompt_tokens": 1,
    "completion_tokens": 2,
    "engine_tokens": 2,
    "counted_tokens": 3,
    "price_version": "free",
    "input_nusd": 0,
    "output_nusd": 0,
    "hold_nusd": 0,
    "cost_nusd": 0,
    "stopped_by": "model",
}


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """An empty database of each kind."""
    if request.param == "sqlite":
        url = f"sqlite:///{request.getfixturevalue('tmp_path')}/corral.db"
    else:
        url = request.getfixturevalue("fresh_postgres_url").replace("postgresql:", "postgresql+psycopg:")
    made = create_engine(url)
    yield made
    made.dispose()


def test_the_text_of_a_choice_becomes_a_list_of_one_chunk(engine: Engine) -> None:
    config = Config()
    config.set_main_option("script_location", "corral.store:migrations")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001_initial")
        connection.execute(
            text(
                "INSERT INTO accounts (id, name, unlimited, available_nusd, held_nusd, spent_on, spent_that_day_nusd, "
                "spent_that_month_nusd, created_at_ms) VALUES ('acct_1', 'Ann', true, 0, 0, '2026-01-01', 0, 0, 1)"
            )
        )
        connection.execute(
            text(
                "INSERT INTO api_keys (id, account_id, name, digest, scopes, spent_nusd, privacy, created_at_ms) "
                "VALUES ('key_1', 'acct_1', 'k', :digest, '[]', 0, false, 1)"
            ),
            {"digest": b"d"},
        )
        columns, values = ", ".join(ROW), ", ".join(f":{name}" for name in ROW)
        connection.execute(text(f"INSERT INTO predictions ({columns}) VALUES ({values})"), ROW)
    migrate(engine)
    with engine.begin() as connection:
        found = predictions.find(connection, "p1")
    assert found.output == [["Hello."], []]
    assert found.texts == ["Hello.", ""]
    assert (found.webhook, found.notes, found.deadline_at_ms, found.admitted_at_ms) == (None, None, None, None)


def test_migration_makes_duplicate_account_names_unique_by_id(engine: Engine) -> None:
    config = Config()
    config.set_main_option("script_location", "corral.store:migrations")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0008_identity")
        for account_id, name, created_at_ms in (("acct_2", "Ann", 2), ("acct_1", "Ann", 1), ("acct_3", "Bob", 3)):
            connection.execute(
                text(
                    "INSERT INTO accounts (id, name, unlimited, available_nusd, held_nusd, spent_on, "
                    "spent_that_day_nusd, spent_that_month_nusd, created_at_ms) "
                    "VALUES (:id, :name, true, 0, 0, '2026-01-01', 0, 0, :created_at_ms)"
                ),
                {"id": account_id, "name": name, "created_at_ms": created_at_ms},
            )
    migrate(engine)
    with engine.begin() as connection:
        named = {account.id: account.name for account in accounts.list_accounts(connection)}
        assert named == {"acct_1": "Ann", "acct_2": "Ann-acct_2", "acct_3": "Bob"}
        with pytest.raises(InvalidRequest, match="named 'Bob' already"):
            accounts.create_account(connection, name="Bob", now_ms=4)
        with pytest.raises(InvalidRequest, match="named 'acct_1' already"):
            accounts.create_account(connection, name="acct_1", now_ms=4)
