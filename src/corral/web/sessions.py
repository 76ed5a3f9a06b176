"""Sessions: signed cookies, form tokens, and one-time sign-in links.

A session is of one API key and ends with it: the key is looked up at each request, so revoking it signs out. The
cookie holds no secret of the key, only its id, an end and a nonce under a signature of this server. The signature alone
signs nobody in: the store has a row for each open session, and signing out deletes it.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

COOKIE: Final = "corral_session"
SESSION_S: Final = 7 * 24 * 3600
"""Lifetime of a session."""
LINK_S: Final = 15 * 60
"""Lifetime of a one-time link."""
_MAX_COOKIE_CHARS: Final = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Session of one browser."""

    key_id: str
    expires_at_s: int
    nonce: str

    @property
    def digest(self) -> bytes:
        """Identifies the session in the store, which never gets the cookie."""
        return _digest(_spelt(self))


class Sessions:
    """Creates and verifies session cookies and form tokens."""

    def __init__(self, *, secret: bytes, clock: Callable[[], float]) -> None:
        """Sign with *secret* of at least 32 bytes; *clock* returns Unix time in seconds.

        Raises:
            ValueError: the secret is too short.
        """
        if len(secret) < hashlib.sha256().digest_size:
            raise ValueError("the secret must have at least 32 bytes")
        self._secret = secret
        self._clock = clock

    def make(self, key_id: str) -> Session:
        """Create a session for an API key. The caller stores it."""
        return Session(key_id=key_id, expires_at_s=int(self._clock()) + SESSION_S, nonce=secrets.token_urlsafe(16))

    def cookie(self, session: Session) -> str:
        """Signed cookie of *session*."""
        text = _spelt(session)
        return f"{text}.{self._sign('session', text)}"

    def read(self, cookie: str) -> Session | None:
        """Verify a cookie and return its session; None if it is altered, expired or of another server.

        Whether the session is still open, the store knows.
        """
        text, _, signature = cookie.rpartition(".")
        if len(cookie) > _MAX_COOKIE_CHARS or not cookie.isascii():
            return None
        if not hmac.compare_digest(signature, self._sign("session", text)):
            return None
        key_id, expires_at_s, nonce = text.split(".")
        session = Session(key_id=key_id, expires_at_s=int(expires_at_s), nonce=nonce)
        return session if self._clock() < session.expires_at_s else None

    def form_token(self, session: Session) -> str:
        """CSRF token of the session."""
        return self._sign("form", _spelt(session))

    def is_form_token(self, session: Session, token: str) -> bool:
        """Whether *token* is this session's."""
        return token.isascii() and hmac.compare_digest(token, self.form_token(session))

    def _sign(self, purpose: str, text: str) -> str:
        digest = hmac.digest(self._secret, f"{purpose}:{text}".encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")


class OneTimeLinks:
    """Sign-in tokens for one use, with expiry, in memory."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """*clock* returns Unix time in seconds."""
        self._clock = clock
        self._open: dict[bytes, tuple[str, float]] = {}

    def make(self, key_id: str) -> str:
        """Create a token for an API key id."""
        token = secrets.token_urlsafe(32)
        self._open[_digest(token)] = (key_id, self._clock() + LINK_S)
        return token

    def take(self, token: str) -> str | None:
        """Use up *token* and return its API key id; None if it is invalid.

        Found by digest, so the time that it takes tells nothing of the tokens that there are.
        """
        now_s = self._clock()
        self._open = {digest: link for digest, link in self._open.items() if now_s < link[1]}
        found = self._open.pop(_digest(token), None)
        return None if found is None else found[0]


def _spelt(session: Session) -> str:
    return f"{session.key_id}.{session.expires_at_s}.{session.nonce}"


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="replace")).digest()
