"""System calls of Corral processes: no unrequested connections, no writes outside the data directory."""

import json
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.hub import serving_hub, tiny_files
from tests.server.tracing import Trace, bare_environment, needs_strace

PATIENCE_S = 100
CORRAL = (sys.executable, "-m", "corral")
MODEL = "corral/demo"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """HOME of the process."""
    return tmp_path / "home"


@pytest.fixture
def data_dir(home: Path) -> Path:
    """The default data directory of a server."""
    return home / ".local" / "share" / "corral"


@contextmanager
def started(trace: Trace, home: Path, *arguments: str) -> Iterator[str]:
    """A traced server; its address."""
    command = trace.command(*CORRAL, "serve", "--port", "0", *arguments)
    with subprocess.Popen(
        command, cwd=home, env=bare_environment(home), stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        deadline = threading.Timer(PATIENCE_S, process.kill)
        deadline.start()
        try:
            assert process.stdout is not None
            lines = iter(process.stdout.readline, "")
            address = next(line.split()[-1] for line in lines if "answers at" in line)
            yield address
        finally:
            deadline.cancel()
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            subprocess.run(["kill", f"-{signal.SIGTERM.name[3:]}", *children], check=True)  # strace ends with them


def post(url: str, key: str, body: bytes, content_type: str = "application/json") -> Any:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": content_type}
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=PATIENCE_S) as answer:
        return json.load(answer)


def upload(size_bytes: int) -> tuple[bytes, str]:
    """A form with one file, larger than what form parsers keep in memory by themselves."""
    head = b'--frontier\r\nContent-Disposition: form-data; name="content"; filename="a.bin"\r\n\r\n'
    return head + bytes(size_bytes) + b"\r\n--frontier--\r\n", "multipart/form-data; boundary=frontier"


@needs_strace
def test_server_and_workers_make_no_outgoing_connections_and_write_only_to_data_dir(
    home: Path, data_dir: Path, tmp_path: Path
) -> None:
    trace, asking = Trace(tmp_path / "server"), Trace(tmp_path / "chat")
    bare_environment(home)
    with started(trace, home) as url:
        key = (data_dir / "api-key").read_text().strip()
        chat = {"model": MODEL, "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 8}
        constrained = {**chat, "response_format": {"type": "json_object"}}  # starts the stand-in's worker
        for body in (chat, constrained):
            assert post(f"{url}/v1/chat/completions", key, json.dumps(body).encode())["choices"]
        assert post(f"{url}/v1/files", key, *upload(3 * 2**19))["size"] == 3 * 2**19
        done = subprocess.run(
            asking.command(*CORRAL, "chat", "Hello!", "--url", url),
            cwd=home,
            env=bare_environment(home),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "server").iterdir())) > 2  # the workers were traced as well
    assert any("corral.db" in call for call in trace.calls)
    for seen in (trace, asking):
        assert seen.remote_addresses() == set()
        assert seen.written_paths(outside=data_dir) == set()


@needs_strace
@pytest.mark.parametrize("arguments", [("--help",), ("models", "--help"), ("models", "--url", "http://127.0.0.1:9")])
def test_command_makes_no_outgoing_connections_and_writes_no_files(
    arguments: tuple[str, ...], home: Path, data_dir: Path, tmp_path: Path
) -> None:
    trace = Trace(tmp_path / "trace")
    environment = bare_environment(home)
    subprocess.run(
        trace.command(*CORRAL, *arguments),
        cwd=home,
        env=environment,
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert trace.remote_addresses() == set()
    assert trace.written_paths(outside=data_dir) == set()


@needs_strace
def test_pull_and_conversion_connect_only_to_the_hub(home: Path, data_dir: Path, tmp_path: Path) -> None:
    trace = Trace(tmp_path / "trace")
    with serving_hub() as hub:
        hub.publish("somebody/tiny-llama", tiny_files(tmp_path / "tiny"))
        done = subprocess.run(
            trace.command(*CORRAL, "pull", "somebody/tiny-llama"),
            cwd=bare_environment(home)["HOME"],
            env=bare_environment(home, CORRAL_HUB_URL=hub.url),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert any("openvino_model" in call for call in trace.calls)  # it was converted as well
    assert trace.remote_addresses() == set()
    assert trace.written_paths(outside=data_dir) == set()
