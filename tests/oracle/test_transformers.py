"""The naive forward pass of these tests against Transformers, which read the same random checkpoints.

The results of Transformers were made once by ``training/reference/architectures.py``.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.oracle.llama import CLASSES, forward
from tests.oracle.variants import VARIANTS

DOCUMENT = json.loads((Path(__file__).parent / "data" / "architectures.json").read_text())
PROMPT: list[int] = DOCUMENT["prompt_ids"]


def test_every_variant_is_compared() -> None:
    assert DOCUMENT["variants"].keys() == VARIANTS.keys()


@pytest.mark.parametrize("name", VARIANTS)
def test_forward_pass_equals_transformers(name: str) -> None:
    model, expected = VARIANTS[name], DOCUMENT["variants"][name]
    assert expected["class"] == CLASSES[model.architecture]
    logits = forward(model, PROMPT + expected["ids"])
    assert logits[len(PROMPT) - 1 : -1].argmax(axis=-1).tolist() == expected["ids"]
    shown = logits[[len(PROMPT) - 1, -1], : len(expected["logits"][0])]
    np.testing.assert_allclose(shown, expected["logits"], atol=2e-4)
