"""Install a pinned Python package into an environment, with pip or uv, without its dependencies."""

import importlib
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from corral.catalog.hub_files import PullFailed

_TIMEOUT_S: Final = 1800
_MOST_SHOWN: Final = 400


def install(requirement: Path) -> None:
    """Install the packages of a requirements file with hashes into the running environment.

    The registry is the one that pip or uv is configured for.

    Raises:
        PullFailed: there is neither pip nor uv, or the installation failed.
    """
    command = [*_installer(), "--no-deps", "--require-hashes", "-r", str(requirement)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)  # noqa: S603 - fixed arguments
    except subprocess.TimeoutExpired as error:
        raise PullFailed(f"`{' '.join(command)}` did not end within {_TIMEOUT_S} s.") from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip())[-_MOST_SHOWN:]
        raise PullFailed(f"`{' '.join(command)}` failed with exit status {done.returncode}: {said}")
    importlib.invalidate_caches()


def _installer() -> list[str]:
    if find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.is_file() else shutil.which("uv")
    if uv is None:
        raise PullFailed(
            f"The environment of {sys.executable} has no pip, and uv is not on PATH. Run `{sys.executable} -m "
            "ensurepip`, then pull again."
        )
    return [uv, "pip", "install", "--quiet", "--python", sys.executable]
