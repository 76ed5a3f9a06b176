"""``corral auth``: log in to a server, log out, show the token."""

import sys
from collections.abc import Callable
from typing import Annotated, Final

import typer

from corral.cli.client.channel import Reach, Request
from corral.cli.client.connection import Connect, Connection, RequestFailed
from corral.cli.client.login import Login, LoginFile
from corral.cli.terminal.options import Url
from corral.cli.terminal.streams import read_standard_input

_MAX_TOKEN_CHARACTERS: Final = 8192


def auth_commands(connect: Connect, reach: Reach, login_file: Callable[[], LoginFile]) -> typer.Typer:
    """Create the command group, for ``app.add_typer``."""
    commands = AuthCommands(connect, reach, login_file)
    app = typer.Typer(name="auth", add_completion=False, help="Log in to a server, and log out.", no_args_is_help=True)
    app.command("login")(commands.login)
    app.command("logout")(commands.logout)
    app.command("token")(commands.token)
    app.command("set-token")(commands.set_token)
    return app


class AuthCommands:
    """One method per command."""

    def __init__(self, connect: Connect, reach: Reach, login_file: Callable[[], LoginFile]) -> None:
        self._connect = connect
        self._reach = reach
        self._login_file = login_file

    def login(self, *, url: Url = None) -> None:
        """Ask for an API key, check it with the server, and store both for later commands."""
        address = self._connect(url).url
        if sys.stdin.isatty():
            token = typer.prompt(f"API key for {address}", hide_input=True, err=True)
        else:
            token = read_standard_input(_MAX_TOKEN_CHARACTERS + 1, line=True).decode(errors="replace")
        self._keep(address, token)
        typer.echo("login successful")

    def logout(self) -> None:
        """Delete the stored login."""
        if not self._login_file().remove():
            raise RequestFailed("Not logged in.")
        typer.echo("logout done")

    def token(self, *, url: Url = None) -> None:
        """Print the token that commands send: from the settings, the login, or this machine's server."""
        token = self._connect(url).api_key
        if token is None:
            raise RequestFailed("Not logged in. Run `corral auth login`.")
        typer.echo(token)

    def set_token(
        self,
        token: Annotated[str, typer.Argument(help="API key, visible to other users of this machine; login hides it.")],
        *,
        url: Url = None,
    ) -> None:
        """Log in with the API key on the command line."""
        self._keep(self._connect(url).url, token)
        typer.echo("token stored successfully")

    def _keep(self, address: str, token: str) -> None:
        token = token.strip()
        if not token or len(token) > _MAX_TOKEN_CHARACTERS:
            raise RequestFailed(f"An API key must have 1 to {_MAX_TOKEN_CHARACTERS} characters.")
        with self._reach(Connection(url=address, api_key=token)) as server:
            server.ask(Request(path="/v1/me"))
            self._login_file().write(Login(url=server.url, token=token))
