"""``corral model check``: print what a checkpoint is, and why it cannot be served."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import msgspec
import typer

from corral.cli.terminal.options import AsJson
from corral.cli.terminal.screen import accept_any_text, show
from corral.core.errors import shown_memory

if TYPE_CHECKING:
    from corral.inspection.report import CheckpointReport, StorageFacts

_HEADINGS = ("--quantize", "stored as", "weights", "loaded", "first start")


class Inspect(Protocol):
    """Inspects a checkpoint that is given by its path or by the name that it was pulled or added as."""

    def __call__(self, given: str, **chosen: object) -> "CheckpointReport":
        """Inspect it with the settings; *chosen* are settings from the command line, which have priority."""
        ...


def check_command(inspect: Inspect) -> Callable[..., None]:
    """Create the command ``corral model check``."""

    def check(
        *,
        path: Annotated[str, typer.Argument(help="Checkpoint, or name of a pulled or added model.")],
        chat_format: Annotated[
            str | None,
            typer.Option(help="Chat format of the checkpoint, such as chatml.", show_default="recognised"),
        ] = None,
        as_json: AsJson = False,
    ) -> None:
        """Print what a checkpoint is, how it would be prompted, what memory it needs, and why it cannot be served."""
        report = inspect(path, chat_format=chat_format)
        if as_json:
            document: dict[str, Any] = msgspec.to_builtins(report)
            # Names and fields of a checkpoint may hold lone surrogates, which have no UTF-8.
            typer.echo(json.dumps({**document, "is_served": report.is_served}, indent=2))
        else:
            accept_any_text()
            show(_page(report))
        if not report.is_served:
            raise typer.Exit(1)

    return check


def _page(report: "CheckpointReport") -> str:
    """Format the report, ending with a line break."""
    lines = [report.path, *(f"  {name:<13}{value}" for name, value in _facts(report))]
    if report.storage:
        lines += ["", *_table(_HEADINGS, [_row(facts) for facts in report.storage])]
    if report.warnings:
        lines += ["", "Warnings:", *(f"  - {sentence}" for sentence in report.warnings)]
    if report.refusals:
        lines += ["", "It cannot be served:", *(f"  - {sentence}" for sentence in report.refusals)]
    else:
        lines += ["", "It can be served."]
    return "\n".join(lines) + "\n"


def _facts(report: "CheckpointReport") -> Iterator[tuple[str, str]]:
    """Yield names and values of what is known."""
    if (model := report.model) is not None:
        yield "architecture", model.architecture or "not stated"
        if model.parameters is not None:
            yield "parameters", f"{model.parameters:,}"
        if model.context_tokens is not None:
            yield "context", f"{model.context_tokens:,} tokens"
    if (weights := report.weights) is not None:
        files = weights.files[0] if len(weights.files) == 1 else f"{len(weights.files)} files"
        yield "weights", f"{weights.format}, {files}, {_size(weights.size_bytes)}: {', '.join(weights.types)}"
    if (tokenizer := report.tokenizer) is not None:
        leads = "no token leads a prompt" if tokenizer.bos is None else f"{tokenizer.bos} leads each prompt"
        yield "tokenizer", f"{tokenizer.kind} in {tokenizer.file}, {tokenizer.vocab_size:,} tokens; {leads}"
    if report.end_tokens:
        ends = (f"{end.text} ({end.token_id}: {', '.join(end.sources)})" for end in report.end_tokens)
        yield "end tokens", ", ".join(ends)
    if (chat := report.chat) is not None:
        yield "chat format", f"{chat.format or 'not known'}. {chat.evidence}"
        if chat.example is not None:
            yield "example", json.dumps(chat.example.text, ensure_ascii=False)
            yield "its ids", " ".join(map(str, chat.example.ids))


def _row(facts: "StorageFacts") -> tuple[str, ...]:
    sizes = (facts.weights_bytes, facts.loaded_bytes, facts.conversion_bytes)
    return (facts.quantize, facts.stored_as, *map(shown_memory, sizes))


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    for cells in (headings, *rows):
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _size(size_bytes: int) -> str:
    from corral.deployments.pulling import shown_size  # noqa: PLC0415 - imports what this command needs nowhere else

    return shown_size(size_bytes)
