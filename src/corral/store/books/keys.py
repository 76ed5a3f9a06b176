"""Queries on the table of API keys. Keys are stored as digests of their secrets."""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, RowMapping, bindparam, insert, select, update

from corral.core.accounts import Account, ApiKey, Scope
from corral.core.errors import InvalidRequest, NotFound
from corral.store.books.accounts import check_name, get_account, lock_account
from corral.store.ids import new_id
from corral.store.schema import api_keys


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """Values of a new API key."""

    account_id: str
    name: str
    digest: bytes
    """HMAC of the secret."""
    scopes: frozenset[Scope]
    models: tuple[str, ...] | None = None
    expires_at_ms: int | None = None
    spend_limit_nusd: int | None = None
    privacy: bool = False
    salt: bytes | None = None
    """Salt from which the secret was derived; None if it was not derived."""


_FIND: Final = select(api_keys).where(api_keys.c.digest == bindparam("digest"))
_BY_ID: Final = select(api_keys).where(api_keys.c.id == bindparam("key_id"))
_SPEND: Final = (
    update(api_keys)
    .where(api_keys.c.id == bindparam("key_id"))
    .values(spent_nusd=api_keys.c.spent_nusd + bindparam("nusd"))
)


def add_key(connection: Connection, new: NewKey, *, now_ms: int) -> ApiKey:
    """Insert a new key.

    Raises:
        NotFound: the account does not exist.
        InvalidRequest: the name is invalid or the spend limit negative.
    """
    check_name(new.name)
    if new.spend_limit_nusd is not None and new.spend_limit_nusd < 0:
        raise InvalidRequest("A spend limit must not be negative.", param="spend_limit_nusd")
    if get_account(connection, new.account_id) is None:
        raise NotFound(f"There is no account '{new.account_id}'.", param="account")
    row = {
        "id": new_id("key"),
        "account_id": new.account_id,
        "name": new.name,
        "digest": new.digest,
        "scopes": sorted(new.scopes),
        "models": None if new.models is None else [name.lower() for name in new.models],
        "expires_at_ms": new.expires_at_ms,
        "spend_limit_nusd": new.spend_limit_nusd,
        "spent_nusd": 0,
        "privacy": new.privacy,
        "revoked_at_ms": None,
        "created_at_ms": now_ms,
        "salt": new.salt,
    }
    connection.execute(insert(api_keys), row)
    return _key_of(row)


def ensure_key(connection: Connection, new: NewKey, *, now_ms: int) -> ApiKey:
    """Get the key with the digest of *new*; insert it if there is none. For the local key of a server.

    Raises:
        NotFound: as ``add_key``.
        InvalidRequest: as ``add_key``.
    """
    lock_account(connection, new.account_id)
    found = find_key(connection, new.digest)
    return add_key(connection, new, now_ms=now_ms) if found is None else found[0]


def find_key(connection: Connection, digest: bytes) -> tuple[ApiKey, Account] | None:
    """Get a key and its account by the key's digest, also if the key is revoked or expired."""
    row = connection.execute(_FIND, {"digest": digest}).mappings().one_or_none()
    if row is None:
        return None
    owner = get_account(connection, row["account_id"])
    return None if owner is None else (_key_of(row), owner)


def get_key(connection: Connection, key_id: str) -> ApiKey | None:
    """Get a key by its id, or None."""
    row = connection.execute(_BY_ID, {"key_id": key_id}).mappings().one_or_none()
    return None if row is None else _key_of(row)


def list_keys(connection: Connection, account_id: str | None = None) -> list[ApiKey]:
    """List the keys of one account or of all, oldest first."""
    wanted = select(api_keys).order_by(api_keys.c.created_at_ms, api_keys.c.id)
    if account_id is not None:
        wanted = wanted.where(api_keys.c.account_id == account_id)
    return [_key_of(row) for row in connection.execute(wanted).mappings()]


def revoke_key(connection: Connection, key_id: str, *, now_ms: int) -> ApiKey | None:
    """Revoke a key. Returns None if there is no such key; idempotent.

    Later claims with the key fail; running predictions continue.
    """
    connection.execute(
        update(api_keys).where(api_keys.c.id == key_id, api_keys.c.revoked_at_ms.is_(None)).values(revoked_at_ms=now_ms)
    )
    return get_key(connection, key_id)


def spend(connection: Connection, key_id: str, nusd: int) -> None:
    """Add to the key's spending. The account must be locked."""
    connection.execute(_SPEND, {"key_id": key_id, "nusd": nusd})


def _key_of(row: RowMapping | dict[str, Any]) -> ApiKey:
    values: dict[str, Any] = {name: row[name] for name in ApiKey.__slots__}
    values["scopes"] = frozenset(map(Scope, values["scopes"]))
    if values["models"] is not None:
        values["models"] = tuple(values["models"])
    return ApiKey(**values)
