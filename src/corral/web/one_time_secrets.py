"""Secrets to show once on the page after a redirect.

A form that makes a secret answers with a redirect, so that a reload does not make another one. The secret waits here
meanwhile: it is in no address, no cookie, no log and no database. A restart forgets it.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from corral.web.sessions import Session

NOTE_S: Final = 120
"""Seconds after which a secret that was not shown is deleted."""
MAX_NOTES: Final = 1000
"""Above this number the oldest is deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Note:
    secret: str
    expires_at_s: float


class OneTimeSecrets:
    """Secrets by session and subject, in memory."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """*clock* returns Unix time in seconds."""
        self._clock = clock
        self._secrets: OrderedDict[tuple[Session, str], _Note] = OrderedDict()

    def put(self, session: Session, subject: str, secret: str) -> None:
        """Keep *secret* for the next page of *session* about *subject*."""
        self._secrets[session, subject] = _Note(secret=secret, expires_at_s=self._clock() + NOTE_S)
        self._secrets.move_to_end((session, subject))
        while len(self._secrets) > MAX_NOTES:
            self._secrets.popitem(last=False)

    def take(self, session: Session, subject: str) -> str | None:
        """Get and delete the secret; None if there is none or it has expired."""
        now_s = self._clock()
        # Entries are in the order of their expiry.
        while self._secrets and next(iter(self._secrets.values())).expires_at_s <= now_s:
            self._secrets.popitem(last=False)
        found = self._secrets.pop((session, subject), None)
        return None if found is None else found.secret
