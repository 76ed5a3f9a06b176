"""``corral serve``: start the model and the HTTP server, say where it is, stop on Ctrl-C."""

import asyncio
import resource
import shlex
import socket
import sys
from contextlib import suppress

from rich.console import Console

from corral.api.server.limits import ConnectionLimits
from corral.api.server.server import HttpServer
from corral.bootstrap import Server, build, configure_logs
from corral.cli.progress import StartProgress
from corral.core.errors import BadSetting, CorralError
from corral.settings import Settings
from corral.store.key_file import KEY_FILE
from corral.web.sessions import LINK_S

_BACKLOG = 2048
_MAX_FILES = 2**16
_OTHER_FILES = 256
"""Files that are no connections: the database, its log, the worker's socket, webhooks that are being sent."""
_SWITCH_INTERVAL_S = 0.0005
"""How long a thread may hold the interpreter; with Python's 5 ms the store's thread starves under many streams."""


def serve(settings: Settings) -> None:
    """Serve until interrupted.

    Raises:
        CorralError: the server cannot start; the message says why.
    """
    configure_logs(settings.log_level)
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    listener = _listen(settings.host, settings.port)
    with listener, StartProgress(Console(stderr=True)) as progress:
        server = build(settings, progress.report)
        with asyncio.Runner(loop_factory=_new_loop) as runner:
            runner.run(_serve(server, settings, listener, progress))


def _new_loop() -> asyncio.AbstractEventLoop:
    import uvloop  # noqa: PLC0415 - not on every platform that can run a client command

    return uvloop.new_event_loop()


async def _serve(server: Server, settings: Settings, listener: socket.socket, progress: StartProgress) -> None:
    http = HttpServer(
        server.app,
        limits=_connection_limits(settings, max_files=_raise_file_limit()),
        grace_s=settings.stop_grace_s,
        on_stop=server.predictions.refuse_new,
        end_runs=server.predictions.end_runs,
    )

    async def announce() -> CorralError | None:
        try:
            await server.engine.ready()
        except CorralError as error:
            http.stop()
            return error
        progress.stop()
        link = server.links.make(await server.accounts.key_id_of(server.api_key))
        sys.stdout.write(banner(server, settings, port=listener.getsockname()[1], link=link))
        sys.stdout.flush()
        return None

    async with server.run(), asyncio.TaskGroup() as tasks:
        announcing = tasks.create_task(announce())
        await http.serve(sockets=[listener])
        announcing.cancel()
    if not announcing.cancelled() and (refusal := announcing.result()) is not None:
        raise refusal


def _raise_file_limit() -> int:
    """Raise the soft limit of open files to the hard one; each connection is a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):  # macOS has a lower limit that it does not tell
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


def banner(server: Server, settings: Settings, *, port: int, link: str) -> str:
    """What a newcomer needs: the address, the key, three lines to paste, and a *link* that signs in once."""
    host = "127.0.0.1" if settings.host in {"0.0.0.0", "::"} else settings.host  # noqa: S104 - compared, not bound
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    info = server.engine.info
    first = server.catalog.models()[0]
    stand_ins = [model.id for model in server.catalog.models() if model.stands_in]
    key_file = settings.data_dir / KEY_FILE
    if settings.api_key is not None:
        key, pasted = "as set in CORRAL_API_KEY", "$CORRAL_API_KEY"
    elif server.api_key_is_new:
        key, pasted = f"{server.api_key}  (kept in {key_file})", server.api_key
    else:
        key, pasted = f"in {key_file}", f"$(cat {shlex.quote(str(key_file))})"
    asked = f'{{"model": "{first.id}", "messages": [{{"role": "user", "content": "Hello!"}}]}}'
    python = (
        f'import openai, sys; print(openai.OpenAI(base_url="{url}/v1", api_key=sys.argv[1]).chat.completions.create('
        f'model="{first.id}", messages=[{{"role": "user", "content": "Hello!"}}]).choices[0].message.content)'
    )
    lines = [
        "",
        f"Corral answers at {url}",
        f"  model    {first.id} ({info.engine}, {info.weights}, context {info.context_tokens} tokens)",
        *([f"  note     the demo model stands in for {', '.join(stand_ins)}"] if stand_ins else []),
        *([_suggestion(server.suggested_name, settings)] if server.suggested_name else []),
        f"  API key  {key}",
        f"  pages    {url}/sign-in#{link}  (signs in once, for {LINK_S // 60} minutes)",
        "",
        "Try it:",
        f"  curl {url}/v1/chat/completions -H \"Authorization: Bearer {pasted}\" -H 'Content-Type: application/json' "
        f"-d '{asked}'",
        f"  python -c '{python}' \"{pasted}\"",
        f"  corral chat 'Hello!' --url {url}",  # named, for who pastes it may be logged in at another server
        "",
        "Ctrl-C stops it.",
        "",
    ]
    return "\n".join(lines)


def _suggestion(name: str, settings: Settings) -> str:
    return (
        f"  note     the weights have the shape of {name}, as its fine-tunes do; if they are that model, serve them as "
        f"corral serve {shlex.quote(settings.model)} --as {name}"
    )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise BadSetting(f"host and port: cannot listen on {host}:{port}: {error.strerror}.") from error
