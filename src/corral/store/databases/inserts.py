"""INSERT ... ON CONFLICT DO NOTHING, which SQLAlchemy writes differently for each database."""

from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert_if_absent(connection: Connection, table: Table, row: dict[str, Any]) -> bool:
    """Insert *row*. Returns False if one of its unique values exists, also if inserted by a concurrent transaction."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    inserted = dialect.insert(table).on_conflict_do_nothing().returning(*table.primary_key)
    return connection.execute(inserted, row).first() is not None
