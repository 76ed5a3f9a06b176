"""Fixtures that every test may use."""

import pytest

import corral.engines.openvino  # noqa: F401  # pyright: ignore[reportUnusedImport] - turns OpenVINO's telemetry off


@pytest.fixture
def anyio_backend() -> str:
    """Run async tests on asyncio, the loop the server runs on."""
    return "asyncio"
