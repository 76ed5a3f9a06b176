"""Run a process under strace, and list what it and its children connected to and wrote to."""

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path

import pytest

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace (Debian package strace)")

_CALLS = "connect,sendto,sendmsg,sendmmsg,open,openat,openat2,creat,mkdir,mkdirat,mknod,mknodat,rename,renameat"
_MORE_CALLS = "renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,rmdir,truncate"
_ADDRESS = re.compile(
    r'sin6?_port=htons\((\d+)\).*?(?:inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)")', re.DOTALL
)
_FAILED = re.compile(r"= -1 E(?!INPROGRESS)[A-Z]+")
_OPENED = re.compile(r'^(?:open|openat|openat2|creat)\(.*?"([^"]*)"(.*)\) += \d+', re.DOTALL)
_CHANGED = re.compile(r"^(?:mkdir|mknod|rename|link|symlink|unlink|rmdir|truncate)")
_DNS_PORT = 53
_DEVICES = ("/dev/null", "/dev/tty", "/dev/pts/", "/proc/self/", "/memfd:")


class Trace:
    """The system calls of one command and its children."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir()

    def command(self, *command: str) -> list[str]:
        """The command line that runs *command* under strace."""
        output = str(self._directory / "calls")
        options = ("-ff", "--seccomp-bpf", "-s", "512", "-e", f"trace={_CALLS},{_MORE_CALLS}", "-o", output)
        return ["strace", "-qq", *options, *command]

    @property
    def calls(self) -> list[str]:
        """Every traced call that did not fail."""
        files = sorted(self._directory.iterdir())
        lines = [line for file in files for line in file.read_text(errors="replace").splitlines()]
        return [line for line in lines if not _FAILED.search(line)]

    def remote_addresses(self) -> set[str]:
        """Addresses other than loopback that something was sent to, and name servers wherever they are."""
        found: set[str] = set()
        for call in self.calls:
            for port, *addresses in _ADDRESS.findall(call):
                address = next(filter(None, addresses))
                if not ip_address(address).is_loopback or int(port) == _DNS_PORT:
                    found.add(f"{address} port {port}")
        return found

    def written_paths(self, *, outside: Path) -> set[str]:
        """Paths that were created, changed or opened for writing, except devices, *outside*, what is in it and the
        directories that lead to it.
        """
        return {
            path
            for path in self._written()
            if not path.startswith(_DEVICES)
            and not Path(path).is_relative_to(outside)
            and not outside.is_relative_to(path)
        }

    def _written(self) -> Iterator[str]:
        for call in self.calls:
            opened = _OPENED.match(call)
            if opened is not None:
                path, flags = opened.groups()
                if call.startswith("creat(") or re.search(r"O_(WRONLY|RDWR|CREAT|TRUNC)", flags):
                    yield path
            elif _CHANGED.match(call):
                yield from re.findall(r'"([^"]*)"', call)


def bare_environment(home: Path, **settings: str) -> Mapping[str, str]:
    """An environment as a newcomer has it: *home* is all that is theirs, no settings, and no CI that turns things off.

    Python writes no bytecode, which it would beside the sources.
    """
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    places = {"HOME": str(home), "TMPDIR": str(home / "tmp"), "XDG_CACHE_HOME": str(home / "cache")}
    (home / "tmp").mkdir(parents=True, exist_ok=True)
    return {
        **kept,
        **places,
        "PYTHONDONTWRITEBYTECODE": "1",
        "NO_COLOR": "1",
        "CORRAL_MODEL": "corral/demo",
        **settings,
    }
