"""Run work on long texts in a thread."""

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

LONG_CHARS: Final = 10_000
"""From this length on, linear work takes a noticeable part of a millisecond."""


async def work_on_text(work: Callable[[], T], *, chars: int) -> T:
    """Call *work*, in a thread if the text is long, and return its result.

    Args:
        work: pure, since it may run in a thread.
        chars: length of the text that it works on.
    """
    return work() if chars < LONG_CHARS else await asyncio.to_thread(work)
