"""The one statement that SQLAlchemy spells differently for each database."""

from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert_if_absent(connection: Connection, table: Table, row: dict[str, Any]) -> None:
    """Insert *row* unless one with its key exists, also when another transaction inserts it at this moment."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    connection.execute(dialect.insert(table).on_conflict_do_nothing(), row)
