"""Signatures: the published vector, both official validators, and nothing signed without a secret."""

import base64

import pytest

from corral.egress.signature import signed_headers, spell_secret
from tests.official_validators import check, needs_node, node_says

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = spell_secret(bytes(range(32)))
BODY = b'{"test": 2432232314}'


def headers(*secrets: str, body: bytes = BODY) -> dict[str, str]:
    return signed_headers(secrets, webhook_id="msg_p5jXN8AQM9LWM0D4loKWxJek", timestamp_s=1614265330, body=body)


def test_signature_matches_the_published_test_vector() -> None:
    assert headers(SECRET) == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@pytest.mark.parametrize("secret", [SECRET, OTHER])
def test_signature_validates_with_either_of_two_secrets(secret: str) -> None:
    signed = headers(OTHER, SECRET)
    assert len(signed["webhook-signature"].split(" ")) == 2
    check(signed, BODY, secret)


@needs_node
def test_the_node_client_validates_too() -> None:
    body = '{"output": ["\u00e9\U0001f600"]}'.encode()
    assert node_says(headers(OTHER, SECRET, body=body), body, [SECRET, OTHER, "whsec_AAAA"]) == [True, True, False]


@pytest.mark.parametrize("secrets", [(), ("",), ("whsec_",), ("whsec_AAAA",), (SECRET, ""), ("whsec_not base64!",)])
def test_invalid_secret_cannot_sign(secrets: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"sign"):
        headers(*secrets)


def test_a_secret_has_one_underscore_and_a_key_that_is_long_enough() -> None:
    for key in (b"\xff" * 32, b"\xfb\xef\xbe" * 8):
        secret = spell_secret(key)
        assert secret.count("_") == 1
        assert base64.b64decode(secret.removeprefix("whsec_")) == key
    with pytest.raises(ValueError, match="24 bytes"):
        spell_secret(b"\xff" * 23)
