"""Scoped tokens: JWTs signed with an API key's secret that allow less than the key.

The format is DeepInfra's: ``jwt:<header>.<payload>.<signature>``, HS256. ``kid`` names the account and the key;
``model`` or ``models``, ``exp`` and ``spending_limit`` restrict what the token allows.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal, InvalidOperation
from typing import Any, Final, cast

import jwt

from corral.core.caller import ScopedToken
from corral.core.pricing import NUSD_PER_USD

PREFIX: Final = "jwt:"
MAX_CHARS: Final = 8192
MAX_LIFE_S: Final = 366 * 86400
"""A leap year."""
MAX_MODELS: Final = 100
MIN_SECRET_BYTES: Final = 32
"""HS256 needs a key of at least 256 bits (RFC 7518, section 3.2); a shorter secret could be found by brute force."""
_MAX_LIMIT_USD: Final = 10**9
_CLAIMS: Final = frozenset({"sub", "exp", "iat", "nbf", "iss", "jti", "model", "models", "spending_limit"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenTerms:
    """What a scoped token allows."""

    models: tuple[str, ...] | None
    """Model names as written in the token; None allows every model that the key allows."""
    expires_at_s: int
    """Unix time."""
    spending_limit: Decimal | None
    """Dollars."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """Account and key named in a token's ``kid`` header. Not trusted before the signature is verified."""

    account_id: str
    key_name: str


def sign(terms: TokenTerms, *, by: Signer, secret: str) -> str:
    """Create a scoped token signed with the API key's secret."""
    payload: dict[str, Any] = {"sub": by.account_id, "exp": terms.expires_at_s}
    if terms.models is not None:
        payload["models"] = list(terms.models)
    if terms.spending_limit is not None:
        payload["spending_limit"] = float(terms.spending_limit)
    name = base64.b64encode(by.key_name.encode()).decode()
    return PREFIX + jwt.encode(payload, secret, algorithm="HS256", headers={"kid": f"{by.account_id}:{name}"})


def read_signer(token: str) -> Signer | None:
    """Read the account and key from a token's header without verification; None if it is not a token."""
    if not token.startswith(PREFIX) or len(token) > MAX_CHARS:
        return None
    try:
        kid: object = jwt.get_unverified_header(token.removeprefix(PREFIX)).get("kid")
        account_id, _, name = str(kid).partition(":")
        return Signer(account_id=account_id, key_name=base64.b64decode(name, validate=True).decode())
    except (jwt.PyJWTError, binascii.Error, UnicodeError):
        return None


def read(token: str, *, by: Signer, secret: str, now_s: float) -> TokenTerms | None:
    """Verify a token's signature and expiry; return its terms, or None if it is invalid or expired.

    Args:
        token: the token with its prefix.
        by: the signer from `read_signer`.
        secret: the secret of that key.
        now_s: Unix time, instead of the JWT library's own clock.
    """
    options: Any = {"require": ["exp"], "verify_exp": False, "verify_iat": False, "verify_nbf": False}
    try:
        payload = jwt.decode(token.removeprefix(PREFIX), secret, algorithms=["HS256"], options=options)
    except jwt.PyJWTError:
        return None
    return _terms(payload, by=by, now_s=now_s)


def scoped(token: str, terms: TokenTerms) -> ScopedToken:
    """Build the `ScopedToken` (digest, expiry, spend limit) that the store counts spending on."""
    signed, _, _ = token.removeprefix(PREFIX).rpartition(".")  # the signature's base64 has several spellings
    limit = terms.spending_limit
    return ScopedToken(
        digest=hashlib.sha256(signed.encode()).digest(),
        expires_at_ms=1000 * terms.expires_at_s,
        spend_limit_nusd=None if limit is None else int((limit * NUSD_PER_USD).to_integral_value(ROUND_FLOOR)),
    )


def _terms(payload: dict[str, Any], *, by: Signer, now_s: float) -> TokenTerms | None:
    """Read a payload's terms; None if any claim is unknown or invalid, because an ignored limit would be no limit."""
    expires_at_s: object = payload["exp"]
    if not isinstance(expires_at_s, int) or not now_s < expires_at_s <= now_s + MAX_LIFE_S:
        return None
    if payload.keys() - _CLAIMS or payload.get("sub") != by.account_id or _too_early(payload, now_s):
        return None
    try:
        models = _models(payload)
        limit = _limit(payload.get("spending_limit"))
    except ValueError:
        return None
    return TokenTerms(models=models, expires_at_s=expires_at_s, spending_limit=limit)


def _too_early(payload: dict[str, Any], now_s: float) -> bool:
    begins_at_s: object = payload.get("nbf", 0)
    return not isinstance(begins_at_s, int | float) or begins_at_s > now_s


def _models(payload: dict[str, Any]) -> tuple[str, ...] | None:
    if "model" in payload and "models" in payload:
        raise ValueError("models")
    given: object = payload.get("models", payload.get("model"))
    if given is None:
        return None
    names = cast("list[object]", given) if isinstance(given, list) else [given]
    if len(names) > MAX_MODELS or not all(isinstance(name, str) for name in names):
        raise ValueError("models")
    return tuple(str(name) for name in names)


def _limit(given: object) -> Decimal | None:
    if given is None:
        return None
    try:
        limit = Decimal(str(given))
    except InvalidOperation:
        raise ValueError("spending_limit") from None
    if isinstance(given, bool) or not limit.is_finite() or not 0 <= limit <= _MAX_LIMIT_USD:
        raise ValueError("spending_limit")
    return limit
