"""Every engine, started once for the whole module."""

from collections.abc import AsyncIterator

import pytest

from corral.engines.base import Engine
from tests.engines import scripted_engine


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One loop for the module, so that its engines live through it."""
    return "asyncio"


@pytest.fixture(scope="module", params=["scripted"])
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    """An engine that is ready."""
    made = scripted_engine(step_s=0.0005)
    async with made.run():
        await made.ready()
        yield made
