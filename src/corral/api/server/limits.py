"""Limits on connections, headers and trailers."""

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Final

MAX_HEADERS: Final = 100
"""Most headers and trailers of one request."""
MAX_HEAD_BYTES: Final = 64 * 1024
"""Most bytes of request line and headers; also of trailers and chunk extensions together."""
CHUNK_FRAMING_BYTES: Final = 16
"""Bytes of a chunk header with its line ends."""

Networks = tuple[IPv4Network | IPv6Network, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """Limits of connections."""

    keep_alive_s: float = 75
    """Idle connections are closed after this time; reported in the ``Keep-Alive`` header."""
    head_s: float = 30
    """From opening a connection, or from a request's first byte, to the end of its headers."""
    body_s: float = 120
    """From a request's headers to the end of its body."""
    send_s: float = 300
    """Longest time that a client may accept no data of a response."""
    body_bytes: int = 2 * 2**20
    """Most bytes of a body that are read after its request was answered."""
    connections: int = 10_000
    """Above it the longest idle connection is closed; if none is idle, the new one is refused."""
    connections_per_address: int = 1024
    """For one IPv4 address or IPv6 /64 network; 0 is unlimited."""
    trusted_proxies: Networks = ()
    """Networks whose connections are not counted by address."""
