"""Text that ``corral serve`` prints when it is ready: addresses, API key, example commands."""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from corral.bootstrap import Server
from corral.catalog.catalog import DEMO
from corral.core.addresses import reachable_host
from corral.deployments.deployment import Deployment
from corral.engines.stats import EnginePhase
from corral.settings import Settings, default_data_dir
from corral.store.key_file import KEY_FILE
from corral.web.sessions import LINK_S

_MAIN: Final = "__main__.py"
"""File name of the program if it was started with ``python -m corral``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Key:
    """How the banner shows the API key."""

    shown: str
    pasted: str
    """Expression for a shell, between double quotes."""
    heading: str = "Try it, in another shell in this directory:"


def banner(server: Server, settings: Settings, *, port: int, link: str) -> str:
    """Format the banner; *link* is a one-time sign-in token.

    The example commands use the local address, which works without the proxy of ``public_url``.
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
        *(line for deployment in server.deployments for line in _deployment(server, deployment, settings)),
        f"  API key  {key.shown}",
        f"  pages    {public}/sign-in#{link}  (signs in once, for {LINK_S // 60} minutes)",
        "",
        key.heading,
        f'  curl {local}/v1/chat/completions -H "Authorization: Bearer {key.pasted}" '
        f"-H 'Content-Type: application/json' -d '{asked}'",
        # With --url, because the user may be logged in to another server.
        f"  {_data_dir_variable(settings)}{program()} chat 'Hello!' --url {local}",
        "",
        "Press Ctrl-C to stop.",
        "",
    ]
    return "\n".join(lines)


def program() -> str:
    """Return the command that started this program, for a shell in the same directory, independent of PATH."""
    started = Path(sys.argv[0])
    if started.name == _MAIN:
        return f"{_shown(Path(sys.executable))} -m corral"
    return _shown(started)


def _shown(path: Path) -> str:
    """Format a path for a shell: relative if below the current directory, else absolute. Does not follow links."""
    absolute = path.absolute()
    if not absolute.is_relative_to(Path.cwd()):
        return shlex.quote(str(absolute))
    relative = str(absolute.relative_to(Path.cwd()))
    return shlex.quote(relative if "/" in relative else f"./{relative}")


def _key(server: Server, settings: Settings) -> _Key:
    key_file = settings.data_dir.absolute() / KEY_FILE
    if settings.api_key is not None:
        return _Key(
            shown="the one set as api_key (CORRAL_API_KEY)",
            pasted="$CORRAL_API_KEY",
            heading="Try it, in another shell in this directory, where CORRAL_API_KEY is exported with that key:",
        )
    if server.api_key_is_new:
        return _Key(shown=f"{server.api_key}  (stored in {key_file})", pasted=server.api_key)
    return _Key(shown=f"in {key_file}", pasted=f"$(cat {shlex.quote(str(key_file))})")


def _data_dir_variable(settings: Settings) -> str:
    """Return ``CORRAL_DATA_DIR=…`` for ``corral chat``, which otherwise reads the key from the default directory."""
    directory = settings.data_dir.absolute()
    if settings.api_key is not None or directory == default_data_dir().absolute():
        return ""
    return f"CORRAL_DATA_DIR={shlex.quote(str(directory))} "


def _deployment(server: Server, deployment: Deployment, settings: Settings) -> list[str]:
    """Lines about one deployment: its first model, its chat format, and notes."""
    status = server.deployments.status(deployment.name)
    models = [model for model in server.catalog.models() if model.deployment == status.name]
    held = next(model for model in models if not model.stands_in)
    stand_ins = [model.id for model in models if model.stands_in]
    what = "the demo model" if held.id == DEMO else held.id
    chat = deployment.prompts.chat
    weights = f"{status.weights}, " if status.weights else ""
    state = "" if status.state.phase is EnginePhase.READY else f", {status.state}"
    lines = [
        f"  model    {held.id} ({status.engine}, {weights}context {status.context_tokens} tokens{state})",
        f"  chat     {deployment.prompts.format_name or 'refused'}: {chat.evidence}",
        *(f"  note     {warning}" for warning in deployment.warnings),
    ]
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
