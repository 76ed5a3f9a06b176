"""``corral deployments``: list, load and unload what a running server computes with. Needs a key with scope admin."""

import time
from collections.abc import Callable
from typing import Annotated, Final

import msgspec
import typer

from corral.cli.client.channel import Channel, OpenServer, Request, decode, path_segment
from corral.cli.client.connection import RequestFailed
from corral.cli.terminal.options import AsJson, Url
from corral.cli.terminal.tables import Column, print_json, print_table
from corral.core.errors import shown_memory

_PATH: Final = "/corral/v1/deployments"
_POLL_S: Final = 0.5
_DRAIN_TIMEOUT_S: Final = 24 * 3600.0
"""Runs that use the deployment may take long; Ctrl-C ends the wait, not the unload."""
_NOT_OVER: Final = frozenset({"waiting", "loading", "restarting"})
_COLUMNS: Final = (
    Column(heading="Deployment"),
    Column(heading="Models"),
    Column(heading="State"),
    Column(heading="Load"),
    Column(heading="Running", number=True),
    Column(heading="Waiting", number=True),
    Column(heading="Memory", number=True),
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Of a deployment, as `deployments list` shows it.")]


class _Deployment(msgspec.Struct, kw_only=True):
    name: str
    state: str
    models: list[str] = []
    progress_percent: float | None = None
    fail_reason: str | None = None
    load: str = ""
    idle_unload_s: float | None = None
    engine: str = ""
    weights: str | None = None
    context_tokens: int = 0
    running: int = 0
    waiting: int = 0
    memory_bytes: int = 0
    workers: list[dict[str, object]] = []


class _Deployments(msgspec.Struct):
    deployments: list[_Deployment]


def deployments_commands(open_server: OpenServer, poll_s: float = _POLL_S) -> typer.Typer:
    """The commands, for ``app.add_typer``; *poll_s* is the pause between two looks with ``--wait``."""
    app = typer.Typer(
        name="deployments",
        add_completion=False,
        help="List, load and unload a server's deployments. Needs an API key with the scope admin.",
        no_args_is_help=True,
    )
    app.command("list")(_list_command(open_server))
    app.command("load")(_load_command(open_server, poll_s))
    app.command("unload")(_unload_command(open_server))
    return app


def _list_command(open_server: OpenServer) -> Callable[..., None]:
    def list_deployments(*, url: Url = None, as_json: AsJson = False) -> None:
        """List deployments with state and memory: a table on a terminal, tab-separated in a pipe."""
        with open_server(url) as server:
            found = decode(server.ask(Request(path=_PATH)), _Deployments).deployments
        if as_json:
            print_json([msgspec.to_builtins(each) for each in found])
            return
        print_table(_COLUMNS, [_row(each) for each in found])

    return list_deployments


def _load_command(open_server: OpenServer, poll_s: float) -> Callable[..., None]:
    def load(
        name: Name,
        *,
        wait: Annotated[bool, typer.Option("--wait", help="Return when it is loaded; status 1 if it fails.")] = False,
        url: Url = None,
        as_json: AsJson = False,
    ) -> None:
        """Begin to load a deployment; does nothing if it is loaded."""
        with open_server(url) as server:
            deployment = _ask(server, "POST", name, "/load")
            while wait and deployment.state in _NOT_OVER:
                time.sleep(poll_s)
                deployment = _ask(server, "GET", name)
        _print(deployment, as_json=as_json)
        if wait and deployment.state != "ready":
            raise RequestFailed(f"{deployment.name} was not loaded: {_state(deployment)}.")

    return load


def _unload_command(open_server: OpenServer) -> Callable[..., None]:
    def unload(
        name: Name,
        *,
        drain: Annotated[
            bool, typer.Option("--drain", help="Wait until the runs that use it are over, instead of refusing.")
        ] = False,
        url: Url = None,
        as_json: AsJson = False,
    ) -> None:
        """Unload a deployment and free its memory; refused while runs use it, unless they are drained."""
        with open_server(url) as server:
            deployment = _ask(server, "POST", name, "/unload", drain=drain)
        _print(deployment, as_json=as_json)

    return unload


def _ask(server: Channel, method: str, name: str, action: str = "", *, drain: bool = False) -> _Deployment:
    request = Request(path=f"{_PATH}/{path_segment(name)}{action}", method=method)
    if drain:
        request = Request(path=request.path, method=method, query={"drain": "true"}, timeout_s=_DRAIN_TIMEOUT_S)
    return decode(server.ask(request), _Deployment)


def _print(deployment: _Deployment, *, as_json: bool) -> None:
    if as_json:
        print_json(msgspec.to_builtins(deployment))
    else:
        print_table(_COLUMNS, [_row(deployment)])


def _row(deployment: _Deployment) -> tuple[str, ...]:
    return (
        deployment.name,
        ", ".join(deployment.models),
        _state(deployment),
        deployment.load,
        str(deployment.running),
        str(deployment.waiting),
        shown_memory(deployment.memory_bytes),
    )


def _state(deployment: _Deployment) -> str:
    """State for people: ``loading 40 %``, ``failed: no such file``."""
    if deployment.progress_percent is not None:
        return f"{deployment.state} {deployment.progress_percent:.0f} %"
    return f"{deployment.state}: {deployment.fail_reason}" if deployment.fail_reason else deployment.state
