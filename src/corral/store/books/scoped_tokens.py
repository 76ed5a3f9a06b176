"""Spending of scoped tokens with a spend limit, including holds. The account must be locked in every call."""

from typing import Final

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from corral.core.caller import ScopedToken
from corral.store.schema import scoped_tokens

_SPENT: Final = select(scoped_tokens.c.spent_nusd).where(scoped_tokens.c.digest == bindparam("token"))
_SPEND: Final = (
    update(scoped_tokens)
    .where(scoped_tokens.c.digest == bindparam("token"))
    .values(spent_nusd=scoped_tokens.c.spent_nusd + bindparam("nusd"))
)
_PURGE: Final = delete(scoped_tokens).where(
    scoped_tokens.c.account_id == bindparam("account"), scoped_tokens.c.expires_at_ms <= bindparam("now_ms")
)


def spent(connection: Connection, digest: bytes) -> int:
    """Get what the token has spent; 0 if it was never used."""
    return connection.execute(_SPENT, {"token": digest}).scalar_one_or_none() or 0


def hold(connection: Connection, token: ScopedToken, *, account_id: str, hold_nusd: int, now_ms: int) -> None:
    """Add a hold to the token's spending. The first hold of a token deletes the account's expired tokens."""
    if connection.execute(_SPEND, {"token": token.digest, "nusd": hold_nusd}).rowcount:
        return
    connection.execute(_PURGE, {"account": account_id, "now_ms": now_ms})
    row = {
        "digest": token.digest,
        "account_id": account_id,
        "spent_nusd": hold_nusd,
        "expires_at_ms": token.expires_at_ms,
    }
    connection.execute(insert(scoped_tokens), row)


def refund(connection: Connection, digest: bytes, nusd: int) -> None:
    """Subtract the unspent part of a hold. Does nothing if the token was deleted."""
    connection.execute(_SPEND, {"token": digest, "nusd": -nusd})
