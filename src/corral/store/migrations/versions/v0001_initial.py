"""The first schema: accounts, keys, predictions, ledger.

Does not import ``corral.store.schema``, which changes with later versions.
"""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0001_initial"
down_revision = None
branch_labels = None
depends_on = None

_JSON: Final = sa.JSON(none_as_null=True)
_RUNNING: Final = "status IN ('starting', 'processing')"
_REMOVABLE: Final = "completed_at_ms IS NOT NULL AND NOT data_removed"


def upgrade() -> None:
    """Create the tables, and the triggers that make the ledger append-only."""
    _accounts()
    _predictions()
    _predictions_indexes()
    _around_predictions()
    _books()
    for table in ("ledger_entries", "usage_records"):
        _append_only(table)


def _accounts() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("unlimited", sa.Boolean, nullable=False),
        sa.Column("spend_per_day_nusd", sa.BigInteger),
        sa.Column("spend_per_month_nusd", sa.BigInteger),
        sa.Column("requests_per_minute", sa.BigInteger),
        sa.Column("tokens_per_minute", sa.BigInteger),
        sa.Column("concurrent_runs", sa.BigInteger),
        sa.Column("available_nusd", sa.BigInteger, nullable=False),
        sa.Column("held_nusd", sa.BigInteger, nullable=False),
        sa.Column("spent_on", sa.Text, nullable=False),
        sa.Column("spent_that_day_nusd", sa.BigInteger, nullable=False),
        sa.Column("spent_that_month_nusd", sa.BigInteger, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.CheckConstraint("available_nusd >= 0 OR unlimited", name="ck_accounts_never_overdrawn"),
        sa.CheckConstraint("held_nusd >= 0", name="ck_accounts_held"),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("account_id", sa.Text, sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("scopes", _JSON, nullable=False),
        sa.Column("models", _JSON),
        sa.Column("expires_at_ms", sa.BigInteger),
        sa.Column("spend_limit_nusd", sa.BigInteger),
        sa.Column("spent_nusd", sa.BigInteger, nullable=False),
        sa.Column("privacy", sa.Boolean, nullable=False),
        sa.Column("revoked_at_ms", sa.BigInteger),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.CheckConstraint("spent_nusd >= 0", name="ck_api_keys_spent"),
    )
    op.create_index("ix_api_keys_account", "api_keys", ["account_id"])


def _predictions() -> None:
    op.create_table(
        "predictions",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("account_id", sa.Text, sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("key_id", sa.Text, sa.ForeignKey("api_keys.id"), nullable=False),
        sa.Column("door", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("background", sa.Boolean, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("input", _JSON),
        sa.Column("output", _JSON),
        sa.Column("data_removed", sa.Boolean, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("seed", sa.BigInteger),
        sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
        sa.Column("completion_tokens", sa.BigInteger, nullable=False),
        sa.Column("engine_tokens", sa.BigInteger, nullable=False),
        sa.Column("counted_tokens", sa.BigInteger, nullable=False),
        sa.Column("price_version", sa.Text, nullable=False),
        sa.Column("input_nusd", sa.BigInteger, nullable=False),
        sa.Column("output_nusd", sa.BigInteger, nullable=False),
        sa.Column("hold_nusd", sa.BigInteger, nullable=False),
        sa.Column("cost_nusd", sa.BigInteger),
        sa.Column("stopped_by", sa.Text),
        sa.Column("receipt", _JSON),
        sa.Column("started_at_ms", sa.BigInteger),
        sa.Column("completed_at_ms", sa.BigInteger),
        sa.CheckConstraint(
            "status IN ('starting', 'processing', 'succeeded', 'failed', 'canceled')", name="ck_predictions_status"
        ),
        sa.CheckConstraint(f"({_RUNNING}) = (cost_nusd IS NULL)", name="ck_predictions_billed_when_over"),
        sa.CheckConstraint(f"hold_nusd = 0 OR ({_RUNNING} AND hold_nusd > 0)", name="ck_predictions_hold"),
        sa.CheckConstraint(
            "engine_tokens >= completion_tokens AND completion_tokens >= 0", name="ck_predictions_tokens"
        ),
    )


def _predictions_indexes() -> None:
    op.create_index("ix_predictions_account", "predictions", ["account_id", "created_at_ms", "id"])
    op.create_index(
        "ix_predictions_running",
        "predictions",
        ["account_id"],
        sqlite_where=sa.text(_RUNNING),
        postgresql_where=sa.text(_RUNNING),
    )
    op.create_index(
        "ix_predictions_removable",
        "predictions",
        ["completed_at_ms"],
        sqlite_where=sa.text(_REMOVABLE),
        postgresql_where=sa.text(_REMOVABLE),
    )


def _around_predictions() -> None:
    op.create_table(
        "stream_rows",
        sa.Column("prediction_id", sa.Text, sa.ForeignKey("predictions.id"), primary_key=True),
        sa.Column("first_seq", sa.BigInteger, primary_key=True),
        sa.Column("last_seq", sa.BigInteger, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.CheckConstraint("first_seq <= last_seq", name="ck_stream_rows_range"),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("account_id", sa.Text, sa.ForeignKey("accounts.id"), primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("body_digest", sa.LargeBinary, nullable=False),
        sa.Column("prediction_id", sa.Text, sa.ForeignKey("predictions.id"), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_idempotency_keys_created", "idempotency_keys", ["created_at_ms"])
    op.create_table(
        "outbox",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("prediction_id", sa.Text, sa.ForeignKey("predictions.id")),
        sa.Column("payload", _JSON, nullable=False),
        sa.Column("due_at_ms", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.BigInteger, nullable=False),
        sa.Column("leased_until_ms", sa.BigInteger),
    )
    op.create_index("ix_outbox_due", "outbox", ["due_at_ms"])


def _books() -> None:
    op.create_table(
        "ledger_entries",
        sa.Column("transfer_id", sa.Text, primary_key=True),
        sa.Column("book", sa.Text, primary_key=True),
        sa.Column("amount_nusd", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("prediction_id", sa.Text, sa.ForeignKey("predictions.id")),
        sa.Column("note", sa.Text),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "usage_records",
        sa.Column("prediction_id", sa.Text, sa.ForeignKey("predictions.id"), primary_key=True),
        sa.Column("account_id", sa.Text, sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("key_id", sa.Text, sa.ForeignKey("api_keys.id"), nullable=False),
        sa.Column("door", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("day", sa.Text, nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
        sa.Column("completion_tokens", sa.BigInteger, nullable=False),
        sa.Column("cost_nusd", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_usage_records_account", "usage_records", ["account_id", "day"])
    op.create_table(
        "engine_counters",
        sa.Column("epoch", sa.Text, primary_key=True),
        sa.Column("delivered_tokens", sa.BigInteger, nullable=False),
        sa.Column("discarded_tokens", sa.BigInteger, nullable=False),
        sa.Column("replayed_tokens", sa.BigInteger, nullable=False),
    )


def _append_only(table: str) -> None:
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{verb} BEFORE {verb} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )
        return
    op.execute(
        "CREATE OR REPLACE FUNCTION corral_append_only() RETURNS trigger LANGUAGE plpgsql AS $$ "
        "BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$"
    )
    op.execute(
        f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION corral_append_only()"
    )
