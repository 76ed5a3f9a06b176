"""The scripted server, running, and ways to run the commands against it."""

import socket
import threading
from collections.abc import Callable, Iterator

import pytest
import uvicorn

from tests.cli.entry import commands
from tests.cli.fake_server import KEY, FakeServer
from tests.cli.harness import cli, migrated
from tests.cli.processes import PATIENCE_S, Result, Run, Terminal, command, run_in_pipes

__all__ = ["cli", "migrated"]


@pytest.fixture(scope="module")
def running() -> Iterator[FakeServer]:
    """One server for the tests of a module."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fake = FakeServer(url=f"http://127.0.0.1:{listener.getsockname()[1]}")
        server = uvicorn.Server(uvicorn.Config(fake.app, log_config=None, lifespan="off", interface="asgi3"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield fake
        finally:
            server.should_exit = True
            thread.join(PATIENCE_S)


@pytest.fixture
def fake(running: FakeServer) -> FakeServer:
    """The server, with nothing of an earlier test."""
    running.reset()
    return running


@pytest.fixture
def run(fake: FakeServer) -> Run:
    """Run a command to its end, with pipes instead of a terminal."""

    def run_to_end(*arguments: str, stdin: bytes = b"", url: str = fake.url) -> Result:
        return run_in_pipes(commands(url, KEY), arguments, stdin)

    return run_to_end


@pytest.fixture
def terminal(fake: FakeServer) -> Iterator[Callable[..., Terminal]]:
    """Start a command in a terminal."""
    opened: list[Terminal] = []

    def start(*arguments: str) -> Terminal:
        opened.append(Terminal(command(fake.url, *arguments)))
        return opened[-1]

    yield start
    for each in opened:
        each.__exit__()
