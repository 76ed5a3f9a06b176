"""A sign on the terminal that an answer is awaited, once that takes longer than a second. Nothing in a pipe."""

import sys
import threading
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import Final

PATIENCE_S: Final = 1.0


@contextmanager
def waiting(after_s: float = PATIENCE_S) -> Generator[None]:
    """Lasts while an answer has not come; the sign is on standard error and vanishes with the block."""
    if not sys.stderr.isatty():
        yield
        return
    with ExitStack() as shown:

        def show() -> None:
            from rich.console import Console  # noqa: PLC0415 - a tenth of a second that quick answers need not

            shown.enter_context(Console(stderr=True).status("Waiting for the server"))

        timer = threading.Timer(after_s, show)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()
