"""Every engine, started once for the whole module."""

import os
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from corral.engines.base import Engine
from corral.engines.openvino.limits import read_limits
from corral.engines.openvino.options import OPENVINO_CAPABILITIES, OpenVinoOptions
from corral.engines.queued import QueuedEngine
from corral.engines.subprocess.worker import SubprocessWorker, WorkerLaunch
from tests.engines import scripted_engine
from tests.oracle.llama import TinyLlama


def openvino_engine(directory: Path) -> QueuedEngine:
    """A random two-layer GQA Llama in int8."""
    checkpoint = TinyLlama(kv_heads=2, context_tokens=512).write(directory / "checkpoint")
    options = OpenVinoOptions(checkpoint=str(checkpoint), cache_dir=str(directory / "cache"), kv_blocks=64)
    worker = SubprocessWorker(WorkerLaunch(engine="openvino", options=asdict(options), environment=dict(os.environ)))
    limits = read_limits(options, max_sequences=256)
    return QueuedEngine([worker], limits=limits, capabilities=OPENVINO_CAPABILITIES)


ENGINES: dict[str, Callable[[Path], QueuedEngine]] = {
    "scripted": lambda _: scripted_engine(step_s=0.0005),
    "three workers": lambda _: scripted_engine(workers=3, step_s=0.0005, kv_blocks=128),
    "openvino": openvino_engine,
}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop for the module, because the engines are shared."""
    return "asyncio"


@pytest.fixture(scope="module", params=ENGINES)
async def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    """An engine that is ready."""
    made = ENGINES[request.param](tmp_path_factory.mktemp(request.param))
    async with made.run():
        await made.ready()
        yield made
