"""The database schema as SQLAlchemy tables. A test checks that ``migrations`` produce the same schema.

Money is BIGINT nano-dollars, times are BIGINT Unix milliseconds, days are ``YYYY-MM-DD`` in UTC.
"""

from typing import Final

from sqlalchemy import (
    DDL,
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    Table,
    Text,
    event,
    text,
)

metadata = MetaData()

_JSON: Final = JSON(none_as_null=True)
RUNNING: Final = "status IN ('starting', 'processing')"
"""Condition of an unfinished prediction. Indexes and queries use the same text, so that the indexes apply."""
REMOVABLE: Final = "completed_at_ms IS NOT NULL AND NOT data_removed"
"""Condition of a prediction whose text is to be purged."""
OUTBOX_PENDING: Final = "state = 'pending'"
"""Condition of a delivery that is still to be sent."""

accounts = Table(
    "accounts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("unlimited", Boolean, nullable=False),
    Column("spend_per_day_nusd", BigInteger),
    Column("spend_per_month_nusd", BigInteger),
    Column("requests_per_minute", BigInteger),
    Column("tokens_per_minute", BigInteger),
    Column("concurrent_runs", BigInteger),
    Column("available_nusd", BigInteger, nullable=False),
    Column("held_nusd", BigInteger, nullable=False),
    # Spending on the day and in the month of spent_on, for the spend limits. Stored, because summing a month of usage
    # records before each run would be too slow.
    Column("spent_on", Text, nullable=False),
    Column("spent_that_day_nusd", BigInteger, nullable=False),
    Column("spent_that_month_nusd", BigInteger, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    CheckConstraint("available_nusd >= 0 OR unlimited", name="ck_accounts_never_overdrawn"),
    CheckConstraint("held_nusd >= 0", name="ck_accounts_held"),
    Index("ix_accounts_name", "name", unique=True),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, ForeignKey("accounts.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("scopes", _JSON, nullable=False),
    Column("models", _JSON),
    Column("expires_at_ms", BigInteger),
    Column("spend_limit_nusd", BigInteger),
    Column("spent_nusd", BigInteger, nullable=False),
    Column("privacy", Boolean, nullable=False),
    Column("revoked_at_ms", BigInteger),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("salt", LargeBinary),
    CheckConstraint("spent_nusd >= 0", name="ck_api_keys_spent"),
    Index("ix_api_keys_account", "account_id"),
)

scoped_tokens = Table(
    "scoped_tokens",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("account_id", Text, ForeignKey("accounts.id"), nullable=False),
    Column("spent_nusd", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger, nullable=False),
    CheckConstraint("spent_nusd >= 0", name="ck_scoped_tokens_spent"),
    Index("ix_scoped_tokens_account", "account_id", "expires_at_ms"),
)

predictions = Table(
    "predictions",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, ForeignKey("accounts.id"), nullable=False),
    Column("key_id", Text, ForeignKey("api_keys.id"), nullable=False),
    Column("door", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("background", Boolean, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("input", _JSON),
    Column("output", _JSON),
    Column("data_removed", Boolean, nullable=False),
    Column("error", Text),
    Column("seed", BigInteger),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("engine_tokens", BigInteger, nullable=False),
    Column("counted_tokens", BigInteger, nullable=False),
    Column("price_version", Text, nullable=False),
    Column("input_nusd", BigInteger, nullable=False),
    Column("output_nusd", BigInteger, nullable=False),
    Column("hold_nusd", BigInteger, nullable=False),
    Column("cost_nusd", BigInteger),
    Column("stopped_by", Text),
    Column("receipt", _JSON),
    Column("started_at_ms", BigInteger),
    Column("completed_at_ms", BigInteger),
    Column("admitted_at_ms", BigInteger),
    Column("deadline_at_ms", BigInteger),
    Column("webhook", _JSON),
    Column("notes", _JSON),
    Column("stops", _JSON),
    Column("token_digest", LargeBinary),
    Column("weights_id", Text),
    Column("prompt_format", Text),
    Column("prompt_digest", LargeBinary),
    CheckConstraint(
        "status IN ('starting', 'processing', 'succeeded', 'failed', 'canceled')", name="ck_predictions_status"
    ),
    CheckConstraint(f"({RUNNING}) = (cost_nusd IS NULL)", name="ck_predictions_billed_when_over"),
    CheckConstraint(f"hold_nusd = 0 OR ({RUNNING} AND hold_nusd > 0)", name="ck_predictions_hold"),
    CheckConstraint("engine_tokens >= completion_tokens AND completion_tokens >= 0", name="ck_predictions_tokens"),
    Index("ix_predictions_account", "account_id", "created_at_ms", "id"),
    Index("ix_predictions_running", "account_id", sqlite_where=text(RUNNING), postgresql_where=text(RUNNING)),
    Index(
        "ix_predictions_removable", "completed_at_ms", sqlite_where=text(REMOVABLE), postgresql_where=text(REMOVABLE)
    ),
)

stream_rows = Table(
    "stream_rows",
    metadata,
    Column("prediction_id", Text, ForeignKey("predictions.id"), primary_key=True),
    Column("first_seq", BigInteger, primary_key=True),
    Column("last_seq", BigInteger, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    CheckConstraint("first_seq <= last_seq", name="ck_stream_rows_range"),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("account_id", Text, ForeignKey("accounts.id"), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("body_digest", LargeBinary, nullable=False),
    Column("prediction_id", Text, ForeignKey("predictions.id"), nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Index("ix_idempotency_keys_created", "created_at_ms"),
)

ledger_entries = Table(
    "ledger_entries",
    metadata,
    # ``hold:<prediction>``, ``settle:<prediction>`` and ``credit:<account>:<idempotency key>``: the primary key makes a
    # second of each impossible. Credits without a key have a random id.
    Column("transfer_id", Text, primary_key=True),
    Column("book", Text, primary_key=True),
    Column("amount_nusd", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("prediction_id", Text, ForeignKey("predictions.id")),
    Column("note", Text),
    Column("at_ms", BigInteger, nullable=False),
)

usage_records = Table(
    "usage_records",
    metadata,
    Column("prediction_id", Text, ForeignKey("predictions.id"), primary_key=True),
    Column("account_id", Text, ForeignKey("accounts.id"), nullable=False),
    Column("key_id", Text, ForeignKey("api_keys.id"), nullable=False),
    Column("door", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("day", Text, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("cost_nusd", BigInteger, nullable=False),
    Index("ix_usage_records_account", "account_id", "day"),
    Index("ix_usage_records_model", "model"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, ForeignKey("accounts.id"), nullable=False),
    Column("prediction_id", Text, ForeignKey("predictions.id"), nullable=False),
    Column("event", Text, nullable=False),
    # The order in which events of one prediction are sent.
    Column("position", BigInteger, nullable=False),
    Column("url", Text, nullable=False),
    Column("receiver", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", BigInteger, nullable=False),
    Column("due_at_ms", BigInteger, nullable=False),
    Column("leased_until_ms", BigInteger),
    Column("last_status", BigInteger),
    Column("last_error", Text),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("ended_at_ms", BigInteger),
    CheckConstraint("event IN ('start', 'output', 'logs', 'completed')", name="ck_outbox_event"),
    CheckConstraint("state IN ('pending', 'delivered', 'failed', 'refused')", name="ck_outbox_state"),
    CheckConstraint(f"({OUTBOX_PENDING}) = (ended_at_ms IS NULL)", name="ck_outbox_ended"),
    Index("ix_outbox_due", "due_at_ms", sqlite_where=text(OUTBOX_PENDING), postgresql_where=text(OUTBOX_PENDING)),
    Index("ix_outbox_prediction", "prediction_id", "position"),
    Index("ix_outbox_account", "account_id", "created_at_ms"),
    Index("ix_outbox_ended", "ended_at_ms"),
)

webhook_secrets = Table(
    "webhook_secrets",
    metadata,
    Column("account_id", Text, ForeignKey("accounts.id"), primary_key=True),
    Column("salt", LargeBinary, nullable=False),
    Column("previous_salt", LargeBinary),
    Column("rotated_at_ms", BigInteger),
    Column("created_at_ms", BigInteger, nullable=False),
)

files = Table(
    "files",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, ForeignKey("accounts.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("content_type", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("md5", Text, nullable=False),
    Column("metadata", _JSON, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger, nullable=False),
    # The last column, so that listing files does not read it.
    Column("content", LargeBinary, nullable=False),
    CheckConstraint("size_bytes >= 0", name="ck_files_size"),
    Index("ix_files_account", "account_id", "created_at_ms"),
    Index("ix_files_expiring", "expires_at_ms"),
)

sessions = Table(
    "sessions",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("key_id", Text, ForeignKey("api_keys.id"), nullable=False),
    Column("expires_at_ms", BigInteger, nullable=False),
    Index("ix_sessions_key", "key_id", "expires_at_ms"),
    Index("ix_sessions_expiring", "expires_at_ms"),
)

engine_counters = Table(
    "engine_counters",
    metadata,
    Column("epoch", Text, primary_key=True),
    Column("delivered_tokens", BigInteger, nullable=False),
    Column("discarded_tokens", BigInteger, nullable=False),
    Column("replayed_tokens", BigInteger, nullable=False),
)

APPEND_ONLY: Final = (ledger_entries, usage_records)

_SQLITE_REFUSE: Final = """
CREATE TRIGGER %(table)s_no_{verb} BEFORE {verb} ON %(table)s
BEGIN SELECT RAISE(ABORT, '%(table)s is append-only'); END
"""
_POSTGRES_FUNCTION: Final = """
CREATE OR REPLACE FUNCTION corral_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION '%% is append-only', TG_TABLE_NAME; END $$
"""
_POSTGRES_REFUSE: Final = """
CREATE TRIGGER %(table)s_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON %(table)s
FOR EACH STATEMENT EXECUTE FUNCTION corral_append_only()
"""

for _table in APPEND_ONLY:
    for _verb in ("UPDATE", "DELETE"):
        event.listen(_table, "after_create", DDL(_SQLITE_REFUSE.format(verb=_verb)).execute_if(dialect="sqlite"))
    event.listen(_table, "after_create", DDL(_POSTGRES_FUNCTION).execute_if(dialect="postgresql"))
    event.listen(_table, "after_create", DDL(_POSTGRES_REFUSE).execute_if(dialect="postgresql"))
