"""Work that ends when the client goes away. Knows nothing of what the work is."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from starlette.types import Receive


class ClientGone(Exception):
    """The client closed its connection; there is nobody left to answer."""


@asynccontextmanager
async def while_connected(receive: Receive) -> AsyncGenerator[asyncio.TaskGroup]:
    """Run the block, and tasks put into the group it gets, until done or until the client disconnects.

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
        # The first is the cause; the others are what its cancellation stirred up.
        raise group.exceptions[0] from None


async def _until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    raise ClientGone
