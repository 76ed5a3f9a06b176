"""``corral serve``: start the model and the HTTP server, print the banner, stop on Ctrl-C."""

import asyncio
import resource
import socket
import sys
from contextlib import suppress

import structlog
from rich.console import Console

from corral.api.server.limits import ConnectionLimits
from corral.api.server.server import HttpServer
from corral.bootstrap import Server, build, hold_database
from corral.cli.server.banner import banner
from corral.cli.server.engine_log import log_engine_counters
from corral.cli.server.logs import configure_logs
from corral.cli.terminal.progress import StartProgress
from corral.cli.terminal.streams import OutputFailed, discard_output
from corral.core.errors import BadSetting, CorralError
from corral.settings import Settings, shown_settings
from corral.weights import choose_deployments

_BACKLOG = 2048
_MAX_FILES = 2**16
_OTHER_FILES = 256
"""File descriptors for other uses than client connections: database, worker sockets, webhook requests."""
_SWITCH_INTERVAL_S = 0.0005
"""Switch interval of Python's threads. With the default of 5 ms the store's thread starves under many streams."""

_log = structlog.get_logger(__name__)


def serve(settings: Settings) -> None:
    """Run the server until it is interrupted.

    Raises:
        CorralError: the server cannot start; the message contains the reason.
    """
    configure_logs(settings.log_level)
    _log.debug("settings_loaded", **shown_settings(settings))
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    choose_deployments(settings)  # a missing path is worth more to know than a port that is in use
    listener = _listen(settings.host, settings.port)
    address = f"http://{settings.host}:{listener.getsockname()[1]}"
    with (
        listener,
        hold_database(settings, address=address),
        StartProgress(Console(stderr=True)) as progress,
    ):
        server = build(settings, progress.report)
        with asyncio.Runner(loop_factory=_new_loop) as runner:
            runner.run(_serve(server, settings, listener, progress))


def _new_loop() -> asyncio.AbstractEventLoop:
    import uvloop  # noqa: PLC0415 - missing on some platforms that support the client commands

    return uvloop.new_event_loop()


async def _serve(server: Server, settings: Settings, listener: socket.socket, progress: StartProgress) -> None:
    http = HttpServer(
        server.app,
        limits=_connection_limits(settings, max_files=_raise_file_limit()),
        grace_s=settings.stop_grace_s,
        on_stop=server.predictions.lifecycle.refuse_new,
        end_runs=server.predictions.lifecycle.end_runs,
    )

    async def announce() -> CorralError | None:
        if (refusal := await server.deployments.started()) is not None:
            http.stop(is_failed_start=True)
            return refusal
        progress.stop()
        link = server.links.make(await server.account_services.keys.key_id_of(server.api_key))
        _print(banner(server, settings, port=listener.getsockname()[1], link=link))
        return None

    async with server.run(), asyncio.TaskGroup() as tasks:
        announcing = tasks.create_task(announce())
        counting = tasks.create_task(_log_counters(server, settings))
        await http.serve(sockets=[listener])
        announcing.cancel()
        counting.cancel()
    if not announcing.cancelled() and (refusal := announcing.result()) is not None:
        raise refusal


async def _log_counters(server: Server, settings: Settings) -> None:
    if settings.log_level == "debug":
        async with asyncio.TaskGroup() as tasks:
            for deployment in server.deployments:
                tasks.create_task(log_engine_counters(deployment.name, deployment.engine))


def _print(text: str) -> None:
    """Print the banner. The server continues if its output cannot be written: the key is in the data directory."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except (BrokenPipeError, OutputFailed) as error:
        _log.warning("banner_not_printed", reason=str(error))
        discard_output()


def _raise_file_limit() -> int:
    """Raise the soft limit of open files to the hard limit; each connection is a file descriptor."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):  # macOS has a lower limit that it does not report
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return _MAX_FILES if soft == resource.RLIM_INFINITY else soft


def _connection_limits(settings: Settings, *, max_files: int) -> ConnectionLimits:
    return ConnectionLimits(
        keep_alive_s=settings.keep_alive_s,
        head_s=settings.header_timeout_s,
        body_s=settings.body_timeout_s,
        send_s=settings.send_timeout_s,
        body_bytes=settings.max_body_bytes,
        connections=max(max_files - _OTHER_FILES, max_files // 2),
        connections_per_address=settings.max_connections_per_address,
        trusted_proxies=settings.trusted_proxies,
    )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    every = host == "::" and socket.has_dualstack_ipv6()  # IPv4 too
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG, dualstack_ipv6=every)
    except (OSError, UnicodeError) as error:  # an invalid host name raises UnicodeError
        reason = error.strerror if isinstance(error, OSError) else error
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        raise BadSetting(f"host and port: cannot listen on {place}: {reason}.") from error
