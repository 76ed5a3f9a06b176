"""Print answers to standard output and notices to standard error."""

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Final

import typer

_UNPRINTABLE: Final = dict.fromkeys([*range(0x09), *range(0x0B, 0x20), *range(0x7F, 0xA0)])
"""Control characters except tab and newline, which would let an answer control the terminal."""


def accept_any_text() -> None:
    """Replace characters that the terminal's encoding lacks, instead of raising an error."""
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def show(text: str) -> None:
    """Print *text* and flush: unchanged in a pipe, without control characters on a terminal."""
    sys.stdout.write(text.translate(_UNPRINTABLE) if sys.stdout.isatty() else text)
    sys.stdout.flush()


@contextmanager
def shown_to_the_line_end() -> Generator[Callable[[str], None]]:
    """Print the pieces of one text with ``show``; end it with a newline, also after an error."""
    last = "\n"

    def show_piece(text: str) -> None:
        nonlocal last
        last = text[-1:] or last
        show(text)

    try:
        yield show_piece
    finally:
        if last != "\n":
            show("\n")


def notice(text: str) -> None:
    """Print a notice that is not part of an answer."""
    typer.secho(text, err=True, dim=True)
