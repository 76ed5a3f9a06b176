"""Standard Webhooks signatures, which Replicate's clients verify: https://www.standardwebhooks.com.

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

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - a prefix, not a secret
MIN_SECRET_BYTES: Final = 24
"""Minimum of the specification; its maximum is 64."""


def spell_secret(key: bytes) -> str:
    """Encode a signing secret for receivers, in standard base64: clients split it at the underscore of the prefix.

    Raises:
        ValueError: the key is too short.
    """
    if len(key) < MIN_SECRET_BYTES:
        raise ValueError("a key that signs must have at least 24 bytes")
    return SECRET_PREFIX + base64.b64encode(key).decode()


def signed_headers(secrets: Sequence[str], *, webhook_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """Create the signature headers of a message, with one signature per secret.

    Raises:
        ValueError: there is no secret, or one is too short.
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
