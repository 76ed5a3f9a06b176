"""Sessions of browsers: each begins when an API key signs in, and ends when the browser signs out."""

from collections.abc import Callable
from functools import partial

from corral.core.caller import Caller
from corral.service.accounts.accounts import Accounts
from corral.store.books import sessions
from corral.store.store import Store


class SignIns:
    """Sessions over one store. The cookie that names a session is for ``web``; only its digest comes here."""

    def __init__(self, store: Store, accounts: Accounts, *, clock: Callable[[], float]) -> None:
        """*clock* is Unix time in seconds."""
        self._store = store
        self._accounts = accounts
        self._clock = clock

    async def begin(self, digest: bytes, *, key_id: str, expires_at_s: int) -> None:
        """Store a new session of the API key *key_id*."""
        begin = partial(
            sessions.begin, digest=digest, key_id=key_id, expires_at_ms=1000 * expires_at_s, now_ms=self._now_ms()
        )
        await self._store.write(begin)

    async def end(self, digest: bytes) -> None:
        """End a session. Ending it twice does nothing."""
        await self._store.write(partial(sessions.end, digest=digest))

    async def caller_of(self, digest: bytes, *, key_id: str) -> Caller | None:
        """The caller of an open session, with what its key may do now.

        Returns None if the session was ended or has expired, or its key is unknown, revoked or expired.
        """
        if not await self._store.read(partial(sessions.is_open, digest=digest, now_ms=self._now_ms())):
            return None
        return await self._accounts.caller_of(key_id)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)
