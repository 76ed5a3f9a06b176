"""Add the index of the stop string that ended each choice."""

import sqlalchemy as sa
from alembic import op

revision = "0004_stops"
down_revision = "0003_webhooks"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; it stays NULL for existing predictions."""
    op.add_column("predictions", sa.Column("stops", sa.JSON(none_as_null=True)))
