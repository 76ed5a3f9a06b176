"""The stepper that most tests of it share."""

import pytest

from corral.engines.openvino.stepper import OpenVinoStepper
from tests.oracle.batches import POOL_BLOCKS, build_tiny
from tests.oracle.llama import GQA


@pytest.fixture(scope="module")
def stepper(tmp_path_factory: pytest.TempPathFactory) -> OpenVinoStepper:
    """Int8, as served by default, with a pool of one context; chunks of 64 so that a prompt takes several steps."""
    directory = tmp_path_factory.mktemp("stepper")
    return build_tiny(GQA, directory, kv_blocks=POOL_BLOCKS, max_batched_tokens=64)
