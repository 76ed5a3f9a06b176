"""Which stop string ended each choice: part of the answer in one door's words, and no text."""

import sqlalchemy as sa
from alembic import op

revision = "0004_stops"
down_revision = "0003_webhooks"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; predictions that are over stay without."""
    op.add_column("predictions", sa.Column("stops", sa.JSON(none_as_null=True)))
