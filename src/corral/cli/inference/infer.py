"""``corral infer``: one call of DeepInfra's native API, as ``deepctl infer`` makes it. Must not know of HTTP."""

from collections.abc import Callable, Sequence
from typing import Annotated, Final

import msgspec
import orjson
import typer

from corral.cli.client.channel import Event, OpenServer, Reply, Request, decode, one_line, path_segment
from corral.cli.client.connection import Refused, RequestFailed
from corral.cli.inference.inputs import parts
from corral.cli.inference.model_info import check_name
from corral.cli.inference.outputs import WHOLE, Output, output, put
from corral.cli.terminal.completion import model_completion
from corral.cli.terminal.options import Url
from corral.cli.terminal.screen import accept_any_text, shown_to_the_line_end

_TIMEOUT_S: Final = 1800
"""As long as ``deepctl`` waits."""


class _Token(msgspec.Struct):
    text: str
    special: bool = False


class _Streamed(msgspec.Struct):
    """An event of the native stream; the last one holds the whole text, a failed one its reason."""

    token: _Token | None = None
    generated_text: str | None = None
    error_message: str | None = None


def infer_command(open_server: OpenServer) -> Callable[..., None]:
    """The command, for ``app.command("infer")``."""

    def infer(
        *,
        model: Annotated[
            str | None,
            typer.Option("--model", "-m", help="Name of the model.", autocompletion=model_completion(open_server)),
        ] = None,
        version: Annotated[str | None, typer.Option(help="A version of it.", show_default="the newest")] = None,
        deploy_id: Annotated[
            str | None, typer.Option("--deploy-id", "-d", help="A deployment of the server, instead of a model.")
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
                help="What of the answer goes where; repeatable.",
                show_default="all of it to standard output",
            ),
        ] = None,
        url: Url = None,
    ) -> None:
        """Run a model once and print the answer as JSON, or its text as it comes with `-i stream=true`."""
        request = Request(
            path=_path(model, deploy_id),
            method="POST",
            query=None if version is None else {"version": version},
            form=parts(inputs or ()),
            timeout_s=_TIMEOUT_S,
        )
        wishes = [output(text) for text in outputs or ()]
        accept_any_text()
        try:
            with open_server(url) as server, server.exchange(request) as reply:
                _deliver(reply, wishes)
        except Refused as refused:
            raise RequestFailed(_with_body(refused)) from refused

    return infer


def _path(model: str | None, deploy_id: str | None) -> str:
    if deploy_id is not None:
        return f"/v1/inference/deploy/{path_segment(deploy_id)}"
    if model is None:
        raise typer.BadParameter("say which model, or which deployment with -d.", param_hint="-m")
    return f"/v1/inference/{check_name(model)}"


def _deliver(reply: Reply, wishes: Sequence[Output]) -> None:
    document = _streamed(reply, silently=bool(wishes)) if reply.streams else decode(reply.body(), object)
    for wish in wishes or (() if reply.streams else (WHOLE,)):
        put(document, wish)


def _streamed(reply: Reply, *, silently: bool) -> object:
    """Show the text as it comes, unless it is wished elsewhere; the last event is the document."""
    with shown_to_the_line_end() as show_piece:
        for event in reply.events():
            streamed = _read(event)
            if streamed.token is not None and not (streamed.token.special or silently):
                show_piece(streamed.token.text)
            if streamed.generated_text is not None:
                return decode(event.data.encode(), object)
    raise RequestFailed("The server ended the answer before it was complete.")


def _read(event: Event) -> _Streamed:
    if event.data == "[DONE]":
        return _Streamed()
    streamed = decode(event.data.encode(), _Streamed)
    if streamed.error_message is not None:
        raise RequestFailed(one_line(streamed.error_message) or "The server failed while it answered.")
    return streamed


def _with_body(refused: Refused) -> str:
    """The refusal in a sentence, and under it the whole of what the server said."""
    try:
        body = orjson.dumps(orjson.loads(refused.body), option=orjson.OPT_INDENT_2).decode()
    except orjson.JSONDecodeError:
        body = one_line(refused.body.decode(errors="replace"))
    return f"The server answered with HTTP status {refused.status_code}: {refused}\n{body}".rstrip()
