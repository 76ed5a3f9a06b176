"""Standard Webhooks signatures, as Replicate's clients check them: https://www.standardwebhooks.com.

::

    webhook-id: msg_…                 the same on every attempt
    webhook-timestamp: 1614265330     Unix seconds of this attempt
    webhook-signature: v1,<base64> v1,<base64>
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - what every secret begins with
MIN_SECRET_BYTES: Final = 24
"""Of the specification, which allows 64 at most."""


def spell_secret(key: bytes) -> str:
    """The secret as receivers are given it. Standard base64: clients split it at its one underscore.

    Raises:
        ValueError: the key is too short for anything to be signed with it.
    """
    if len(key) < MIN_SECRET_BYTES:
        raise ValueError("a key that signs must have at least 24 bytes")
    return SECRET_PREFIX + base64.b64encode(key).decode()


def signed_headers(secrets: Sequence[str], *, webhook_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """The headers that let a receiver who knows one of the *secrets* check what it is sent.

    Raises:
        ValueError: there is no secret, or one that is empty or too short: forging would be easy.
    """
    if not secrets:
        raise ValueError("nothing is signed without a secret")
    signed = f"{webhook_id}.{timestamp_s}.".encode() + body
    signatures = (hmac.digest(_key(secret), signed, hashlib.sha256) for secret in secrets)
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": " ".join(f"v1,{base64.b64encode(each).decode()}" for each in signatures),
    }


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if len(key) < MIN_SECRET_BYTES:
        raise ValueError("a secret that signs must hold at least 24 bytes")
    return key
