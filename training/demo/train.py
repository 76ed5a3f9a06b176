"""Start the training: ``python training/demo/train.py --out src/corral/demo``, from any folder."""

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    runpy.run_module("training.demo.recipe", run_name="__main__")
