"""``corral predictions``: list, show, cancel and stream predictions, over Replicate's API."""

from collections.abc import Callable
from contextlib import closing
from typing import Annotated, Any, Final
from urllib.parse import parse_qs, urlsplit

import msgspec
import typer

from corral.cli.client.channel import Channel, Event, OpenServer, Reach, Request, decode, one_line, path_segment
from corral.cli.client.connection import RequestFailed
from corral.cli.client.following import follow
from corral.cli.terminal.options import AsJson, Url
from corral.cli.terminal.screen import accept_any_text, notice, show, shown_to_the_line_end
from corral.cli.terminal.tables import Column, print_json, print_table

_DEFAULT_LIMIT: Final = 20
_MAX_LIMIT: Final = 10_000
Id = Annotated[str, typer.Argument(metavar="ID", help="Id of a prediction, as in `predictions list`.")]


class _Metrics(msgspec.Struct):
    predict_time: float | None = None
    """Seconds."""
    input_token_count: int | None = None
    output_token_count: int | None = None


class _Urls(msgspec.Struct):
    stream: str | None = None


class _Prediction(msgspec.Struct):
    id: str
    status: str
    model: str | None = None
    version: str | None = None
    created_at: str | None = None
    completed_at: str | None = None
    output: list[str] | str | None = None
    error: str | None = None
    metrics: _Metrics | None = None
    urls: _Urls | None = None


class _Page(msgspec.Struct):
    results: list[msgspec.Raw]
    next: str | None = None


def predictions_commands(open_server: OpenServer, reach: Reach) -> typer.Typer:
    """Create the command group, for ``app.add_typer``."""
    app = typer.Typer(
        name="predictions",
        add_completion=False,
        help="List, show, cancel and stream predictions.",
        no_args_is_help=True,
    )
    app.command("list")(list_command(open_server))
    app.command("get")(get_command(open_server))
    app.command("cancel")(cancel_command(open_server))
    app.command("stream")(stream_command(open_server, reach))
    return app


def list_command(open_server: OpenServer) -> Callable[..., None]:
    """Create the command ``corral predictions list``."""

    def list_predictions(
        *,
        limit: Annotated[int, typer.Option(min=1, max=_MAX_LIMIT, help="Most predictions to list.")] = _DEFAULT_LIMIT,
        url: Url = None,
        as_json: AsJson = False,
    ) -> None:
        """List your predictions, newest first: a table on a terminal, tab-separated in a pipe."""
        with open_server(url) as server:
            found = _newest(server, limit)
        if as_json:
            print_json([decode(bytes(each), dict[str, Any]) for each in found])
            return
        columns = (
            *(Column(heading=heading) for heading in ("Id", "Model", "Status", "Created")),
            *(Column(heading=heading, number=True) for heading in ("Seconds", "Prompt", "Completion")),
        )
        print_table(columns, [_row(decode(bytes(each), _Prediction)) for each in found])

    return list_predictions


def get_command(open_server: OpenServer) -> Callable[..., None]:
    """Create the command ``corral predictions get``."""

    def get(prediction_id: Id, *, url: Url = None, as_json: AsJson = False) -> None:
        """Show one prediction: its status, and its output so far."""
        with open_server(url) as server:
            body = server.ask(Request(path=_path(prediction_id)))
        if as_json:
            print_json(decode(body, dict[str, Any]))
            return
        accept_any_text()
        _show(decode(body, _Prediction))

    return get


def cancel_command(open_server: OpenServer) -> Callable[..., None]:
    """Create the command ``corral predictions cancel``."""

    def cancel(prediction_id: Id, *, url: Url = None, as_json: AsJson = False) -> None:
        """Cancel a prediction and print its status. An ended prediction does not change."""
        with open_server(url) as server:
            body = server.ask(Request(path=f"{_path(prediction_id)}/cancel", method="POST"))
        if as_json:
            print_json(decode(body, dict[str, Any]))
            return
        prediction = decode(body, _Prediction)
        typer.echo(f"{prediction.id}: {prediction.status}")

    return cancel


def stream_command(open_server: OpenServer, reach: Reach) -> Callable[..., None]:
    """Create the command ``corral predictions stream``."""

    def stream(prediction_id: Id, *, url: Url = None) -> None:
        """Stream a prediction's text from its start; reconnects when the connection is lost.

        Ctrl-C stops the command, not the prediction.
        """
        accept_any_text()
        with open_server(url) as server:
            prediction = decode(server.ask(Request(path=_path(prediction_id))), _Prediction)
        if prediction.urls is None or prediction.urls.stream is None:
            raise RequestFailed(f"Prediction {prediction_id} has no stream.")
        events = follow(reach, prediction.urls.stream, on_retry=notice)
        with closing(events), shown_to_the_line_end() as show_piece:
            for event in events:
                _handle(event, show_piece)

    return stream


def _handle(event: Event, show_piece: Callable[[str], None]) -> None:
    """Print the text of an event.

    Raises:
        RequestFailed: the prediction failed or was cancelled.
    """
    match event.name:
        case "output":
            show_piece(event.data)
        case "error":
            raise RequestFailed(f"The prediction failed: {_detail(event.data)}")
        case "done":
            reason = decode(event.data.encode(), _Done).reason
            if reason is not None:
                raise RequestFailed(f"The prediction ended: {one_line(reason)}.")
        case _:  # added by a later version
            pass


class _Done(msgspec.Struct):
    reason: str | None = None


class _Error(msgspec.Struct):
    detail: str


def _detail(data: str) -> str:
    try:
        return one_line(decode(data.encode(), _Error).detail)
    except RequestFailed:
        return one_line(data)


def _newest(server: Channel, limit: int) -> list[msgspec.Raw]:
    found: list[msgspec.Raw] = []
    cursor: str | None = None
    while len(found) < limit:
        query = None if cursor is None else {"cursor": cursor}
        page = decode(server.ask(Request(path="/v1/predictions", query=query)), _Page)
        found += page.results
        following = _cursor(page.next)
        if not page.results or following in {None, cursor}:
            break
        cursor = following
    return found[:limit]


def _cursor(following: str | None) -> str | None:
    """Extract the cursor from the next page's URL; the URL's host is not used, because it may be another server's."""
    return parse_qs(urlsplit(following or "").query).get("cursor", [None])[0]


def _path(prediction_id: str) -> str:
    return f"/v1/predictions/{path_segment(prediction_id)}"


def _row(prediction: _Prediction) -> tuple[str, ...]:
    metrics = prediction.metrics or _Metrics()
    return (
        prediction.id,
        prediction.model or "",
        prediction.status,
        prediction.created_at or "",
        "" if metrics.predict_time is None else f"{metrics.predict_time:.2f}",
        "" if metrics.input_token_count is None else f"{metrics.input_token_count}",
        "" if metrics.output_token_count is None else f"{metrics.output_token_count}",
    )


def _show(prediction: _Prediction) -> None:
    labels = ("id", "model", "status", "created", "seconds", "prompt", "completion")
    lines = [*zip(labels, _row(prediction), strict=True), ("error", prediction.error or "")]
    for label, value in lines:
        if value:
            typer.echo(f"{label:<10} {one_line(value)}")
    text = prediction.output if isinstance(prediction.output, str) else "".join(prediction.output or ())
    if text:
        show("\n")
        with shown_to_the_line_end() as show_piece:
            show_piece(text)
