"""Add the spending of scoped tokens, and the salt from which a key's secret is derived."""

import sqlalchemy as sa
from alembic import op

revision = "0005_scoped_tokens"
down_revision = "0004_stops"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table and the columns. Existing keys have no salt and cannot sign tokens."""
    op.add_column("api_keys", sa.Column("salt", sa.LargeBinary))
    op.add_column("predictions", sa.Column("token_digest", sa.LargeBinary))
    op.create_table(
        "scoped_tokens",
        sa.Column("digest", sa.LargeBinary, primary_key=True),
        sa.Column("account_id", sa.Text, sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("spent_nusd", sa.BigInteger, nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger, nullable=False),
        sa.CheckConstraint("spent_nusd >= 0", name="ck_scoped_tokens_spent"),
    )
    op.create_index("ix_scoped_tokens_account", "scoped_tokens", ["account_id", "expires_at_ms"])
