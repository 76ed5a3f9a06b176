"""Limits on connections and on what precedes and surrounds a request's body."""

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Final

MAX_HEADERS: Final = 100
"""Headers and trailers of one request."""
MAX_HEAD_BYTES: Final = 64 * 1024
"""Of a request line with its headers; as much again for trailers and chunk extensions together."""
CHUNK_FRAMING_BYTES: Final = 16
"""What a chunk of a body may take beside its data and ``MAX_HEAD_BYTES``: its size and line ends."""

Networks = tuple[IPv4Network | IPv6Network, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """What a client may hold open, and for how long."""

    keep_alive_s: float = 75
    """A connection without a request is closed after this long; told in the ``Keep-Alive`` header."""
    head_s: float = 30
    """From opening a connection, or from a request's first byte, to the end of its headers."""
    body_s: float = 120
    """From a request's headers to the end of its body."""
    send_s: float = 300
    """How long a client may take nothing of an answer."""
    body_bytes: int = 2 * 2**20
    """Of a body that is still coming when its request was answered already."""
    connections: int = 10_000
    """All of them; beyond it the one that is idle longest is closed, and where none is, the new one is refused."""
    connections_per_address: int = 1024
    """From one IPv4 address or one IPv6 /64 network; 0: any number."""
    trusted_proxies: Networks = ()
    """Networks whose connections are not counted by address, since they carry the requests of many clients."""
