"""Add the identity of a prediction's weights and prompt, which decides if it can resume after a restart."""

import sqlalchemy as sa
from alembic import op

revision = "0008_identity"
down_revision = "0007_sessions"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns. Existing predictions have NULL, so unfinished ones are settled instead of resumed."""
    for name, kind in (("weights_id", sa.Text), ("prompt_format", sa.Text), ("prompt_digest", sa.LargeBinary)):
        op.add_column("predictions", sa.Column(name, kind))
