"""Cancel work when the client disconnects."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from starlette.types import Receive


class ClientGone(Exception):
    """The client closed the connection."""


@asynccontextmanager
async def while_connected(receive: Receive) -> AsyncGenerator[asyncio.TaskGroup]:
    """Run the block and the tasks of its task group until they are done or the client disconnects.

    A disconnect cancels the block and the group's tasks at once, and waits for what they do while they end.
    *receive* must have no body left to deliver that anyone still wants.

    Raises:
        ClientGone: the client disconnected first. Anything the block raises passes as it is.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            watch = tasks.create_task(_until_disconnect(receive))
            yield tasks
            watch.cancel()
    except BaseExceptionGroup as group:
        # The first is the cause; the others come from the cancellation.
        raise group.exceptions[0] from None


async def _until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    raise ClientGone
