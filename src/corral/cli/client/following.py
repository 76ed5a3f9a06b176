"""A prediction's event stream, followed to its end over connections that may break. Must not know of terminals."""

import time
from collections.abc import Callable, Generator
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from corral.cli.client.channel import Channel, Event, Reach, Request
from corral.cli.client.connection import Connection, Refused, RequestFailed, Unreached

PAUSES_S: Final = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Before each try in a row that brought nothing; a server that restarts is back within them."""
_PASSING: Final = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT})


def follow(
    reach: Reach, url: str, *, told: Callable[[str], None], sleep: Callable[[float], None] = time.sleep
) -> Generator[Event]:
    """Events up to the one named ``done``, each once.

    A stream's address is itself the right to read it, so no key goes there: it may be another host's.

    Args:
        reach: opens a channel.
        url: of the stream.
        told: hears why a connection is made anew.
        sleep: stands for the clock's.

    Raises:
        RequestFailed: the stream is refused, or breaks too often in a row.
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
                if isinstance(error, Refused) and error.status_code not in _PASSING:
                    raise
                why = str(error)
            if tries == len(PAUSES_S):
                raise RequestFailed(f"{why} Nothing more came in {tries} tries.")
            told(why)
            sleep(PAUSES_S[tries])
            tries += 1


def _once(server: Channel, path: str, last_id: str) -> Generator[Event]:
    headers = {"accept": "text/event-stream", "cache-control": "no-store"}
    if last_id:
        headers["last-event-id"] = last_id
    with server.exchange(Request(path=path, headers=headers)) as reply:
        yield from reply.events()
