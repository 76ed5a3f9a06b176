"""Add webhooks: an outbox that is also the delivery log, and a salt for each account's signing secret."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0003_webhooks"
down_revision = "0002_predictions_of_doors"
branch_labels = None
depends_on = None

_PENDING: Final = "state = 'pending'"


def upgrade() -> None:
    """Replace the outbox, which was never written to, and add the salts."""
    op.drop_index("ix_outbox_due", "outbox")
    op.drop_table("outbox")
    op.create_table(
        "outbox",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("account_id", sa.Text, sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("prediction_id", sa.Text, sa.ForeignKey("predictions.id"), nullable=False),
        sa.Column("event", sa.Text, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("receiver", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempts", sa.BigInteger, nullable=False),
        sa.Column("due_at_ms", sa.BigInteger, nullable=False),
        sa.Column("leased_until_ms", sa.BigInteger),
        sa.Column("last_status", sa.BigInteger),
        sa.Column("last_error", sa.Text),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("ended_at_ms", sa.BigInteger),
        sa.CheckConstraint("event IN ('start', 'output', 'logs', 'completed')", name="ck_outbox_event"),
        sa.CheckConstraint("state IN ('pending', 'delivered', 'failed', 'refused')", name="ck_outbox_state"),
        sa.CheckConstraint(f"({_PENDING}) = (ended_at_ms IS NULL)", name="ck_outbox_ended"),
    )
    _indexes()
    op.create_table(
        "webhook_secrets",
        sa.Column("account_id", sa.Text, sa.ForeignKey("accounts.id"), primary_key=True),
        sa.Column("salt", sa.LargeBinary, nullable=False),
        sa.Column("previous_salt", sa.LargeBinary),
        sa.Column("rotated_at_ms", sa.BigInteger),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
    )


def _indexes() -> None:
    pending = sa.text(_PENDING)
    op.create_index("ix_outbox_due", "outbox", ["due_at_ms"], sqlite_where=pending, postgresql_where=pending)
    op.create_index("ix_outbox_prediction", "outbox", ["prediction_id", "position"])
    op.create_index("ix_outbox_account", "outbox", ["account_id", "created_at_ms"])
    op.create_index("ix_outbox_ended", "outbox", ["ended_at_ms"])
