"""A TCP proxy for PostgreSQL that forwards a COMMIT and then closes the connection instead of sending the reply."""

import select
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class CuttingProxy(socketserver.ThreadingTCPServer):
    """One thread relays one connection; ``with`` ends when all are closed."""

    def __init__(self, target: tuple[str, int]) -> None:
        """Listen on a free loopback port, and relay to *target*."""
        super().__init__(("127.0.0.1", 0), _Relay)
        self.target = target
        self.cuts: list[bytes] = []
        """What was sent in each transaction whose COMMIT was done and not answered."""
        self.is_cut: Callable[[bytes], bool] = lambda _sent: False
        """Whether the answer to a transaction's COMMIT is dropped, given what was sent in it."""
        self.deciding = threading.Lock()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.server_address[1]


class _Relay(socketserver.BaseRequestHandler):
    server: CuttingProxy  # pyright: ignore[reportIncompatibleVariableOverride] - of the server that made it

    def handle(self) -> None:
        with socket.create_connection(self.server.target) as database:
            try:
                self._relay(self.request, database)
            except ConnectionError:
                return  # the program closed its end first

    def _relay(self, program: socket.socket, database: socket.socket) -> None:
        sent, done, cut = b"", b"", False
        while True:
            readable, _, _ = select.select([program, database], [], [])
            for end in readable:
                data: bytes = end.recv(65536)
                if not data:
                    return
                if end is program:
                    sent += data
                    if b"COMMIT" in data:
                        with self.server.deciding:
                            cut = self.server.is_cut(sent)
                    if b"COMMIT" in data or b"ROLLBACK" in data:
                        done, sent = sent, b""
                    database.sendall(data)
                elif cut:  # the COMMIT is done, and nobody is told
                    self.server.cuts.append(done)
                    return
                else:
                    program.sendall(data)


@contextmanager
def cutting(target: tuple[str, int]) -> Iterator[CuttingProxy]:
    """A running proxy."""
    with CuttingProxy(target) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
