"""What ``corral serve`` prints once it is ready: addresses, the key, and lines to paste into another shell."""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from corral.bootstrap import Server
from corral.catalog.catalog import DEMO
from corral.core.addresses import reachable_host
from corral.deployments.status import DeploymentStatus
from corral.engines.stats import EnginePhase
from corral.settings import Settings, default_data_dir
from corral.store.key_file import KEY_FILE
from corral.web.sessions import LINK_S

_MAIN: Final = "__main__.py"
"""The program's file where it was started by ``python -m corral``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Key:
    shown: str
    pasted: str
    """As it stands between double quotes in a shell."""
    heading: str = "Try it, in another shell in this directory:"


def banner(server: Server, settings: Settings, *, port: int, link: str) -> str:
    """Compose the text; *link* signs in once.

    The lines to paste use the address on this machine, which works whatever stands between this server and its
    ``public_url``.
    """
    local = f"http://{reachable_host(settings.host)}:{port}"
    public = settings.public_url.rstrip("/") or local
    first = server.catalog.models()[0]
    key = _key(server, settings)
    asked = f'{{"model": "{first.id}", "messages": [{{"role": "user", "content": "Hello!"}}]}}'
    lines = [
        "",
        f"Corral answers at {public}",
        *([f"  here     {local}"] if public != local else []),
        *(line for status in server.deployments.statuses() for line in _deployment(server, status, settings)),
        f"  API key  {key.shown}",
        f"  pages    {public}/sign-in#{link}  (signs in once, for {LINK_S // 60} minutes)",
        "",
        key.heading,
        f'  curl {local}/v1/chat/completions -H "Authorization: Bearer {key.pasted}" '
        f"-H 'Content-Type: application/json' -d '{asked}'",
        # The address is named, for whoever pastes this may be logged in at another server.
        f"  {_where_the_key_is(settings)}{program()} chat 'Hello!' --url {local}",
        "",
        "Ctrl-C stops it.",
        "",
    ]
    return "\n".join(lines)


def program() -> str:
    """The command that started this program, for a shell in the same directory with nothing of it on its PATH."""
    started = Path(sys.argv[0])
    if started.name == _MAIN:
        return f"{_shown(Path(sys.executable))} -m corral"
    return _shown(started)


def _shown(path: Path) -> str:
    """Relative below the current directory, else absolute; quoted for a shell. Links are not followed."""
    absolute = path.absolute()
    if not absolute.is_relative_to(Path.cwd()):
        return shlex.quote(str(absolute))
    relative = str(absolute.relative_to(Path.cwd()))
    return shlex.quote(relative if "/" in relative else f"./{relative}")


def _key(server: Server, settings: Settings) -> _Key:
    key_file = settings.data_dir.absolute() / KEY_FILE
    if settings.api_key is not None:
        return _Key(
            shown="the one that is set as api_key (CORRAL_API_KEY)",
            pasted="$CORRAL_API_KEY",
            heading="Try it, in another shell in this directory, where CORRAL_API_KEY is exported with that key:",
        )
    if server.api_key_is_new:
        return _Key(shown=f"{server.api_key}  (kept in {key_file})", pasted=server.api_key)
    return _Key(shown=f"in {key_file}", pasted=f"$(cat {shlex.quote(str(key_file))})")


def _where_the_key_is(settings: Settings) -> str:
    """A variable for ``corral chat``, which looks for the key where a server without settings keeps it."""
    directory = settings.data_dir.absolute()
    if settings.api_key is not None or directory == default_data_dir().absolute():
        return ""
    return f"CORRAL_DATA_DIR={shlex.quote(str(directory))} "


def _deployment(server: Server, status: DeploymentStatus, settings: Settings) -> list[str]:
    """Lines about one deployment: its first model, and notes."""
    models = [model for model in server.catalog.models() if model.deployment == status.name]
    held = next(model for model in models if not model.stands_in)
    stand_ins = [model.id for model in models if model.stands_in]
    what = "the demo model" if held.id == DEMO else held.id
    weights = f"{status.weights}, " if status.weights else ""
    state = "" if status.state.phase is EnginePhase.READY else f", {status.state}"
    lines = [f"  model    {held.id} ({status.engine}, {weights}context {status.context_tokens} tokens{state})"]
    if stand_ins:
        lines.append(f"  note     {what} stands in for {', '.join(stand_ins)}")
    if (name := server.suggestions.get(status.name)) is not None:
        lines.append(_suggestion(name, settings, of=held.id))
    return lines


def _suggestion(name: str, settings: Settings, *, of: str) -> str:
    if settings.deployments:
        how = f'give their deployment models = ["{name}"]'
        return f"  note     {of} has the shape of {name}, as its fine-tunes do; if it is that model, {how}"
    return (
        f"  note     the weights have the shape of {name}, as its fine-tunes do; if they are that model, serve them as "
        f"{program()} serve {shlex.quote(settings.model)} --as {name}"
    )
