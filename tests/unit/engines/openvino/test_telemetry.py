"""OpenVINO's telemetry is off in every process: seen without the system calls of ``tests/server``."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
ENGINE = ROOT / "src" / "corral" / "engines" / "openvino"
LIBRARIES = {"openvino", "openvino_genai", "openvino_tokenizers"}


@pytest.mark.parametrize("module", ["stepper", "convert", "graph", "detokenizer"])
def test_loading_the_engine_sends_no_event_and_leaves_no_file_in_home(module: str, tmp_path: Path) -> None:
    check = f"import sys, corral.engines.openvino.{module}; sys.exit('openvino_telemetry.main' in sys.modules)"
    # Without CI and its like: the library switches itself off where those are set.
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", check], env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stderr.decode()) == (0, "")
    assert list(tmp_path.iterdir()) == []


def test_programs_import_openvino_through_the_engine_only() -> None:
    importing = {
        file.relative_to(ROOT)
        for folder in ("src", "bench", "tools", "training")
        for file in (ROOT / folder).rglob("*.py")
        if not file.is_relative_to(ENGINE) and imported_packages(file) & LIBRARIES
    }
    assert importing == set()


def imported_packages(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found.add(node.module.partition(".")[0])
    return found
