"""``corral pull``: fetch a model from the Hugging Face Hub and make it ready to serve. Must not know of HTTP."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

if TYPE_CHECKING:
    from corral.catalog.local import LocalModel, Quantization
    from corral.deployments.library import Library

Quantize = Annotated[str | None, typer.Option(help="Storage of weights: int8, int4, bf16 or f32.", show_default="int8")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """The models of this machine, and how the settings want weights stored."""

    library: "Library"
    quantize: "Quantization"


class OpenShelf(Protocol):
    """Opens the shelf; what is given on the command line, by names of settings, goes before the other settings."""

    def __call__(self, **chosen: object) -> Shelf:
        """Read the settings and open it."""
        ...


def pull_command(open_shelf: OpenShelf) -> Callable[..., None]:
    """The command, for ``app.command("pull")``."""

    def pull(
        model: Annotated[str, typer.Argument(help="Repository on the Hub, or a name of a known model: owner/name.")],
        quantize: Quantize = None,
        revision: Annotated[
            str | None, typer.Option(help="Branch, tag or commit of the repository.", show_default="main")
        ] = None,
        token: Annotated[
            str | None,
            typer.Option(
                "--token",
                "--hub-token",
                help="Token for gated models; other users of this machine may see it here.",
                show_default="$HF_TOKEN",
            ),
        ] = None,
        hub_url: Annotated[
            str | None, typer.Option(help="Address of the Hub or a mirror.", show_default="https://huggingface.co")
        ] = None,
    ) -> None:
        """Fetch a model from the Hugging Face Hub, convert it, and let `corral serve` find it by its name."""
        from corral.cli.terminal.progress import watch  # noqa: PLC0415 - a tenth of a second that `model list` need not wait for

        shelf = open_shelf(quantize=quantize, hub_token=token, hub_url=hub_url)
        with watch() as report:
            pulled = shelf.library.pull(model, revision=revision, quantize=shelf.quantize, report=report)
        announce(pulled)

    return pull


def announce(model: "LocalModel") -> None:
    """Say what was registered and how to serve it."""
    revision = "" if model.revision is None else f", revision {model.revision[:12]}"
    typer.echo(f"{model.name} is ready to serve ({model.quantize}{revision}):")
    typer.echo(f"  corral serve {model.name}")
