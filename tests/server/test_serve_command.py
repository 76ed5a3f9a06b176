"""``corral serve`` as a process: start, output, errors, shutdown."""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.oracle.llama import TinyLlama

PATIENCE_S = 60
ROOT = Path(__file__).parents[2]
PROGRAM = ".venv/bin/corral"
"""As ``make run`` starts it, seen from ROOT."""
HOME = Path("/nowhere")
DEMO = Path(__file__).parents[2] / "src" / "corral" / "demo"


def environment(**settings: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CORRAL_")}
    return {**clean, "NO_COLOR": "1", "CORRAL_MODEL": "corral/demo", **settings}


@contextmanager
def serve(*arguments: str, **settings: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [PROGRAM, "serve", "--port", "0", *arguments],
        cwd=ROOT,
        env=environment(**settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = threading.Timer(PATIENCE_S, process.kill)
    deadline.start()
    try:
        yield process
    finally:
        deadline.cancel()
        process.kill()
        process.communicate()


def banner_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if "Ctrl-C" in line:
            return "".join(lines)
    assert process.stderr is not None
    pytest.fail(f"no banner: {process.stderr.read()}")


def refusal(*arguments: str, **settings: str) -> str:
    """Error of a start that must fail: one sentence, no traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "corral", "serve", "--port", "0", *arguments],
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


def paste(line: str, cwd: Path = ROOT, **environ: str) -> str:
    """Run a line in a fresh shell: nothing of Corral in its PATH or its environment."""
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=cwd,
        env={"PATH": os.defpath, "HOME": str(HOME), **environ},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def pasted_lines(banner: str) -> tuple[str, str]:
    """The two commands in the banner: curl and ``corral chat``."""
    lines = [line.strip() for line in banner.splitlines()]
    (curl,) = [line for line in lines if line.startswith("curl ")]
    (chat,) = [line for line in lines if " chat 'Hello!'" in line]
    return curl, chat


def test_banner_commands_run_in_a_fresh_shell(tmp_path: Path) -> None:
    data_dir = tmp_path / "data with a space"
    with serve("--data-dir", str(data_dir)) as process:
        banner = banner_of(process)
        key = (data_dir / "api-key").read_text().strip()
        assert f"API key  {key}" in banner
        assert "stands in for meta/llama-2-7b-chat, meta-llama/Llama-2-7b-chat-hf" in banner
        curl, chat = pasted_lines(banner)
        assert f"CORRAL_DATA_DIR='{data_dir}' {PROGRAM} chat" in chat
        assert json.loads(paste(curl + " --silent"))["choices"][0]["message"]["content"].strip()
        assert paste(chat).strip()
    with serve(
        "--data-dir", str(data_dir), "--host", "::", CORRAL_PUBLIC_URL="https://ai.example.org/corral"
    ) as process:
        again = banner_of(process)
        assert key not in again
        assert str(data_dir / "api-key") in again
        assert "Corral answers at https://ai.example.org/corral\n" in again
        assert "pages    https://ai.example.org/corral/sign-in#" in again
        curl, chat = pasted_lines(again)
        assert json.loads(paste(curl + " --silent"))["choices"]
        assert paste(chat).strip()
        here = next(line.split()[1] for line in again.splitlines() if line.startswith("  here "))
        port = here.rpartition(":")[2]
        for host in ("127.0.0.1", "[::1]"):
            assert json.loads(paste(f"curl --silent --noproxy '*' http://{host}:{port}/health"))["status"] == "ready"
        asked = f"curl --silent --header 'Host: ai.example.org' {here}/health"
        assert json.loads(paste(asked))["status"] == "ready"


def test_server_survives_closed_stdout_and_logs_at_debug_level(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    secret = "my-own-key-of-24-letters"
    log = tmp_path / "log"
    line = f"exec {PROGRAM} serve --port {port} --log-level debug > /dev/full 2> {log}"
    settings = {"CORRAL_API_KEY": secret, "CORRAL_DATA_DIR": str(tmp_path / "data")}
    process = subprocess.Popen(["bash", "-c", line], cwd=ROOT, env=environment(**settings))
    deadline = threading.Timer(PATIENCE_S, process.kill)
    deadline.start()
    try:
        while process.poll() is None and "banner_not_printed" not in (log.read_text() if log.exists() else ""):
            threading.Event().wait(0.05)
        asked = f"{PROGRAM} chat Hello! --url http://127.0.0.1:{port}"
        assert paste(asked, CORRAL_API_KEY=secret).strip()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    finally:
        deadline.cancel()
        process.kill()
        process.wait()
    logged = log.read_text()
    assert secret not in logged
    (settings_line,) = [each for each in logged.splitlines() if "event=settings_loaded" in each]
    assert " api_key=set " in settings_line
    assert f" port={port} " in settings_line
    assert "event=engine_counters running=0" in logged
    assert "event=request_ended" in logged
    assert "route=/v1/chat/completions" in logged


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_stops_server_and_worker_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    with serve("--data-dir", str(tmp_path)) as process:
        banner_of(process)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert children
        for child in children:  # as a service manager does
            os.kill(int(child), number)
        os.killpg(process.pid, number)  # as a terminal does
        assert process.wait(PATIENCE_S) == 0
        assert process.stderr is not None
        assert "engine_worker_died" not in process.stderr.read()
        assert not any(Path(f"/proc/{child}").exists() for child in children)


def test_the_first_key_can_be_set_and_is_never_printed(tmp_path: Path) -> None:
    with serve("--data-dir", str(tmp_path), CORRAL_API_KEY="ck_my-own-key") as process:
        banner = banner_of(process)
        assert "ck_my-own-key" not in banner
        url = next(line.split()[-1] for line in banner.splitlines() if line.startswith("Corral answers at"))
        asked = urllib.request.Request(f"{url}/v1/models", headers={"Authorization": "Bearer ck_my-own-key"})
        with urllib.request.urlopen(asked, timeout=PATIENCE_S) as answer:
            assert answer.status == 200
        assert not (tmp_path / "api-key").exists()


def test_a_checkpoint_directory_is_served_under_its_own_name(tmp_path: Path) -> None:
    checkpoint = TinyLlama(vocab=4096).write(tmp_path / "tiny")
    (checkpoint / "tokenizer.json").write_bytes((DEMO / "tokenizer.json").read_bytes())
    with serve(str(checkpoint), "--data-dir", str(tmp_path / "data"), "--quantize", "f32") as process:
        banner = banner_of(process)
        assert "local/tiny (openvino, f32, context 512 tokens)" in banner
        assert "stands in" not in banner


def test_port_in_use_error_names_the_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refusal("--data-dir", str(tmp_path), "--port", str(port))
    assert f"cannot listen on 127.0.0.1:{port}" in said


@pytest.mark.parametrize(
    ("arguments", "settings", "said"),
    [
        ([], {"CORRAL_PROT": "1"}, "CORRAL_PROT: there is no such setting. Did you mean CORRAL_PORT?"),
        (["--quantize", "int2"], {}, "--quantize: 'int2' is not accepted. Give one of int8, int4, bf16, f32."),
        (["no/such"], {}, "no/such is neither a directory, a .gguf file nor a model of the catalog"),
        (["meta/llama-2-7b-chat"], {}, "`corral pull meta-llama/Llama-2-7b-chat-hf` fetches them"),
        (["--data-dir", "/proc/corral"], {}, "data_dir: /proc/corral cannot be written"),
    ],
)
def test_invalid_serve_options_fail_with_one_sentence(
    tmp_path: Path, arguments: list[str], settings: dict[str, str], said: str
) -> None:
    assert said in refusal(*arguments, **{"CORRAL_DATA_DIR": str(tmp_path), **settings})


def test_a_directory_without_a_model_is_refused(tmp_path: Path) -> None:
    assert "config.json" in refusal(str(tmp_path), CORRAL_DATA_DIR=str(tmp_path / "data"))


def broken(tmp_path: Path, *, how: str) -> Path:
    """A checkpoint that cannot be served."""
    checkpoint = TinyLlama(vocab=4096).write(tmp_path / how)
    (checkpoint / "tokenizer.json").write_bytes((DEMO / "tokenizer.json").read_bytes())
    weights = checkpoint / "model.safetensors"
    match how:
        case "no-weights":
            weights.unlink()
        case "truncated":
            weights.write_bytes(weights.read_bytes()[:-1000])
        case "bad-header":
            weights.write_bytes(struct.pack("<Q", 2**40) + weights.read_bytes()[8:])
        case _:
            config = json.loads((checkpoint / "config.json").read_text())
            config["architectures"] = ["MixtralForCausalLM"]
            (checkpoint / "config.json").write_text(json.dumps(config))
    return checkpoint


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("no-weights", "safetensors"),
        ("truncated", "model.safetensors"),
        ("bad-header", "model.safetensors"),
        ("architecture", "MixtralForCausalLM"),
    ],
)
def test_a_checkpoint_that_cannot_be_served_is_refused_in_a_sentence(tmp_path: Path, how: str, said: str) -> None:
    stderr = refusal(str(broken(tmp_path, how=how)), CORRAL_DATA_DIR=str(tmp_path / "data"))
    assert said in stderr
    assert stderr.startswith("corral: ")
    assert stderr.count("\n") == 1
