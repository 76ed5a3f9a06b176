"""``corral log``: what a deployment logged, and what it logs now. Must not know of HTTP."""

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated, Final

import msgspec
import typer

from corral.cli.client.channel import Channel, OpenServer, Request, decode, one_line
from corral.cli.client.connection import RequestFailed
from corral.cli.terminal.options import Url

_POLL_S: Final = 2.0
_MAX_ENTRIES: Final = 1000
_DEFAULT_ENTRIES: Final = 100
_LATEST: Final = Decimal(253_402_300_799)
"""The end of the year 9999, the last that can be shown."""


class _Entries(msgspec.Struct):
    entries: list[tuple[str, str]]
    """Time in Unix seconds with a fraction, and line; oldest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Excerpt:
    """Which lines are wanted."""

    deploy_id: str
    since_s: Decimal | None
    until_s: Decimal | None
    limit: int


def log_command(open_server: OpenServer, poll_s: float = _POLL_S) -> Callable[..., None]:
    """The command, for ``app.command("log")``; *poll_s* is the pause between two looks with ``--follow``."""

    def log(
        deploy_id: Annotated[str, typer.Argument(metavar="ID", help="Of a deployment, as `deploy list` shows it.")],
        *,
        since: Annotated[
            Decimal | None,
            typer.Option("--from", parser=moment, metavar="TIME", help="First moment: 2026-01-31T12:00, or Unix time."),
        ] = None,
        until: Annotated[
            Decimal | None,
            typer.Option("--to", parser=moment, metavar="TIME", help="Moment to stop before."),
        ] = None,
        limit: Annotated[int, typer.Option(min=1, max=_MAX_ENTRIES, help="Lines at most.")] = _DEFAULT_ENTRIES,
        follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines until Ctrl-C.")] = False,
        url: Url = None,
    ) -> None:
        """Print lines that a deployment logged, each with its local time."""
        wanted = Excerpt(deploy_id=deploy_id, since_s=since, until_s=until, limit=limit)
        with open_server(url) as server:
            if not follow:
                for at, line in _lines(server, wanted):
                    _print(at, line)
                return
            try:
                for at, line in _followed(server, wanted, poll_s):
                    _print(at, line)
            except KeyboardInterrupt:
                return

    return log


def moment(text: str) -> Decimal:
    """Unix seconds of a Unix time, or of a date and time in ISO 8601, which is local unless it says otherwise.

    Raises:
        BadParameter: neither.
    """
    try:
        seconds = Decimal(text)
    except InvalidOperation:
        try:
            seconds = Decimal(str(datetime.fromisoformat(text).timestamp()))
        except (ValueError, OverflowError) as error:
            raise typer.BadParameter(f"'{text}' is no time such as 2026-01-31T12:00 or 1769860800.") from error
    if not (seconds.is_finite() and 0 <= seconds <= _LATEST):
        raise typer.BadParameter(f"'{text}' is no time between 1970 and 9999.")
    return seconds


def _lines(server: Channel, wanted: Excerpt) -> list[tuple[str, str]]:
    query: dict[str, str | int] = {"deploy_id": wanted.deploy_id, "limit": wanted.limit}
    if wanted.since_s is not None:
        query["from"] = f"{wanted.since_s:f}"
    if wanted.until_s is not None:
        query["to"] = f"{wanted.until_s:f}"
    return decode(server.ask(Request(path="/v1/logs/query", query=query)), _Entries).entries


def _followed(server: Channel, wanted: Excerpt, poll_s: float) -> Generator[tuple[str, str]]:
    """Lines, then those that come: each look begins at the last line's moment, and leaves out what was seen of it."""
    seen: list[tuple[str, str]] = []
    while True:
        lines = _lines(server, wanted)
        fresh = lines[len(seen) :] if lines[: len(seen)] == seen else lines
        yield from fresh
        if lines:
            last = lines[-1][0]
            seen = [entry for entry in lines if entry[0] == last]
            wanted = Excerpt(
                deploy_id=wanted.deploy_id, since_s=_seconds(last), until_s=wanted.until_s, limit=_MAX_ENTRIES
            )
        if len(fresh) < wanted.limit:
            time.sleep(poll_s)


def _print(at: str, line: str) -> None:
    shown = datetime.fromtimestamp(float(_seconds(at)), UTC).astimezone()
    typer.echo(f"{shown:%Y-%m-%d %H:%M:%S}.{shown.microsecond // 1000:03} {one_line(line)}")


def _seconds(text: str) -> Decimal:
    try:
        seconds = Decimal(text)
    except InvalidOperation:
        seconds = Decimal("NaN")
    if not (seconds.is_finite() and 0 <= seconds <= _LATEST):
        raise RequestFailed("The server's answer is not what Corral sends: a line of the log has no time.")
    return seconds
