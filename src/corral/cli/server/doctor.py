"""``corral doctor``: check whether this machine can run a server, with a remedy for each problem."""

import errno
import os
import platform
import re
import shutil
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.text import Text

from corral.assembly import MORE_MEMORY, Outlook, Survey
from corral.checkpoints.source import open_source
from corral.cli.client.channel import Channel
from corral.cli.client.connection import Connection, RequestFailed
from corral.cli.client.http import Client
from corral.core.errors import CheckpointRefused, shown_memory

_GIB_BYTES = 1024**3
_OLDEST_PYTHON = (3, 11)
_SPARE_MEMORY_BYTES = 2 * _GIB_BYTES
_SPARE_DISK_BYTES = 2 * _GIB_BYTES
_ROOM_FOR_LLAMA2 = "Llama 2 7B needs about 4 GiB in int4, 7 GiB in int8"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class Verdict(StrEnum):
    """Result of a check."""

    OK = "ok"
    WARN = "warn"
    """Serving works, with a limitation."""
    FAIL = "fail"
    """Serving does not work, or is not safe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Result of one check, with a finding and a remedy."""

    name: str
    verdict: Verdict
    finding: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """Paths and address that ``corral serve`` would use."""

    data_dir: Path
    key_file: Path
    host: str
    port: int
    demo_dir: Path
    """Directory of the demo model."""
    survey: Survey
    """The deployments of the settings."""


Locate = Callable[[], Installation]
"""Reads the paths and address from the settings."""

_STYLES = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "bold red"}


def doctor_command(locate: Locate) -> Callable[..., None]:
    """Create the command, for ``app.command("doctor")``."""

    def doctor(*, as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False) -> None:
        """Check whether this machine can run a server, and print what to do if not."""
        checks = list(examine(locate()))
        if as_json:
            typer.echo(orjson.dumps([asdict(check) for check in checks], option=orjson.OPT_INDENT_2))
        else:
            _print(checks)
        if any(check.verdict is Verdict.FAIL for check in checks):
            raise typer.Exit(1)

    return doctor


def examine(installation: Installation) -> Iterator[Check]:
    """Run all checks, in the order in which a start would fail."""
    yield check_python(sys.version_info[:3])
    yield check_cpu(sys.platform, platform.machine(), _cpu_flags())
    yield check_packages()
    yield check_memory(_available_memory_bytes())
    yield check_disk(installation.data_dir)
    yield check_data_dir(installation.data_dir)
    yield check_key_file(installation.key_file)
    yield check_port(installation.host, installation.port)
    yield check_demo(installation.demo_dir)
    yield from map(check_deployment, installation.survey.deployments)
    yield check_together(installation.survey)
    yield check_budget(installation.survey)


def check_python(running: tuple[int, ...]) -> Check:
    """Check that the Python version is supported."""
    finding = ".".join(map(str, running))
    if running < _OLDEST_PYTHON:
        oldest = ".".join(map(str, _OLDEST_PYTHON))
        return Check(name="python", verdict=Verdict.FAIL, finding=finding, remedy=f"Use Python {oldest} or newer.")
    return Check(name="python", verdict=Verdict.OK, finding=finding)


def check_cpu(system: str, machine: str, flags: frozenset[str]) -> Check:
    """Check that the platform is supported, and which vector instructions the CPU has.

    *flags* are those in ``/proc/cpuinfo``; empty if there is no such file.
    """
    finding = f"{system} {machine}"
    if system not in {"linux", "darwin"}:
        remedy = "Use Linux or macOS: the engine's worker process is connected by a Unix socket."
        return Check(name="cpu", verdict=Verdict.FAIL, finding=finding, remedy=remedy)
    if machine != "x86_64" or not flags:
        return Check(name="cpu", verdict=Verdict.OK, finding=finding)
    useful = [flag for flag in ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8") if flag in flags]
    if "avx2" not in useful:
        remedy = "Answers will be slow: use a processor with AVX2 or AVX-512."
        return Check(name="cpu", verdict=Verdict.WARN, finding=f"{finding} without AVX2", remedy=remedy)
    return Check(name="cpu", verdict=Verdict.OK, finding=f"{finding} with {', '.join(useful)}")


def check_packages() -> Check:
    """Check that all required packages are installed in a supported version."""
    wanted = [match for line in requires("corral") or [] if (match := re.fullmatch(r"([\w.-]+)>=([\d.]+)", line))]
    faults = [fault for name, oldest in (match.groups() for match in wanted) if (fault := _package_fault(name, oldest))]
    if faults:
        return Check(name="packages", verdict=Verdict.FAIL, finding="; ".join(faults), remedy="Run `make install`.")
    finding = f"{len(wanted)} installed; openvino {version('openvino')}, corral {version('corral')}"
    return Check(name="packages", verdict=Verdict.OK, finding=finding)


def check_memory(available_bytes: int | None) -> Check:
    """Check the available memory; None if the system does not report it."""
    if available_bytes is None:
        return Check(name="memory", verdict=Verdict.OK, finding="unknown on this system")
    finding = f"{available_bytes / _GIB_BYTES:.1f} GiB available; {_ROOM_FOR_LLAMA2}"
    if available_bytes < _SPARE_MEMORY_BYTES:
        remedy = "Close other programs; the demo model needs 2 GiB."
        return Check(name="memory", verdict=Verdict.WARN, finding=finding, remedy=remedy)
    return Check(name="memory", verdict=Verdict.OK, finding=finding)


def check_disk(data_dir: Path) -> Check:
    """Check the disk space for converted models."""
    free_bytes = shutil.disk_usage(_nearest(data_dir)).free
    finding = f"{free_bytes / _GIB_BYTES:.1f} GiB free for {data_dir}; {_ROOM_FOR_LLAMA2}"
    if free_bytes < _SPARE_DISK_BYTES:
        remedy = "Free some space, or choose another place with --data-dir."
        return Check(name="disk", verdict=Verdict.WARN, finding=finding, remedy=remedy)
    return Check(name="disk", verdict=Verdict.OK, finding=finding)


def check_data_dir(data_dir: Path) -> Check:
    """Check that the data directory exists or can be created, and is writable and private."""
    nearest = _nearest(data_dir)
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        remedy = "Make it writable, or choose another place with --data-dir."
        return Check(name="data dir", verdict=Verdict.FAIL, finding=f"{nearest} is not writable", remedy=remedy)
    if nearest != data_dir:
        return Check(name="data dir", verdict=Verdict.OK, finding=f"{data_dir} will be created")
    mode = stat.S_IMODE(data_dir.stat().st_mode)
    if mode & _OTHERS:
        return Check(
            name="data dir",
            verdict=Verdict.WARN,
            finding=f"{data_dir} has mode {mode:04o}, so other users can read it",
            remedy=f"chmod 700 {data_dir}",
        )
    return Check(name="data dir", verdict=Verdict.OK, finding=f"{data_dir}, mode {mode:04o}")


def check_key_file(key_file: Path) -> Check:
    """Check that only its owner can read the API key file."""
    try:
        mode = stat.S_IMODE(key_file.stat().st_mode)
    except FileNotFoundError:
        return Check(name="key file", verdict=Verdict.OK, finding="will be created at the first start")
    except OSError as error:
        finding = f"{key_file} cannot be checked: {error.strerror}"
        return Check(name="key file", verdict=Verdict.FAIL, finding=finding, remedy="Run it as the server's user.")
    if mode & _OTHERS:
        return Check(
            name="key file",
            verdict=Verdict.FAIL,
            finding=f"{key_file} has mode {mode:04o}, so other users can read the key",
            remedy=f"chmod 600 {key_file}",
        )
    return Check(name="key file", verdict=Verdict.OK, finding=f"{key_file}, mode {mode:04o}")


def check_port(host: str, port: int) -> Check:
    """Check that the address is free, or in use by Corral."""
    where = f"{host}:{port}"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return _check_neighbour(host, port)
        finding = f"{where} cannot be used: {error.strerror}"
        remedy = "Choose another address with --host and --port."
        return Check(name="port", verdict=Verdict.FAIL, finding=finding, remedy=remedy)
    return Check(name="port", verdict=Verdict.OK, finding=f"{where} is free")


def check_demo(demo_dir: Path) -> Check:
    """Check that the files of the demo model exist."""
    missing = [
        " or ".join(names)
        for names in (("config.json",), ("*.safetensors",), ("tokenizer.json", "tokenizer.model"))
        if not any(any(demo_dir.glob(name)) for name in names)
    ]
    if missing:
        finding = f"{demo_dir} lacks {', '.join(missing)}"
        return Check(name="demo model", verdict=Verdict.FAIL, finding=finding, remedy="Install Corral again.")
    return Check(name="demo model", verdict=Verdict.OK, finding=f"{demo_dir}")


def check_deployment(outlook: Outlook) -> Check:
    """Check checkpoint, tokenizer and options of one deployment in the settings, without reading its tensors."""
    name = f"deployment {outlook.name}"
    if outlook.fault is not None or outlook.path is None or outlook.memory is None:
        if isinstance(outlook.fault, CheckpointRefused):
            remedy = "Give it other weights; docs/models.md says which can be served."
        else:
            remedy = "Correct the settings; docs/deployments.md describes them."
        return Check(name=name, verdict=Verdict.FAIL, finding=str(outlook.fault).rstrip("."), remedy=remedy)
    config = open_source(outlook.path).read_config()
    layers, width = config.get("num_hidden_layers"), config.get("hidden_size")
    finding = f"{outlook.path}, {layers} layers of width {width}, {shown_memory(outlook.memory.loaded)} while loaded"
    return Check(name=name, verdict=Verdict.OK, finding=finding)


def check_together(survey: Survey) -> Check:
    """Check that no two deployments have a name in common."""
    if survey.fault is not None:
        remedy = "Correct the settings; docs/deployments.md describes them."
        return Check(name="names", verdict=Verdict.FAIL, finding=str(survey.fault).rstrip("."), remedy=remedy)
    return Check(name="names", verdict=Verdict.OK, finding="no two deployments answer to one name")


def check_budget(survey: Survey) -> Check:
    """Check that the deployments loaded at the start fit in memory, and each other one beside them."""
    budget = shown_memory(survey.budget_bytes)
    if survey.shortage is not None:
        finding = survey.shortage.rstrip(".")
        return Check(name="budget", verdict=Verdict.FAIL, finding=finding, remedy=MORE_MEMORY)
    at_start = [one.memory.loaded for one in survey.deployments if one.loads_at_start and one.memory is not None]
    finding = f"{shown_memory(sum(at_start))} of {budget} for {len(at_start)} loaded at the start"
    return Check(name="budget", verdict=Verdict.OK, finding=finding)


def _check_neighbour(host: str, port: int) -> Check:
    """Check whether the program that uses the port is Corral."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    url = f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"
    try:
        with Channel(Connection(url=url)) as server:
            state = Client(server).state()
    except RequestFailed:
        return Check(
            name="port",
            verdict=Verdict.FAIL,
            finding=f"{host}:{port} is used by another program",
            remedy="Stop that program, or choose another port with --port.",
        )
    return Check(name="port", verdict=Verdict.OK, finding=f"Corral answers at {url} ({state})")


def _nearest(path: Path) -> Path:
    """Return *path*, or its nearest parent that exists."""
    return next(place for place in (path, *path.absolute().parents) if os.path.exists(place))


def _package_fault(name: str, oldest: str) -> str | None:
    try:
        found = version(name)
    except PackageNotFoundError:
        return f"{name} is missing"
    return None if _release(found) >= _release(oldest) else f"{name} {found} is older than {oldest}"


def _release(text: str) -> tuple[int, ...]:
    """Parse the leading numbers of a version: ``2026.4.1rc1`` is (2026, 4, 1)."""
    leading = re.match(r"\d+(\.\d+)*", text)
    return tuple(map(int, leading.group().split("."))) if leading else ()


def _cpu_flags() -> frozenset[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return frozenset()
    flags = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    return frozenset(flags.group(1).split()) if flags else frozenset()


def _available_memory_bytes() -> int | None:
    """Get the available memory on Linux, or the limit of the control group if it is lower."""
    try:
        available = re.search(r"^MemAvailable:\s*(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    except OSError:
        return None
    if available is None:
        return None
    available_bytes = int(available.group(1)) * 1024
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return available_bytes
    return min(available_bytes, int(limit)) if limit.isdigit() else available_bytes


def _print(checks: list[Check]) -> None:
    console = Console(soft_wrap=True, highlight=False)
    width = max(len(check.name) for check in checks)
    for check in checks:
        line = Text(f"{check.verdict:<5}", style=_STYLES[check.verdict])
        line.append(f"{check.name:<{width}} {check.finding}", style="default")
        if check.remedy is not None:
            line.append(f" - {check.remedy}", style="bold default")
        console.print(line)
