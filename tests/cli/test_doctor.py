"""Each check of ``corral doctor`` detects its problem; a failed check gives exit status 1."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer

from corral.assembly import survey
from corral.checkpoints.tokenizers.byte_fallback import BYTE_PIECES, WORD_BORDER
from corral.cli.server import doctor
from corral.cli.server.doctor import Check, Installation, Verdict, doctor_command
from corral.settings import load_settings
from tests.cli.fake_server import FakeServer
from tests.cli.processes import Result, run_in_pipes
from tests.demo_server import demo_settings
from tests.oracle.gguf_llama import GgufLlama
from tests.oracle.llama import TinyLlama
from tests.unit.text.conftest import document_of


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A port used by a program other than Corral."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    """A sound one, at a port that is free."""
    demo_dir = tmp_path / "demo"
    demo_dir.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (demo_dir / name).touch()
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o700)
    key_file = data_dir / "key"
    key_file.touch(mode=0o600)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return Installation(
        data_dir=data_dir,
        key_file=key_file,
        host="127.0.0.1",
        port=port,
        demo_dir=demo_dir,
        survey=survey(demo_settings(str(data_dir), memory_budget="4GiB")),
    )


def write_checkpoint(directory: Path) -> Path:
    """Write a random checkpoint whose tokenizer knows bytes only."""
    pieces = ["<unk>", "<s>", "</s>", *BYTE_PIECES, WORD_BORDER]
    path = TinyLlama(vocab=len(pieces)).write(directory)
    (path / "tokenizer.json").write_text(json.dumps(document_of(pieces, [])))
    return path


def write_settings(directory: Path, *tables: dict[str, Any], **more: Any) -> Path:
    """Write a settings file with these deployments."""
    values = {"data_dir": str(directory / "served"), "memory_budget": "4GiB", **more}
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    for table in tables:
        lines += ["[[deployments]]", *(f"{name} = {json.dumps(value)}" for name, value in table.items())]
    (directory / "corral.toml").write_text("\n".join(lines))
    return directory / "corral.toml"


def deployment_checks(installation: Installation, settings_file: Path) -> dict[str, Check]:
    """Run the checks of the deployments in a settings file, by name."""
    settings = load_settings({}, {"CORRAL_CONFIG": str(settings_file)})
    checks = list(doctor.examine(replace(installation, survey=survey(settings))))
    return {check.name: check for check in checks[9:]}


def run(installation: Installation, *arguments: str) -> Result:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(doctor_command(lambda: installation))
    return run_in_pipes(app, arguments, b"")


def test_doctor_prints_one_line_per_passed_check(installation: Installation) -> None:
    done = run(installation)
    lines = done.stdout.decode().splitlines()
    assert done.status == 0
    assert len(lines) == 12
    assert all(line.startswith(("ok ", "warn ")) for line in lines)


def test_a_failed_check_ends_with_status_1_and_its_remedy(installation: Installation) -> None:
    installation.key_file.chmod(0o644)
    done = run(installation)
    assert done.status == 1
    line = next(line for line in done.stdout.decode().splitlines() if "key file" in line)
    assert line.startswith("fail")
    assert f"chmod 600 {installation.key_file}" in line


def test_json_holds_every_check(installation: Installation) -> None:
    installation.data_dir.chmod(0o755)
    checks = {check["name"]: check for check in json.loads(run(installation, "--json").stdout)}
    assert len(checks) == 12
    assert checks["port"] == {
        "name": "port",
        "verdict": "ok",
        "finding": f"127.0.0.1:{installation.port} is free",
        "remedy": None,
    }
    assert checks["data dir"]["verdict"] == "warn"
    assert checks["data dir"]["remedy"] == f"chmod 700 {installation.data_dir}"


def test_port_used_by_another_program_fails(installation: Installation, fake: FakeServer) -> None:
    port = int(fake.url.rpartition(":")[2])
    fake.health = (200, {"status": "something else"})
    check = doctor.check_port("127.0.0.1", port)
    assert (check.verdict, check.finding) == (Verdict.FAIL, f"127.0.0.1:{port} is used by another program")
    fake.health = (404, ["no such page"])
    assert run(replace(installation, port=port)).status == 1


@pytest.mark.parametrize(("status", "state"), [(200, "ready"), (503, "starting"), (503, "storage_failed")])
def test_port_used_by_corral_passes(fake: FakeServer, status: int, state: str) -> None:
    fake.health = (status, {"status": state})
    check = doctor.check_port("127.0.0.1", int(fake.url.rpartition(":")[2]))
    assert (check.verdict, check.finding) == (Verdict.OK, f"Corral answers at {fake.url} ({state})")


def test_address_of_another_machine_fails() -> None:
    assert doctor.check_port("192.0.2.1", 8000).verdict is Verdict.FAIL


def test_a_host_name_is_looked_up(installation: Installation) -> None:
    assert doctor.check_port("localhost", installation.port).verdict is Verdict.OK
    assert doctor.check_port("no-such-host.invalid", installation.port).verdict is Verdict.FAIL


def test_missing_data_directory_that_can_be_created_passes(tmp_path: Path) -> None:
    check = doctor.check_data_dir(tmp_path / "not" / "yet")
    assert (check.verdict, check.finding) == (Verdict.OK, f"{tmp_path / 'not' / 'yet'} will be created")


def test_a_file_in_the_place_of_the_data_directory_fails(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert doctor.check_data_dir(tmp_path / "file").verdict is Verdict.FAIL
    assert doctor.check_data_dir(tmp_path / "file" / "below").verdict is Verdict.FAIL


def test_a_key_file_that_is_not_there_yet_passes(tmp_path: Path) -> None:
    assert doctor.check_key_file(tmp_path / "key").verdict is Verdict.OK


def test_an_incomplete_demo_model_fails_by_name(installation: Installation) -> None:
    (installation.demo_dir / "tokenizer.json").unlink()
    check = doctor.check_demo(installation.demo_dir)
    assert check.verdict is Verdict.FAIL
    assert check.finding.endswith("lacks tokenizer.json or tokenizer.model")
    assert doctor.check_demo(installation.demo_dir / "nowhere").verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("system", "machine", "flags", "verdict"),
    [
        ("linux", "x86_64", {"avx2", "avx512f"}, Verdict.OK),
        ("linux", "x86_64", {"sse4_2"}, Verdict.WARN),
        ("linux", "aarch64", {"asimd"}, Verdict.OK),
        ("darwin", "arm64", set[str](), Verdict.OK),
        ("win32", "AMD64", set[str](), Verdict.FAIL),
    ],
)
def test_processor_check_uses_platform_and_vector_instructions(
    system: str, machine: str, flags: set[str], verdict: Verdict
) -> None:
    assert doctor.check_cpu(system, machine, frozenset(flags)).verdict is verdict


def test_every_configured_deployment_is_checked_in_both_formats(installation: Installation, tmp_path: Path) -> None:
    directory, file = write_checkpoint(tmp_path / "mine"), GgufLlama().write_gguf(tmp_path / "other.gguf")
    on_demand = {"name": "second", "weights": str(file), "load": "on-demand"}
    checks = deployment_checks(installation, write_settings(tmp_path, {"weights": str(directory)}, on_demand))
    assert list(checks) == ["deployment local/mine", "deployment second", "names", "budget"]
    assert {check.verdict for check in checks.values()} == {Verdict.OK}
    assert checks["deployment local/mine"].finding.startswith(f"{directory}, 2 layers of width 64, ")
    assert checks["deployment second"].finding.startswith(f"{file}, 2 layers of width 64, ")
    assert checks["budget"].finding.endswith(" of 4.0 GiB for 1 loaded at the start")
    assert not (tmp_path / "served").exists()


def test_each_unservable_deployment_fails_by_name(installation: Installation, tmp_path: Path) -> None:
    mute = write_checkpoint(tmp_path / "mute")
    (mute / "tokenizer.json").unlink()
    (tmp_path / "short.gguf").write_bytes(b"GGUF")
    settings = write_settings(
        tmp_path,
        {"name": "absent", "weights": "/nowhere"},
        {"name": "mute", "weights": str(mute)},
        {"name": "short", "weights": str(tmp_path / "short.gguf")},
        {"name": "named", "weights": "corral/demo", "models": ["local/x"]},
        {"weights": "corral/demo"},
    )
    checks = deployment_checks(installation, settings)
    findings = {
        "absent": "weights of deployment absent: /nowhere is neither a directory",
        "mute": f"{mute} holds neither tokenizer.json nor tokenizer.model",
        "short": "short.gguf is truncated",
        "named": "models of deployment named: corral/demo answers to its own name",
    }
    for name, finding in findings.items():
        assert checks[f"deployment {name}"].verdict is Verdict.FAIL
        assert finding in checks[f"deployment {name}"].finding
        assert checks[f"deployment {name}"].remedy
    passed = [name for name, check in checks.items() if check.verdict is Verdict.OK]
    assert passed == ["deployment corral/demo", "names", "budget"]


def test_deployments_that_do_not_fit_together_fail(installation: Installation, tmp_path: Path) -> None:
    mine = str(write_checkpoint(tmp_path / "mine"))
    twice = write_settings(tmp_path, {"weights": mine, "name": "a"}, {"weights": mine, "name": "b"})
    check = deployment_checks(installation, twice)["names"]
    assert check.verdict is Verdict.FAIL
    assert check.finding.startswith("The deployments a and b both answer to local/mine.")
    both = ({"weights": mine, "name": "a"}, {"weights": "corral/demo", "name": "b", "load": "on-demand"})
    check = deployment_checks(installation, write_settings(tmp_path, *both, memory_budget="600MiB"))["budget"]
    assert check.verdict is Verdict.FAIL
    assert check.finding.startswith("The deployment 'b' needs ")
    assert check.finding.endswith("are available beside the deployments that are loaded at the start")
    assert "raise `memory_budget`" in str(check.remedy)


def test_the_command_checks_the_deployments_in_the_settings_file(tmp_path: Path) -> None:
    settings = write_settings(tmp_path, {"name": "tiny", "weights": "/nowhere"}, port=0)
    done = subprocess.run(
        [sys.executable, "-m", "corral", "doctor", "--json"],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "CORRAL_CONFIG": str(settings)},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert [check["name"] for check in json.loads(done.stdout) if check["verdict"] == "fail"] == ["deployment tiny"]
    assert not (tmp_path / "served").exists()


@pytest.mark.parametrize(("running", "verdict"), [((3, 10, 9), Verdict.FAIL), ((3, 11, 0), Verdict.OK)])
def test_an_old_python_fails(running: tuple[int, ...], verdict: Verdict) -> None:
    assert doctor.check_python(running).verdict is verdict


@pytest.mark.parametrize(
    ("available_bytes", "verdict"), [(2**30, Verdict.WARN), (2**33, Verdict.OK), (None, Verdict.OK)]
)
def test_little_memory_is_a_warning(available_bytes: int | None, verdict: Verdict) -> None:
    assert doctor.check_memory(available_bytes).verdict is verdict


def test_the_installed_packages_pass() -> None:
    check = doctor.check_packages()
    assert check.verdict is Verdict.OK
    assert f"openvino {version('openvino')}" in check.finding


@pytest.mark.parametrize(
    ("requirement", "finding"),
    [("no-such-package>=1", "no-such-package is missing"), ("typer>=999.1", "is older than 999.1")],
)
def test_a_missing_or_old_package_fails(monkeypatch: pytest.MonkeyPatch, requirement: str, finding: str) -> None:
    def requires(_package: str) -> list[str]:
        return ["rich>=15", requirement]

    monkeypatch.setattr(doctor, "requires", requires)
    check = doctor.check_packages()
    assert check.verdict is Verdict.FAIL
    assert finding in check.finding
