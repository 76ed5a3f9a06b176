"""``corral pull``: download a model from the Hugging Face Hub and convert it for serving."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

if TYPE_CHECKING:
    from corral.catalog.local import LocalModel, Quantization
    from corral.deployments.library import Library

Quantize = Annotated[str | None, typer.Option(help="Storage of weights: int8, int4, bf16 or f32.", show_default="int8")]


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalModels:
    """The models of this machine, and the storage format from the settings."""

    library: "Library"
    quantize: "Quantization"


class OpenLocalModels(Protocol):
    """Opens the local models with the settings; *chosen* are settings from the command line, which have priority."""

    def __call__(self, **chosen: object) -> LocalModels:
        """Read the settings and open the local models."""
        ...


def pull_command(open_models: OpenLocalModels) -> Callable[..., None]:
    """Create the command, for ``app.command("pull")``."""

    def pull(
        model: Annotated[str, typer.Argument(help="Repository on the Hub, or name of a known model: owner/name.")],
        quantize: Quantize = None,
        revision: Annotated[
            str | None, typer.Option(help="Branch, tag or commit of the repository.", show_default="main")
        ] = None,
        file: Annotated[
            str | None,
            typer.Option(
                help="GGUF file of the repository; of a model in several parts, the first one.",
                show_default="the only one, or *.safetensors",
            ),
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
        """Download a model from the Hugging Face Hub, convert it, and register its name for `corral serve`."""
        from corral.cli.terminal.progress import watch  # noqa: PLC0415 - takes 0.1 s, which `model list` avoids

        models = open_models(quantize=quantize, hub_token=token, hub_url=hub_url)
        with watch() as report:
            pulled = models.library.pull(model, revision=revision, file=file, quantize=models.quantize, report=report)
        announce(pulled)

    return pull


def announce(model: "LocalModel") -> None:
    """Print what was registered and how to serve it."""
    revision = "" if model.revision is None else f", revision {model.revision[:12]}"
    typer.echo(f"{model.name} is ready to serve ({model.quantize}{revision}):")
    typer.echo(f"  corral serve {model.name}")
