"""What people read on their terminal: answers on standard output, notices on standard error. Knows no meaning."""

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Final

import typer

_UNPRINTABLE: Final = dict.fromkeys([*range(0x09), *range(0x0B, 0x20), *range(0x7F, 0xA0)])
"""Control characters but tab and line end: an answer must not steer the terminal."""


def accept_any_text() -> None:
    """Let no character end the program, whatever the terminal's encoding."""
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def show(text: str) -> None:
    """Put *text* out at once: as it is in a pipe, without control characters on a terminal."""
    sys.stdout.write(text.translate(_UNPRINTABLE) if sys.stdout.isatty() else text)
    sys.stdout.flush()


@contextmanager
def shown_to_the_line_end() -> Generator[Callable[[str], None]]:
    """``show`` for the pieces of one text, which ends with a line end whatever becomes of it."""
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
    """Tell the person what belongs to no answer."""
    typer.secho(text, err=True, dim=True)
