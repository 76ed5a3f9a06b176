"""Add browser sessions, so that signing out ends a session on the server."""

import sqlalchemy as sa
from alembic import op

revision = "0007_sessions"
down_revision = "0006_files"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "sessions",
        sa.Column("digest", sa.LargeBinary, primary_key=True),
        sa.Column("key_id", sa.Text, sa.ForeignKey("api_keys.id"), nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_sessions_key", "sessions", ["key_id", "expires_at_ms"])
    op.create_index("ix_sessions_expiring", "sessions", ["expires_at_ms"])
