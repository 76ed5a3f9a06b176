"""Browser sessions: created when a user signs in with an API key, ended when they sign out."""

from collections.abc import Callable
from functools import partial

from corral.core.caller import Caller
from corral.service.accounts.api_keys import ApiKeys
from corral.store.books import sessions
from corral.store.store import Store


class SignIns:
    """Creates, checks and ends browser sessions. Receives only the digest of the session cookie."""

    def __init__(self, store: Store, keys: ApiKeys, *, clock: Callable[[], float]) -> None:
        """Create the service over *store*; *clock* returns Unix time in seconds."""
        self._store = store
        self._keys = keys
        self._clock = clock

    async def begin(self, digest: bytes, *, key_id: str, expires_at_s: int) -> None:
        """Create a session for the API key *key_id*."""
        begin = partial(
            sessions.begin, digest=digest, key_id=key_id, expires_at_ms=1000 * expires_at_s, now_ms=self._now_ms()
        )
        await self._store.write(begin)

    async def end(self, digest: bytes) -> None:
        """End a session. Idempotent."""
        await self._store.write(partial(sessions.end, digest=digest))

    async def caller_of(self, digest: bytes, *, key_id: str) -> Caller | None:
        """Get the caller of a session, with the current permissions of its key.

        Returns None if the session was ended or has expired, or if its key is unknown, revoked or expired.
        """
        if not await self._store.read(partial(sessions.is_open, digest=digest, now_ms=self._now_ms())):
            return None
        return await self._keys.caller_of(key_id)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)
