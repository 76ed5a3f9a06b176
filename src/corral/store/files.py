"""Queries on the table of uploaded files. Expired files are never returned, also before they are purged."""

from typing import Any, Final

from sqlalchemy import Connection, RowMapping, Select, delete, func, insert, select

from corral.core.files import StoredFile
from corral.store.books.accounts import lock_account
from corral.store.schema import files

PURGE_BATCH: Final = 100
_SHOWN: Final = tuple(files.c[name] for name in StoredFile.__slots__)


def add(connection: Connection, file: StoredFile, content: bytes, *, most_files: int, most_bytes: int) -> bool:
    """Insert a file. Returns False if the account would exceed *most_files* or *most_bytes*.

    Locks the account, so that concurrent uploads cannot exceed the limits. Deletes the account's expired files first.
    """
    lock_account(connection, file.account_id)
    mine = files.c.account_id == file.account_id
    connection.execute(delete(files).where(mine, files.c.expires_at_ms <= file.created_at_ms))
    held = select(func.count(), func.coalesce(func.sum(files.c.size_bytes), 0)).where(mine)
    held_files, held_bytes = connection.execute(held).one()
    if held_files + 1 > most_files or held_bytes + file.size_bytes > most_bytes:
        return False
    row: dict[str, Any] = {name: getattr(file, name) for name in StoredFile.__slots__}
    connection.execute(insert(files), {**row, "metadata": dict(file.metadata), "content": content})
    return True


def list_files(connection: Connection, account_id: str, *, now_ms: int) -> list[StoredFile]:
    """List the account's files, newest first. ``add`` limits their number."""
    wanted = (
        select(*_SHOWN)
        .where(files.c.account_id == account_id, files.c.expires_at_ms > now_ms)
        .order_by(files.c.created_at_ms.desc(), files.c.id)
    )
    return [_file_of(row) for row in connection.execute(wanted).mappings()]


def find(connection: Connection, account_id: str, file_id: str, *, now_ms: int) -> StoredFile | None:
    """Get the metadata of a file of the account, or None."""
    row = _row(connection, select(*_SHOWN), account_id, file_id, now_ms)
    return None if row is None else _file_of(row)


def read(connection: Connection, account_id: str, file_id: str, *, now_ms: int) -> tuple[StoredFile, bytes] | None:
    """Get the metadata and content of a file of the account, or None."""
    row = _row(connection, select(*_SHOWN, files.c.content), account_id, file_id, now_ms)
    return None if row is None else (_file_of(row), bytes(row["content"]))


def remove(connection: Connection, account_id: str, file_id: str, *, now_ms: int) -> bool:
    """Delete a file of the account. Returns False if there was none."""
    if find(connection, account_id, file_id, now_ms=now_ms) is None:
        return False
    return connection.execute(delete(files).where(files.c.id == file_id)).rowcount == 1


def purge_expired(connection: Connection, *, now_ms: int, limit: int = PURGE_BATCH) -> int:
    """Delete up to *limit* expired files of any account; return their number."""
    over = select(files.c.id).where(files.c.expires_at_ms <= now_ms).limit(limit)
    return connection.execute(delete(files).where(files.c.id.in_(over))).rowcount


def _row(connection: Connection, columns: Select[Any], account_id: str, file_id: str, now_ms: int) -> RowMapping | None:
    if not (file_id.isascii() and file_id.isprintable() and account_id.isascii() and account_id.isprintable()):
        return None  # cannot be an id; PostgreSQL would refuse some of these characters
    mine = columns.where(files.c.id == file_id, files.c.account_id == account_id, files.c.expires_at_ms > now_ms)
    return connection.execute(mine).mappings().one_or_none()


def _file_of(row: RowMapping) -> StoredFile:
    return StoredFile(**{name: row[name] for name in StoredFile.__slots__})
