"""Migrate a database to the current schema. Safe if several processes start at the same time."""

from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from corral.core.errors import BadSetting

LOCK: Final = 0x636F7272616C
"""Key of the advisory lock in PostgreSQL: "corral" in ASCII."""


def migrate(engine: Engine) -> None:
    """Run all pending migrations in one transaction.

    Raises:
        BadSetting: the database was migrated by a newer version of Corral.
    """
    config = Config()
    config.set_main_option("script_location", "corral.store:migrations")
    with engine.begin() as connection:
        _lock(connection)
        scripts = ScriptDirectory.from_config(config)
        found = MigrationContext.configure(connection).get_current_heads()
        if found == tuple(scripts.get_heads()):
            return
        known = {script.revision for script in scripts.walk_revisions()}
        if unknown := [revision for revision in found if revision not in known]:
            raise BadSetting(
                f"The database is at revision '{unknown[0]}', which this version of Corral does not know: "
                "it was written by a newer one. Upgrade Corral, or use another database."
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def check_revision(engine: Engine) -> None:
    """Check that a read-only database has the current schema.

    Raises:
        BadSetting: the database has another schema, or none.
    """
    config = Config()
    config.set_main_option("script_location", "corral.store:migrations")
    with engine.begin() as connection:
        found = MigrationContext.configure(connection).get_current_heads()
    heads = ScriptDirectory.from_config(config).get_heads()
    if found != tuple(heads):
        raise BadSetting(
            f"The database is at revision '{', '.join(found) or 'none'}', and this version of Corral needs "
            f"'{', '.join(heads)}', but the database cannot be written. Run the command as a user who may write it."
        )


def _lock(connection: Connection) -> None:
    """Let one process migrate at a time. SQLite's BEGIN IMMEDIATE already ensures it."""
    if connection.dialect.name == "postgresql":
        for statement in ("SET LOCAL lock_timeout = 0", "SET LOCAL statement_timeout = 0"):
            connection.execute(text(statement))
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
