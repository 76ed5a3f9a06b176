"""The client commands: ``entry.py URL KEY COMMAND …``, registered as ``corral`` registers them."""

import sys

import typer

from corral.cli.admin.deployments import deployments_commands
from corral.cli.client.channel import Channel
from corral.cli.client.connection import Connection
from corral.cli.client.waiting import waiting
from corral.cli.inference.chat import chat_command
from corral.cli.inference.deploy import deploy_commands
from corral.cli.inference.infer import infer_command
from corral.cli.inference.log import log_command
from corral.cli.inference.model_info import info_command, list_command, versions_command
from corral.cli.inference.models import models_command
from corral.cli.inference.predictions import predictions_commands
from corral.core.errors import CorralError

_POLL_S = 0.01


def commands(default_url: str, key: str | None) -> typer.Typer:
    """The commands that talk to a server."""

    def reach(connection: Connection) -> Channel:
        return Channel(connection, waiting=waiting)

    def open_server(url: str | None) -> Channel:
        return reach(Connection(url=url or default_url, api_key=key))

    app = typer.Typer(pretty_exceptions_enable=False)
    app.command("chat")(chat_command(open_server))
    app.command("models")(models_command(open_server))
    app.command("infer")(infer_command(open_server))
    app.command("log")(log_command(open_server, _POLL_S))
    app.add_typer(predictions_commands(open_server, reach))
    app.add_typer(deploy_commands(open_server))
    app.add_typer(deployments_commands(open_server, _POLL_S))
    model = typer.Typer(name="model")
    model.command("list")(list_command(open_server))
    model.command("info")(info_command(open_server))
    model.command("versions")(versions_command(open_server))
    app.add_typer(model)
    return app


def main() -> None:
    """Run one command; 0, 1 for a refusal, 2 for a usage error."""
    url, key, *arguments = sys.argv[1:]
    try:
        commands(url, key)(arguments)
    except CorralError as error:
        sys.stderr.write(f"corral: {error}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
