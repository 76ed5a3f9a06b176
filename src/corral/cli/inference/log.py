"""``corral log``: print and follow the log of a deployment."""

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
"""End of the year 9999, the last that ``datetime`` supports."""


class _Entries(msgspec.Struct):
    entries: list[tuple[str, str]]
    """Pairs of Unix time in seconds and line, oldest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuery:
    """Query of log lines."""

    deploy_id: str
    since_s: Decimal | None
    until_s: Decimal | None
    limit: int


def log_command(open_server: OpenServer, poll_s: float = _POLL_S) -> Callable[..., None]:
    """Create the command, for ``app.command("log")``; *poll_s* is the polling interval of ``--follow``."""

    def log(
        deploy_id: Annotated[str, typer.Argument(metavar="ID", help="Id of a deployment, as in `deploy list`.")],
        *,
        since: Annotated[
            Decimal | None,
            typer.Option("--from", parser=parse_time, metavar="TIME", help="Start: 2026-01-31T12:00, or Unix time."),
        ] = None,
        until: Annotated[
            Decimal | None,
            typer.Option("--to", parser=parse_time, metavar="TIME", help="End, exclusive."),
        ] = None,
        limit: Annotated[int, typer.Option(min=1, max=_MAX_ENTRIES, help="Most lines to print.")] = _DEFAULT_ENTRIES,
        follow: Annotated[bool, typer.Option("--follow", "-f", help="Print new lines until Ctrl-C.")] = False,
        url: Url = None,
    ) -> None:
        """Print log lines of a deployment, each with its local time."""
        wanted = LogQuery(deploy_id=deploy_id, since_s=since, until_s=until, limit=limit)
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


def parse_time(text: str) -> Decimal:
    """Parse a Unix time, or an ISO 8601 date and time, which is local without an offset, to Unix seconds.

    Raises:
        BadParameter: *text* is neither.
    """
    try:
        seconds = Decimal(text)
    except InvalidOperation:
        try:
            seconds = Decimal(str(datetime.fromisoformat(text).timestamp()))
        except (ValueError, OverflowError) as error:
            raise typer.BadParameter(f"'{text}' is not a time such as 2026-01-31T12:00 or 1769860800.") from error
    if not (seconds.is_finite() and 0 <= seconds <= _LATEST):
        raise typer.BadParameter(f"'{text}' is not a time between 1970 and 9999.")
    return seconds


def _lines(server: Channel, wanted: LogQuery) -> list[tuple[str, str]]:
    query: dict[str, str | int] = {"deploy_id": wanted.deploy_id, "limit": wanted.limit}
    if wanted.since_s is not None:
        query["from"] = f"{wanted.since_s:f}"
    if wanted.until_s is not None:
        query["to"] = f"{wanted.until_s:f}"
    return decode(server.ask(Request(path="/v1/logs/query", query=query)), _Entries).entries


def _followed(server: Channel, wanted: LogQuery, poll_s: float) -> Generator[tuple[str, str]]:
    """Yield lines, then new ones. Each poll starts at the last line's time and skips the lines already seen."""
    seen: list[tuple[str, str]] = []
    while True:
        lines = _lines(server, wanted)
        new_lines = lines[len(seen) :] if lines[: len(seen)] == seen else lines
        yield from new_lines
        if lines:
            last = lines[-1][0]
            seen = [entry for entry in lines if entry[0] == last]
            wanted = LogQuery(
                deploy_id=wanted.deploy_id, since_s=_seconds(last), until_s=wanted.until_s, limit=_MAX_ENTRIES
            )
        if len(new_lines) < wanted.limit:
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
        raise RequestFailed("The server did not send a valid Corral response: a log line has no valid time.")
    return seconds
