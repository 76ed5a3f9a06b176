"""What tokens with a spend limit have spent, running holds included. Their account is locked in every call here."""

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
_FORGET: Final = delete(scoped_tokens).where(
    scoped_tokens.c.account_id == bindparam("account"), scoped_tokens.c.expires_at_ms <= bindparam("now_ms")
)


def spent(connection: Connection, digest: bytes) -> int:
    """What the token has spent; 0 for one that was never used."""
    return connection.execute(_SPENT, {"token": digest}).scalar_one_or_none() or 0


def hold(connection: Connection, token: ScopedToken, *, account_id: str, hold_nusd: int, now_ms: int) -> None:
    """Count a hold as spent. With a token's first one, the account's expired tokens are forgotten."""
    if connection.execute(_SPEND, {"token": token.digest, "nusd": hold_nusd}).rowcount:
        return
    connection.execute(_FORGET, {"account": account_id, "now_ms": now_ms})
    row = {
        "digest": token.digest,
        "account_id": account_id,
        "spent_nusd": hold_nusd,
        "expires_at_ms": token.expires_at_ms,
    }
    connection.execute(insert(scoped_tokens), row)


def give_back(connection: Connection, digest: bytes, nusd: int) -> None:
    """Take back what was held and not spent; nothing for a token that is forgotten by now."""
    connection.execute(_SPEND, {"token": digest, "nusd": -nusd})
