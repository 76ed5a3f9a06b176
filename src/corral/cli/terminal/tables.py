"""Print tables and JSON: tables are drawn on a terminal, tab-separated in a pipe."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import typer


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """Heading and alignment of a column; numbers are aligned right."""

    heading: str
    number: bool = False


def draws_tables() -> bool:
    """Return whether standard output is a terminal."""
    return sys.stdout.isatty()


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, total: Sequence[str] = ()) -> None:
    """Print the rows with headings. *total* is printed only on a terminal, so that programs do not count it."""
    if draws_tables():
        _draw(columns, rows, total)
        return
    for cells in ([column.heading.lower().replace(" ", "_") for column in columns], *rows):
        typer.echo("\t".join(_one_line(cell) for cell in cells))


def _draw(columns: Sequence[Column], rows: Sequence[Sequence[str]], total: Sequence[str]) -> None:
    from rich.console import Console  # noqa: PLC0415 - takes 0.1 s, which pipes avoid
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
    """Replace control characters, such as line breaks and tabs, in a cell."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in cell)
