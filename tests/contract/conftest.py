"""Every engine, started once for the whole module."""

import os
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from corral.engines.base import Engine
from corral.engines.openvino.options import OpenVinoOptions
from corral.engines.supervisor import SupervisedEngine, WorkerLaunch
from tests.engines import scripted_engine
from tests.oracle.llama import TinyLlama


def openvino_engine(directory: Path) -> SupervisedEngine:
    """A random two-layer GQA Llama in int8."""
    checkpoint = TinyLlama(kv_heads=2, context_tokens=512).write(directory / "checkpoint")
    options = OpenVinoOptions(checkpoint=str(checkpoint), cache_dir=str(directory / "cache"), kv_blocks=64)
    return SupervisedEngine(WorkerLaunch(engine="openvino", options=asdict(options), environment=dict(os.environ)))


ENGINES: dict[str, Callable[[Path], SupervisedEngine]] = {
    "scripted": lambda _: scripted_engine(step_s=0.0005),
    "openvino": openvino_engine,
}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One loop for the module, so that its engines live through it."""
    return "asyncio"


@pytest.fixture(scope="module", params=ENGINES)
async def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    """An engine that is ready."""
    made = ENGINES[request.param](tmp_path_factory.mktemp(request.param))
    async with made.run():
        await made.ready()
        yield made
