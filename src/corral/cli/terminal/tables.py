"""Tables and JSON on standard output: drawn on a terminal, tab-separated in a pipe. Knows not what is in them."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import typer


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A heading, and on which side its cells line up."""

    heading: str
    number: bool = False


def draws_tables() -> bool:
    """Whether a person reads the output, on a terminal."""
    return sys.stdout.isatty()


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, total: Sequence[str] = ()) -> None:
    """Print the rows under their headings; *total* on a terminal only, where no program adds the column up again."""
    if draws_tables():
        _draw(columns, rows, total)
        return
    for cells in ([column.heading.lower().replace(" ", "_") for column in columns], *rows):
        typer.echo("\t".join(_one_line(cell) for cell in cells))


def _draw(columns: Sequence[Column], rows: Sequence[Sequence[str]], total: Sequence[str]) -> None:
    from rich.console import Console  # noqa: PLC0415 - a tenth of a second that pipes need not wait for
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.heading, justify="right" if column.number else "left", overflow="fold")
    for cells in rows:
        table.add_row(*map(Text, map(_one_line, cells)))
    if total:
        table.add_row(*(Text(cell, style="bold") for cell in total))
    Console(highlight=False).print(table)


def print_json(document: Mapping[str, Any] | Sequence[Any]) -> None:
    """Print *document* as indented JSON."""
    typer.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2))


def _one_line(cell: str) -> str:
    """The cell without what would move the cursor or begin another cell."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in cell)
