"""``corral model list``, ``info`` and ``versions``: models of a server.

In a pipe their output has the format of ``deepctl model``.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Annotated, Any, Final

import msgspec
import typer

from corral.cli.client.channel import Channel, OpenServer, Request, decode, path_segment
from corral.cli.inference.model_page import ModelPage, model_page
from corral.cli.terminal.completion import model_completion
from corral.cli.terminal.options import AsJson, Url
from corral.cli.terminal.screen import accept_any_text, show
from corral.cli.terminal.tables import Column, draws_tables, print_json, print_table


class Visibility(StrEnum):
    """Filter of models by visibility."""

    ALL = "all"
    PUBLIC = "public"
    PRIVATE = "private"


_LISTS: Final = {Visibility.PUBLIC: "/models/list", Visibility.PRIVATE: "/models/private/list"}


class _Listed(msgspec.Struct):
    type: str
    model_name: str
    max_tokens: int | None = None


class _Version(msgspec.Struct):
    version: str
    uploaded_at: str | int | float | None = None


def list_command(open_server: OpenServer) -> Callable[..., None]:
    """Create the command ``corral model list``."""

    def list_models(
        *,
        visibility: Annotated[Visibility, typer.Option(help="Which models; private ones need a key.")] = Visibility.ALL,
        url: Url = None,
        as_json: AsJson = False,
    ) -> None:
        """List models with their types: a table on a terminal, `type: name` lines in a pipe."""
        with open_server(url) as server:
            bodies = {each: server.ask(Request(path=_LISTS[each])) for each in _included(visibility, server)}
        if as_json:
            print_json([record for body in bodies.values() for record in decode(body, list[dict[str, Any]])])
            return
        listed = {each: _sorted(decode(body, list[_Listed])) for each, body in bodies.items()}
        if draws_tables():
            _draw(listed)
        else:
            _print_plainly(listed, headings=visibility is Visibility.ALL)

    return list_models


def info_command(open_server: OpenServer) -> Callable[..., None]:
    """Create the command ``corral model info``."""

    def info(
        *,
        model: Annotated[
            str, typer.Option("--model", "-m", help="Name of the model.", autocompletion=model_completion(open_server))
        ],
        version: Annotated[
            str | None, typer.Option("--version", "-v", help="Version of the model.", show_default="the newest")
        ] = None,
        url: Url = None,
        as_json: AsJson = False,
    ) -> None:
        """Print a model's version, price, example calls and input fields."""
        query = None if version is None else {"version": version}
        with open_server(url) as server:
            body = server.ask(Request(path=f"/models/{check_name(model)}", query=query))
        if as_json:
            print_json(decode(body, dict[str, Any]))
            return
        accept_any_text()
        show(model_page(model, decode(body, ModelPage)))

    return info


def versions_command(open_server: OpenServer) -> Callable[..., None]:
    """Create the command ``corral model versions``."""

    def versions(
        *,
        model: Annotated[
            str, typer.Option("--model", "-m", help="Name of the model.", autocompletion=model_completion(open_server))
        ],
        url: Url = None,
        as_json: AsJson = False,
    ) -> None:
        """List a model's versions: a table on a terminal, JSON in a pipe."""
        with open_server(url) as server:
            body = server.ask(Request(path=f"/models/{check_name(model)}/versions"))
        if as_json or not draws_tables():
            print_json(decode(body, list[dict[str, Any]]))
            return
        rows = [(each.version, str(each.uploaded_at or "")) for each in decode(body, list[_Version])]
        print_table((Column(heading="Version"), Column(heading="Uploaded")), rows)

    return versions


def check_name(name: str) -> str:
    """Quote a model's name for a URL's path.

    Raises:
        BadParameter: the name is not valid for a model.
    """
    if not all(part.strip(".") for part in name.split("/")):
        raise typer.BadParameter(f"'{name}' is not a model name; names have the form owner/name.", param_hint="--model")
    return "/".join(map(path_segment, name.split("/")))


def _included(visibility: Visibility, server: Channel) -> tuple[Visibility, ...]:
    if visibility is not Visibility.ALL:
        return (visibility,)
    return (Visibility.PUBLIC, Visibility.PRIVATE) if server.has_key else (Visibility.PUBLIC,)


def _sorted(models: Sequence[_Listed]) -> list[_Listed]:
    return sorted(models, key=lambda model: (model.type, model.model_name))


def _draw(listed: dict[Visibility, list[_Listed]]) -> None:
    columns = (
        Column(heading="Model"),
        Column(heading="Type"),
        Column(heading="Context", number=True),
        Column(heading="Visibility"),
    )
    rows = [
        (model.model_name, model.type, "" if model.max_tokens is None else f"{model.max_tokens}", visibility.value)
        for visibility, models in listed.items()
        for model in models
    ]
    print_table(columns, rows)


def _print_plainly(listed: dict[Visibility, list[_Listed]], *, headings: bool) -> None:
    for visibility, models in listed.items():
        if headings:
            typer.echo(f"{visibility.value.capitalize()} Models:")
        for model in models:
            typer.echo(f"{model.type}: {model.model_name}")
