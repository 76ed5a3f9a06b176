"""Fixtures that every test may use."""

import logging
import os

import pytest
import structlog

import corral.engines.openvino  # noqa: F401  # pyright: ignore[reportUnusedImport] - turns OpenVINO's telemetry off

# Servers that tests start without a model: not the larger one, which is served where it is installed.
os.environ["CORRAL_MODEL"] = "corral/demo"

# As the server has it: structlog's own default writes every level to standard output, among what commands print there.
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))


@pytest.fixture
def anyio_backend() -> str:
    """Run async tests on asyncio, the loop the server runs on."""
    return "asyncio"
