"""``corral infer``: one call of DeepInfra's native inference API, compatible with ``deepctl infer``."""

from collections.abc import Callable, Sequence
from typing import Annotated, Final

import msgspec
import orjson
import typer

from corral.cli.client.channel import Event, OpenServer, Reply, Request, decode, one_line, path_segment
from corral.cli.client.connection import Refused, RequestFailed
from corral.cli.inference.inputs import parts
from corral.cli.inference.model_info import check_name
from corral.cli.inference.outputs import WHOLE, Output, parse_output, write_output
from corral.cli.terminal.completion import model_completion
from corral.cli.terminal.options import Url
from corral.cli.terminal.screen import accept_any_text, shown_to_the_line_end

_TIMEOUT_S: Final = 1800
"""The same as ``deepctl``."""


class _Token(msgspec.Struct):
    text: str
    special: bool = False


class _Streamed(msgspec.Struct):
    """An event of the native stream: a token, the whole text at the end, or an error."""

    token: _Token | None = None
    generated_text: str | None = None
    error_message: str | None = None


def infer_command(open_server: OpenServer) -> Callable[..., None]:
    """Create the command, for ``app.command("infer")``."""

    def infer(
        *,
        model: Annotated[
            str | None,
            typer.Option("--model", "-m", help="Name of the model.", autocompletion=model_completion(open_server)),
        ] = None,
        version: Annotated[str | None, typer.Option(help="Version of the model.", show_default="the newest")] = None,
        deploy_id: Annotated[
            str | None, typer.Option("--deploy-id", "-d", help="Deployment to call, instead of a model.")
        ] = None,
        inputs: Annotated[
            list[str] | None,
            typer.Option(
                "--input", "-i", metavar="NAME=VALUE", help="A field: text, @file, @- (stdin), base64:DATA; repeatable."
            ),
        ] = None,
        outputs: Annotated[
            list[str] | None,
            typer.Option(
                "--output",
                "-o",
                metavar="[PATH=]TARGET",
                help="Where to write the answer, or the part at PATH; repeatable.",
                show_default="the whole answer to standard output",
            ),
        ] = None,
        url: Url = None,
    ) -> None:
        """Run a model once and print the answer as JSON, or stream its text with `-i stream=true`."""
        request = Request(
            path=_path(model, deploy_id),
            method="POST",
            query=None if version is None else {"version": version},
            form=parts(inputs or ()),
            timeout_s=_TIMEOUT_S,
        )
        targets = [parse_output(text) for text in outputs or ()]
        accept_any_text()
        try:
            with open_server(url) as server, server.exchange(request) as reply:
                _deliver(reply, targets)
        except Refused as refused:
            raise RequestFailed(_with_body(refused)) from refused

    return infer


def _path(model: str | None, deploy_id: str | None) -> str:
    if deploy_id is not None:
        return f"/v1/inference/deploy/{path_segment(deploy_id)}"
    if model is None:
        raise typer.BadParameter("missing: give a model with -m, or a deployment with -d.", param_hint="-m")
    return f"/v1/inference/{check_name(model)}"


def _deliver(reply: Reply, targets: Sequence[Output]) -> None:
    document = _streamed(reply, silently=bool(targets)) if reply.streams else decode(reply.body(), object)
    for target in targets or (() if reply.streams else (WHOLE,)):
        write_output(document, target)


def _streamed(reply: Reply, *, silently: bool) -> object:
    """Print the text as it arrives, unless *silently*; return the last event, which is the whole answer."""
    with shown_to_the_line_end() as show_piece:
        for event in reply.events():
            streamed = _read(event)
            if streamed.token is not None and not (streamed.token.special or silently):
                show_piece(streamed.token.text)
            if streamed.generated_text is not None:
                return decode(event.data.encode(), object)
    raise RequestFailed("The server closed the stream before the answer was complete.")


def _read(event: Event) -> _Streamed:
    if event.data == "[DONE]":
        return _Streamed()
    streamed = decode(event.data.encode(), _Streamed)
    if streamed.error_message is not None:
        raise RequestFailed(one_line(streamed.error_message) or "The server failed while it generated the answer.")
    return streamed


def _with_body(refused: Refused) -> str:
    """Format the error as one sentence, followed by the response body."""
    try:
        body = orjson.dumps(orjson.loads(refused.body), option=orjson.OPT_INDENT_2).decode()
    except orjson.JSONDecodeError:
        body = one_line(refused.body.decode(errors="replace"))
    return f"The server returned HTTP status {refused.status_code}: {refused}\n{body}".rstrip()
