"""Read a prediction's event stream to its end, reconnecting when the connection is lost."""

import time
from collections.abc import Callable, Generator
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from corral.cli.client.channel import Channel, Event, Reach, Request
from corral.cli.client.connection import Connection, Refused, RequestFailed, Unreached

PAUSES_S: Final = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Delay before each consecutive retry without new events; long enough for a server to restart."""
_TRANSIENT: Final = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT})


def follow(
    reach: Reach, url: str, *, on_retry: Callable[[str], None], sleep: Callable[[float], None] = time.sleep
) -> Generator[Event]:
    """Yield the events up to ``done``, each once.

    The stream's URL is signed, so no API key is sent: the URL may be of another host.

    Args:
        reach: creates a channel.
        url: URL of the stream.
        on_retry: called with the reason before each reconnect.
        sleep: replaces ``time.sleep`` in tests.

    Raises:
        RequestFailed: the stream is refused, or all retries failed.
    """
    address = urlsplit(url)
    path = f"{address.path}?{address.query}" if address.query else address.path
    last_id = ""
    tries = 0
    with reach(Connection(url=f"{address.scheme}://{address.netloc}")) as server:
        while True:
            try:
                for event in _once(server, path, last_id):
                    tries = 0
                    last_id = event.id or last_id
                    yield event
                    if event.name == "done":
                        return
                why = "The stream ended early."
            except (Unreached, Refused) as error:
                if isinstance(error, Refused) and error.status_code not in _TRANSIENT:
                    raise
                why = str(error)
            if tries == len(PAUSES_S):
                raise RequestFailed(f"{why} No more events arrived in {tries} retries.")
            on_retry(why)
            sleep(PAUSES_S[tries])
            tries += 1


def _once(server: Channel, path: str, last_id: str) -> Generator[Event]:
    headers = {"accept": "text/event-stream", "cache-control": "no-store"}
    if last_id:
        headers["last-event-id"] = last_id
    with server.exchange(Request(path=path, headers=headers)) as reply:
        yield from reply.events()
