"""Signatures: the published vector, both official validators, and nothing signed without a secret."""

import base64
import json
import subprocess
from pathlib import Path

import pytest
from replicate.webhook import Webhooks, WebhookSigningSecret

from corral.egress.signature import signed_headers, spell_secret

NODE = Path(__file__).parents[2] / "node"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = spell_secret(bytes(range(32)))
BODY = b'{"test": 2432232314}'


def headers(*secrets: str, body: bytes = BODY) -> dict[str, str]:
    return signed_headers(secrets, webhook_id="msg_p5jXN8AQM9LWM0D4loKWxJek", timestamp_s=1614265330, body=body)


def test_the_published_vector_comes_out() -> None:
    assert headers(SECRET) == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@pytest.mark.parametrize("secret", [SECRET, OTHER])
def test_while_two_secrets_hold_either_validates(secret: str) -> None:
    signed = headers(OTHER, SECRET)
    assert len(signed["webhook-signature"].split(" ")) == 2
    Webhooks.validate(headers=signed, body=BODY.decode(), secret=WebhookSigningSecret(key=secret))


def test_the_node_client_validates_too() -> None:
    script = (
        "import { validateWebhook } from 'replicate';"
        "const { headers, body, secrets } = JSON.parse(process.argv[1]);"
        "const valid = [];"
        "for (const secret of secrets) valid.push(await validateWebhook({"
        " id: headers['webhook-id'], timestamp: headers['webhook-timestamp'],"
        " signature: headers['webhook-signature'], body, secret }));"
        "console.log(JSON.stringify(valid));"
    )
    body = '{"output": ["\u00e9\U0001f600"]}'
    case = {
        "headers": headers(OTHER, SECRET, body=body.encode()),
        "body": body,
        "secrets": [SECRET, OTHER, "whsec_AAAA"],
    }
    done = subprocess.run(
        ["node", "--input-type=module", "-e", script, json.dumps(case)],
        cwd=NODE, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == [True, True, False]


@pytest.mark.parametrize("secrets", [(), ("",), ("whsec_",), ("whsec_AAAA",), (SECRET, ""), ("whsec_not base64!",)])
def test_nothing_is_signed_without_a_good_secret(secrets: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"sign"):
        headers(*secrets)


def test_a_secret_has_one_underscore_and_a_key_that_is_long_enough() -> None:
    for key in (b"\xff" * 32, b"\xfb\xef\xbe" * 8):
        secret = spell_secret(key)
        assert secret.count("_") == 1
        assert base64.b64decode(secret.removeprefix("whsec_")) == key
    with pytest.raises(ValueError, match="24 bytes"):
        spell_secret(b"\xff" * 23)
