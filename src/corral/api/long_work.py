"""Work whose time depends on how much text a caller sent: done in a thread where there is much of it."""

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

LONG_CHARS: Final = 10_000
"""From here on work that is linear in its text takes a noticeable part of a millisecond."""


async def work_on_text(work: Callable[[], T], *, chars: int) -> T:
    """Return what *work* returns, or raise what it raises; other requests are served while it goes on.

    Args:
        work: pure, since it may run in a thread.
        chars: length of the text that it works on.
    """
    return work() if chars < LONG_CHARS else await asyncio.to_thread(work)
