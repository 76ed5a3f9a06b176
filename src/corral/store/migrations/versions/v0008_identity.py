"""Which weights a prediction runs on, and what its prompt became: what decides whether it may go on after a restart."""

import sqlalchemy as sa
from alembic import op

revision = "0008_identity"
down_revision = "0007_sessions"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns. Predictions of before have NULL, so those that are unfinished are settled, not continued."""
    for name, kind in (("weights_id", sa.Text), ("prompt_format", sa.Text), ("prompt_digest", sa.LargeBinary)):
        op.add_column("predictions", sa.Column(name, kind))
