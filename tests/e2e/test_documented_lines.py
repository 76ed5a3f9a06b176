"""Run the code blocks of README and docs in order, in a new shell of a fresh clone.

A block that cannot run here has a comment with the reason before it: ``<!-- not run: needs weights … -->``. The shell
has an empty home directory without Corral. Only the port is replaced, because the documented one may be in use.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.markdown_blocks import DATA, PAGES, PROGRAMS, ROOT, Block, Shell, blocks

PATIENCE_S = 300
REASONS = re.compile(r"needs (weights|a hosted service|a receiver|a person|`make dev`)[ ;:,]")
REGISTRY = ("PIP_", "UV_", "SSL_CERT", "CURL_CA", "REQUESTS_CA", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
"""Environment variables of the package registry, needed by ``make run``."""
README = PAGES[0]
SETUP = "export PATH="
"""Start of the setup block of docs/cli.md, which all pages except README require."""


def environment(home: Path) -> dict[str, str]:
    path = [f"{sys.base_prefix}/bin", *(each for each in os.environ["PATH"].split(":") if str(ROOT) not in each)]
    registry = {name: value for name, value in os.environ.items() if name.upper().startswith(REGISTRY)}
    cache = os.environ.get("XDG_CACHE_HOME", f"{os.environ['HOME']}/.cache")
    pip = Path(os.environ["HOME"]) / ".config" / "pip" / "pip.conf"
    warm = {"UV_CACHE_DIR": f"{cache}/uv", "PIP_CACHE_DIR": f"{cache}/pip"}
    return {
        "PATH": ":".join(path),
        "HOME": str(home),
        "LANG": "C.UTF-8",
        **warm,
        **({"PIP_CONFIG_FILE": str(pip)} if pip.is_file() else {}),
        **registry,
    }


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("clone") / "corral"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(place)], check=True)
    return place


@pytest.fixture(scope="module")
def port(clone: Path, home: Path) -> Iterator[int]:
    """Run ``make run``, the first command of README; yields its port."""
    process = subprocess.Popen(
        ["make", "--silent", "run"],
        cwd=clone,
        env={**environment(home), "CORRAL_PORT": "0"},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        banner = ""
        while "Ctrl-C" not in banner:
            line = process.stdout.readline()
            assert line, f"make run ended: {banner}"
            banner += line
        found = re.search(r"Corral answers at http://127\.0\.0\.1:(\d+)\n", banner)
        assert found is not None, banner
        yield int(found[1])
    finally:
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(PATIENCE_S) in {0, 2, -signal.SIGINT}
        process.stdout.close()


@pytest.fixture
def shell(clone: Path, home: Path, port: int, tmp_path: Path) -> Shell:
    environ = {**environment(home), "CORRAL_PORT": str(port)}
    return Shell(clone=clone, port=port, environ=environ, state=tmp_path / "variables")


def all_blocks() -> list[Block]:
    return [block for page in PAGES for block in blocks(page)]


def test_every_block_is_runnable_or_data_or_gives_a_reason() -> None:
    for block in all_blocks():
        assert block.language in PROGRAMS + DATA, f"{block}: write what it is after the three ticks"
        assert block.reason is None or REASONS.match(f"{block.reason} "), f"{block}: {block.reason}"
    for page in PAGES:
        assert page.read_text(encoding="utf-8").count("\n```") == 2 * len(blocks(page)), page


def test_readme_commands_run_in_order(shell: Shell) -> None:
    first, *others = blocks(README)
    assert first.text.startswith("make run ")
    for block in others:
        if block.reason is None and block.language in PROGRAMS:
            shell.run(block)


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES[1:] if any(each.reason is None and each.language in PROGRAMS for each in blocks(page))],
    ids=lambda page: page.name,
)
def test_docs_page_commands_run_in_order(page: Path, shell: Shell) -> None:
    if not (shell.clone / ".venv-client").exists():
        for block in blocks(README):
            if ".venv-client" in block.text and block.language == "sh":
                shell.run(block)
    (setup,) = [block for block in blocks(ROOT / "docs" / "cli.md") if block.text.startswith(SETUP)]
    for block in [setup, *blocks(page)]:
        if block.reason is None and block.language in PROGRAMS:
            shell.run(block)
