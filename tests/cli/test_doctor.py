"""Each check sees what it is for, and a failing one ends the command with status 1."""

import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
import typer

from corral.cli.server import doctor
from corral.cli.server.doctor import Installation, Verdict, doctor_command
from tests.cli.fake_server import FakeServer
from tests.cli.processes import Result, run_in_pipes
from tests.oracle.gguf_llama import GgufLlama
from tests.vocabulary import write_with_vocabulary


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A port that something else than Corral listens on."""
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
    return Installation(data_dir=data_dir, key_file=key_file, host="127.0.0.1", port=port, demo_dir=demo_dir)


def run(installation: Installation, *arguments: str) -> Result:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(doctor_command(lambda: installation))
    return run_in_pipes(app, arguments, b"")


def test_doctor_prints_one_line_per_passed_check(installation: Installation) -> None:
    done = run(installation)
    lines = done.stdout.decode().splitlines()
    assert done.status == 0
    assert len(lines) == 9
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
    assert len(checks) == 9
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


def test_configured_checkpoint_is_checked_in_both_formats(installation: Installation, tmp_path: Path) -> None:
    model = GgufLlama()
    directory = write_with_vocabulary(model, tmp_path / "mine")
    for path in (directory, model.write_gguf(tmp_path / "mine.gguf")):
        [check] = [found for found in doctor.examine(replace(installation, checkpoint=path)) if found.name == "model"]
        assert (check.verdict, check.finding) == (Verdict.OK, f"{path}, 2 layers of width 64")
    (directory / "tokenizer.json").unlink()
    (tmp_path / "mine.gguf").write_bytes(b"GGUF")
    for path, said in ((directory, "has no tokenizer"), (tmp_path / "mine.gguf", "mine.gguf is truncated")):
        check = doctor.check_checkpoint(path)
        assert check.verdict is Verdict.FAIL
        assert said in check.finding


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
