"""Make account names unique: two gateways could create the same name."""

import sqlalchemy as sa
import structlog
from alembic import op

revision = "0009_account_names"
down_revision = "0008_identity"
branch_labels = None
depends_on = None

_log = structlog.get_logger(__name__)
_accounts = sa.table("accounts", sa.column("id"), sa.column("name"), sa.column("created_at_ms"))


def upgrade() -> None:
    """Rename all but the oldest account of each name to ``<name>-<id>``, then add a unique index."""
    connection = op.get_bind()
    oldest_first = sa.select(_accounts.c.id, _accounts.c.name).order_by(_accounts.c.created_at_ms, _accounts.c.id)
    taken: set[str] = set()
    for account_id, name in connection.execute(oldest_first).all():
        if name in taken:
            new_name = f"{name}-{account_id}"
            connection.execute(sa.update(_accounts).where(_accounts.c.id == account_id).values(name=new_name))
            _log.warning("account_renamed", account=account_id, name=name, new_name=new_name)
        taken.add(name)
    op.create_index("ix_accounts_name", "accounts", ["name"], unique=True)
