"""Start-up time: a command imports only what it needs."""

import json
import subprocess
import sys

import pytest

from tests.cli.fake_server import KEY, FakeServer

_RUN = """
import json, sys
from corral.cli.main import app
try:
    app(sys.argv[1:], standalone_mode=False)
finally:
    json.dump(sorted({name.partition(".")[0] for name in sys.modules}), sys.stderr)
"""
_OF_THE_SERVER = {"fastapi", "starlette", "uvicorn", "openvino", "openvino_genai", "sqlalchemy", "numpy", "tokenizers"}


def imported(*arguments: str, url: str = "") -> set[str]:
    """Top-level packages that a command imports."""
    environ = {"CORRAL_API_KEY": KEY, "CORRAL_URL": url, "XDG_CONFIG_HOME": "/nowhere"}
    done = subprocess.run(
        [sys.executable, "-c", _RUN, *arguments], env=environ, capture_output=True, check=True, timeout=60
    )
    return set(json.loads(done.stderr))


def test_version_imports_only_the_command_line() -> None:
    assert not imported("--version") & {*_OF_THE_SERVER, "pydantic", "httpx2", "rich", "msgspec", "orjson", "asyncio"}


@pytest.mark.parametrize("command", [["predictions", "list"], ["model", "list"], ["models", "--json"]])
def test_commands_that_speak_http_import_nothing_of_the_server(fake: FakeServer, command: list[str]) -> None:
    fake.answer("GET /v1/predictions", {"results": []})
    fake.answer("GET /models/list", [])
    fake.answer("GET /models/private/list", [])
    assert not imported(*command, url=fake.url) & {*_OF_THE_SERVER, "rich"}
