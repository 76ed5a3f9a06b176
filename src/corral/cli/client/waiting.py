"""Show on the terminal that a command waits for the server, after one second."""

import sys
import threading
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import Final

SHOW_AFTER_S: Final = 1.0


@contextmanager
def waiting(after_s: float = SHOW_AFTER_S) -> Generator[None]:
    """Show a spinner on standard error if the block takes longer than *after_s*. Does nothing in a pipe."""
    if not sys.stderr.isatty():
        yield
        return
    with ExitStack() as shown:

        def show() -> None:
            from rich.console import Console  # noqa: PLC0415 - takes 0.1 s, which quick answers can avoid

            shown.enter_context(Console(stderr=True).status("Waiting for the server"))

        timer = threading.Timer(after_s, show)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()
