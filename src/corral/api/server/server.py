"""uvicorn's server with ``LimitedProtocol`` and a graceful stop."""

import asyncio
import logging
import signal
import socket
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType
from typing import Any, Final, cast

import structlog
import uvicorn
from starlette.types import ASGIApp

from corral.api.server.connections import Connections
from corral.api.server.limits import ConnectionLimits
from corral.api.server.protocol import LimitedProtocol
from corral.api.server.proxies import TrustedProxies

_TICK_S: Final = 1.0
"""Interval at which the ``Date`` header changes."""
_END_RUNS_S: Final = 10.0
_LAST_WORDS_S: Final = 2.0
"""Time for requests to send their end after their runs were stopped."""
_CLOSE_S: Final = 1.0
_POLL_S: Final = 0.005

_log = structlog.get_logger(__name__)


class HttpServer(uvicorn.Server):
    """Serves an application until told to stop.

    The stop: ``on_stop`` is called (new requests are to be refused from then on), open calls may end by themselves for
    ``grace_s``, then ``end_runs`` ends what they wait for, and they still have their connections to say so.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: ConnectionLimits | None = None,
        grace_s: float = 5.0,
        on_stop: Callable[[], None] = lambda: None,
        end_runs: Callable[[], Awaitable[None]] | None = None,
        lifespan: bool = False,
    ) -> None:
        """Nothing is opened before ``serve``."""
        limits = limits or ConnectionLimits()
        protocol = partial(LimitedProtocol, limits=limits, connections=Connections(limits))
        super().__init__(
            uvicorn.Config(
                cast("Any", TrustedProxies(app, networks=limits.trusted_proxies)),
                http=cast("type[asyncio.Protocol]", protocol),
                ws="none",
                lifespan="on" if lifespan else "off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,  # TrustedProxies reads them
                timeout_keep_alive=round(limits.keep_alive_s),
            )
        )
        self._grace_s = grace_s
        self._on_stop = on_stop
        self._end_runs = end_runs
        self._told_to_stop = asyncio.Event()
        self._is_failed_start = False
        self._told_twice = asyncio.Event()

    def stop(self, *, is_failed_start: bool = False) -> None:
        """Begin to stop; a second call stops waiting for open requests. A failed start is reported by its own error."""
        self._is_failed_start = is_failed_start
        if self.should_exit:
            self._told_twice.set()
        self.should_exit = True
        self._told_to_stop.set()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Stop gracefully on the first SIGINT or SIGTERM, at once on the second SIGINT.

        uvicorn raises the signal again at the end, which would kill the process before the engine is stopped.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's signature
        """Handle a signal. SIGTERM is often sent twice: to the process and to its group."""
        if sig == signal.SIGINT or not self.should_exit:
            self.stop()

    async def main_loop(self) -> None:
        """Wait until told to stop."""
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                async with asyncio.timeout(_TICK_S):
                    await self._told_to_stop.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer every open request, then close."""
        tasks = self.server_state.tasks
        self._on_stop()
        level = logging.DEBUG if self._is_failed_start else logging.INFO
        _log.log(level, "server_stopping", requests=len(tasks), grace_s=self._grace_s)
        for connection in list(self.server_state.connections):
            connection.shutdown()
        await self._wait_for_calls(self._grace_s)
        if self._end_runs is not None:
            # With a database that cannot answer they are settled by the next start.
            with suppress(TimeoutError):
                async with asyncio.timeout(_END_RUNS_S):
                    await self._end_runs()
            await self._wait_for_calls(_LAST_WORDS_S)
        await self._close(sockets or ())
        await self.lifespan.shutdown()

    async def _wait_for_calls(self, limit_s: float) -> None:
        """Wait until no request is open, *limit_s* is over, or ``stop`` is called again."""
        loop = asyncio.get_running_loop()
        told = loop.create_task(self._told_twice.wait())
        end_s = loop.time() + limit_s
        try:
            while self.server_state.tasks and not told.done() and (left_s := end_s - loop.time()) > 0:
                some = next(iter(self.server_state.tasks))
                await asyncio.wait({some, told}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            told.cancel()

    async def _close(self, sockets: Sequence[socket.socket]) -> None:
        """Stop listening and close the remaining connections."""
        for server in self.servers:
            server.close()
        for listener in sockets:
            listener.close()
        for connection in list(self.server_state.connections):
            cast("LimitedProtocol", connection).end()
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                # The last answers are being sent; uvicorn keeps connections in a set that tells nobody.
                while self.server_state.connections or self.server_state.tasks:  # noqa: ASYNC110
                    await asyncio.sleep(_POLL_S)
        for task in set(self.server_state.tasks):
            task.cancel()
        if self.server_state.tasks:
            await asyncio.wait(set(self.server_state.tasks), timeout=_CLOSE_S)
