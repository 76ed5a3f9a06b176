"""``corral deploy``: list a server's deployments, which are its running models."""

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any, Final

import msgspec
import typer

from corral.cli.client.channel import OpenServer, Request, decode, path_segment
from corral.cli.terminal.completion import model_completion
from corral.cli.terminal.options import AsJson, Url
from corral.cli.terminal.tables import Column, draws_tables, print_json, print_table


class State(StrEnum):
    """Filter of deployments: a status, or a group of statuses."""

    ANY = "any"
    ACTIVE = "active"
    INACTIVE = "inactive"
    PENDING = "pending"
    INITIALIZING = "initializing"
    DOWNLOADING = "downloading"
    DEPLOYING = "deploying"
    RUNNING = "running"
    STOPPED = "stopped"
    FAILED = "failed"
    DELETED = "deleted"


_PENDING: Final = frozenset({"initializing", "downloading", "deploying"})
_INACTIVE: Final = frozenset({"stopped", "failed", "deleted"})


class _Deployment(msgspec.Struct):
    deploy_id: str
    model_name: str
    status: str
    version: str | None = None
    created_at: str | int | float | None = None


def deploy_commands(open_server: OpenServer) -> typer.Typer:
    """Create the command group, for ``app.add_typer``."""
    app = typer.Typer(
        name="deploy", add_completion=False, help="Deployments of a server: its running models.", no_args_is_help=True
    )
    app.command("list")(list_command(open_server))
    app.command("info")(info_command(open_server))
    return app


def list_command(open_server: OpenServer) -> Callable[..., None]:
    """Create the command ``corral deploy list``."""

    def list_deployments(
        *,
        state: Annotated[
            State, typer.Option(help="Only deployments in this state; active: running or pending.")
        ] = State.ACTIVE,
        model: Annotated[
            str | None,
            typer.Option(
                "--model", "-m", help="Only those of this model.", autocompletion=model_completion(open_server)
            ),
        ] = None,
        url: Url = None,
        as_json: AsJson = False,
    ) -> None:
        """List deployments: a table on a terminal, JSON in a pipe."""
        with open_server(url) as server:
            body = server.ask(Request(path="/deploy/list/"))
        records = decode(body, list[dict[str, Any]])
        shown = [
            (record, each)
            for record, each in zip(records, decode(body, list[_Deployment]), strict=True)
            if _is_in(state, each.status) and model in {None, each.model_name}
        ]
        if as_json or not draws_tables():
            print_json([record for record, _ in shown])
            return
        columns = [Column(heading=heading) for heading in ("Id", "Model", "Status", "Created")]
        print_table(
            columns, [(each.deploy_id, each.model_name, each.status, str(each.created_at or "")) for _, each in shown]
        )

    return list_deployments


def info_command(open_server: OpenServer) -> Callable[..., None]:
    """Create the command ``corral deploy info``."""

    def info(
        deploy_id: Annotated[str, typer.Argument(metavar="ID", help="Id of a deployment, as in `deploy list`.")],
        *,
        url: Url = None,
    ) -> None:
        """Print a deployment as JSON."""
        with open_server(url) as server:
            print_json(decode(server.ask(Request(path=f"/deploy/{path_segment(deploy_id)}")), dict[str, Any]))

    return info


def _is_in(state: State, status: str) -> bool:
    match state:
        case State.ANY:
            return True
        case State.ACTIVE:
            return status not in _INACTIVE
        case State.INACTIVE:
            return status in _INACTIVE
        case State.PENDING:
            return status in _PENDING
        case _:
            return status == state.value
