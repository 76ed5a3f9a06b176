"""Options shared by several commands."""

from typing import Annotated

import typer

Url = Annotated[
    str | None,
    typer.Option(help="Address of the server.", show_default="where you are logged in, else this machine's"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print as JSON.")]
