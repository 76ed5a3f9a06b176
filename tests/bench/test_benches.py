"""Each program under bench/ completes in a few seconds and prints its results."""

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from corral.catalog.catalog import demo_checkpoint
from tests.doors.live_server import SECRET
from tests.server.conftest import RealServer, anyio_backend, server

__all__ = ["anyio_backend", "server"]

BENCH = Path(__file__).parents[2] / "bench"
LIMIT_S = 120

pytestmark = pytest.mark.anyio


async def run(program: str, *arguments: object) -> list[dict[str, Any]]:
    """The JSON lines that a bench prints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(BENCH / program), *map(str, arguments)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(LIMIT_S):
        output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return [json.loads(line) for line in output.splitlines()]


def test_every_bench_is_run_by_a_test() -> None:
    programs = {str(path.relative_to(BENCH)) for path in BENCH.rglob("*.py")}
    run_here = set(re.findall(r'run\("([a-z_/]+\.py)"', Path(__file__).read_text()))
    assert programs == run_here | {"overhead/gateway.py"}  # which overhead.py starts


async def test_overhead_bench_counts_every_token_once() -> None:
    options = ("--tokens", 32, "--step-ms", 2, "--answers", 4)
    lines = await run("overhead/overhead.py", "--streams", 2, 256, *options)
    assert [each["what"] for each in lines] == ["bare", "served", "added"] * 2
    assert [each["answers"] for each in lines if "answers" in each] == [4, 4, 256, 256]
    # A token is a step of 2 ms; counted twice it would take half of that.
    assert min(each["token_ms"]["p50"] for each in lines[:2]) > 1.5


async def test_http_throughput_counts_every_token(server: RealServer) -> None:
    options = ("--streams", 1, 2, "--new-tokens", 4, "--runs", 1)
    lines = await run("http/throughput.py", server.url, SECRET, *options)
    assert [(each["streams"], each["median"] > 0) for each in lines] == [(1, True), (2, True)]


async def test_engine_throughput_measures_the_demo_model(tmp_path: Path) -> None:
    options = ("--streams", 1, 2, "--new-tokens", 4, "--runs", 1)
    lines = await run("engine/throughput.py", demo_checkpoint(), tmp_path, *options)
    assert [(each["streams"], each["median"] > 0) for each in lines] == [(1, True), (2, True)]


async def test_random_checkpoint_conversion_is_measured(tmp_path: Path) -> None:
    checkpoint = tmp_path / "random"
    assert await run("engine/random_checkpoint.py", checkpoint, "--size", "15m") == []
    (watched,) = await run("engine/conversion_memory.py", checkpoint, tmp_path / "cache", "--weights", "int4")
    assert watched["exit_status"] == 0
    assert watched["output_gb"] > 0
    assert watched["peak_RssAnon_gb"] > 0
