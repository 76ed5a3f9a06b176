"""Find the server and API key for a command: from options, settings, the login, or the server on this machine."""

from pathlib import Path

from corral.cli.client.channel import Channel, is_this_machine, server_root
from corral.cli.client.connection import Connection
from corral.cli.client.login import LOGIN_FILE, Login, LoginFile, LoginUnusable
from corral.cli.client.waiting import waiting
from corral.core.addresses import reachable_host
from corral.settings import Settings, default_config_dir, load_settings
from corral.store.key_file import KEY_FILE, read_secret


def connect(url: str | None) -> Connection:
    """Find the server: *url*, else the setting ``url``, else the login, else the server on this machine.

    Raises:
        BadSetting: a setting is unknown or invalid.
        LoginUnusable: the login file or the key file of this machine cannot be read.
    """
    settings = load_settings({"url": url})
    login = login_file().read()
    address = settings.url or (login.url if login else _here(settings))
    return Connection(url=address, api_key=_key(address, settings, login))


def login_file() -> LoginFile:
    """Return the user's login file."""
    return LoginFile(default_config_dir() / LOGIN_FILE)


def reach(connection: Connection) -> Channel:
    """Create a channel that shows on the terminal when it waits."""
    return Channel(connection, waiting=waiting)


def open_server(url: str | None) -> Channel:
    """Create a channel to the server that `connect` finds.

    Raises:
        CorralError: as ``connect``, and for an invalid address or key.
    """
    return reach(connect(url))


def _here(settings: Settings) -> str:
    return f"http://{reachable_host(settings.host)}:{settings.port}"


def _key(address: str, settings: Settings, login: Login | None) -> str | None:
    """Get the key for *address*. A token is never sent to another server than the one it was created for."""
    if settings.api_key is not None:
        return settings.api_key.get_secret_value()
    if login is not None and server_root(login.url) == server_root(address):
        return login.token
    if is_this_machine(address):
        return _key_of_this_machine(settings.data_dir / KEY_FILE)
    return None


def _key_of_this_machine(path: Path) -> str | None:
    try:
        return read_secret(path)
    except (OSError, ValueError) as error:  # bytes that are not ASCII raise ValueError
        reason = error.strerror if isinstance(error, OSError) else "it is not ASCII text"
        raise LoginUnusable(
            f"The API key in {path} cannot be read: {reason}. Set CORRAL_API_KEY, or log in with `corral auth login`."
        ) from error
