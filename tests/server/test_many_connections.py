"""More idle connections than the soft limit of open files: the server raises it and keeps serving."""

import asyncio
import resource
from pathlib import Path

import pytest

from tests.server.harness import ServerHarness

pytestmark = pytest.mark.anyio

SOFT_LIMIT = 256
SILENT = 600


async def test_idle_connections_beyond_the_soft_file_limit_do_not_block_new_ones(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * SILENT:
        pytest.skip(f"the hard limit of open files is {hard}")
    harness = ServerHarness.create(tmp_path)
    resource.setrlimit(resource.RLIMIT_NOFILE, (SOFT_LIMIT, hard))  # the server inherits it
    starting = harness.gateway()
    gateway = await starting.__aenter__()
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * SILENT), hard))
    writers: list[asyncio.StreamWriter] = []
    try:
        for _ in range(SILENT):
            _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writers.append(writer)
        async with gateway.http() as http:
            loop = asyncio.get_running_loop()
            begun_s = loop.time()
            assert (await http.get("/health")).status_code == 200
            print(f"/health beside {SILENT} silent connections: {1000 * (loop.time() - begun_s):.0f} ms")
        limits = Path(f"/proc/{gateway.process.pid}/limits").read_text()
        (line,) = [line for line in limits.splitlines() if line.startswith("Max open files")]
        assert int(line.split()[3]) == min(hard, 2**16)
    finally:
        for writer in writers:
            writer.close()
        await starting.__aexit__(None, None, None)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
