"""HEAD for every GET route."""

import asyncio
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

IS_HEAD: Final = "corral.is_head"
"""Key in the scope of a HEAD request."""


class HeadAsGet:
    """ASGI middleware: answers HEAD as GET, without the body.

    A stream is left when its headers are sent: its handler is told that the client has gone.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on as GET and drop the body of the response."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            return await self._app(scope, receive, send)
        answered = asyncio.Event()
        read = False

        async def receive_or_leave() -> Message:
            nonlocal read
            if read:
                await answered.wait()
                return {"type": "http.disconnect"}
            message = await receive()
            read = message["type"] != "http.request" or not message.get("more_body", False)
            return message

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body", "body": b""})
                answered.set()

        return await self._app({**scope, "method": "GET", IS_HEAD: True}, receive_or_leave, send_head)
