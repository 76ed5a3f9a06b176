"""Continue a prompt greedily with the random models of ``tests/oracle/variants.py``, in Transformers.

``tests/oracle/test_transformers.py`` compares the NumPy forward pass of the tests with the result. To make it again, in
a virtual environment with torch 2.13.0 and transformers 5.24.0, from the root of the repository::

    python -m training.reference.architectures tests/oracle/data/architectures.json
"""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import transformers
from transformers import AutoModelForCausalLM

from tests.oracle.llama import TinyLlama
from tests.oracle.variants import VARIANTS

PROMPT = [1, 5, 7, 9]
ANSWER_TOKENS = 64
SHOWN_LOGITS = 8


@torch.no_grad()
def continue_prompt(model: TinyLlama, directory: Path) -> dict[str, object]:
    """Greedy tokens, and the first logits after the prompt and after the whole answer."""
    loaded = AutoModelForCausalLM.from_pretrained(model.write(directory), dtype=torch.float32).eval()
    ids = list(PROMPT)
    for _ in range(ANSWER_TOKENS):
        ids.append(int(loaded(torch.tensor([ids])).logits[0, -1].argmax()))
    logits = loaded(torch.tensor([ids])).logits[0, [len(PROMPT) - 1, -1], :SHOWN_LOGITS]
    return {"class": type(loaded).__name__, "ids": ids[len(PROMPT) :], "logits": logits.double().tolist()}


def main() -> None:
    """Write the results: ``python -m training.reference.architectures OUTPUT.json``."""
    found: dict[str, object] = {}
    for name, model in VARIANTS.items():
        with TemporaryDirectory() as directory:
            found[name] = continue_prompt(model, Path(directory))
    document = {
        "made_by": "python -m training.reference.architectures",
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "prompt_ids": PROMPT,
        "variants": found,
    }
    lines = json.dumps(document, indent=1).replace("\n    ", " ").replace("\n   ]", " ]")
    Path(sys.argv[1]).write_text(lines + "\n")


if __name__ == "__main__":
    main()
