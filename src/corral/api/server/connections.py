"""Registry of open connections: counts them by address and closes the longest idle one above the limit."""

import ipaddress
from collections import Counter
from typing import Final, Protocol

import structlog

from corral.api.server.limits import ConnectionLimits

_LOG_INTERVAL_S: Final = 60.0
_IPV6_PREFIX: Final = 64
"""Size of network that one customer usually gets."""
_MAX_LINGERING: Final = 100

_log = structlog.get_logger(__name__)


class Connection(Protocol):
    """A connection, as the registry uses it."""

    def close_idle(self) -> None:
        """Close a connection that has no request."""
        ...


class Connections:
    """Open connections and which of them are idle."""

    def __init__(self, limits: ConnectionLimits) -> None:
        """Apply *limits*."""
        self._limits = limits
        self._open: dict[Connection, str | None] = {}
        self._by_address: Counter[str] = Counter()
        self._idle: dict[Connection, None] = {}
        """In the order in which they became idle."""
        self._lingering: set[Connection] = set()
        self._refused = 0
        self._logged_s = -_LOG_INTERVAL_S

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, connection: Connection, host: str | None, *, now_s: float) -> bool:
        """Register a new connection unless a limit is reached; *host* is the address of the peer, *now_s* a monotonic
        time.
        """
        address = self._counted_as(host)
        most = self._limits.connections_per_address
        if address is not None and most and self._by_address[address] >= most:
            self._refuse(host, now_s, f"{most} connections are open from this address (max_connections_per_address)")
            return False
        if len(self._open) >= self._limits.connections and not self._close_longest_idle():
            self._refuse(host, now_s, f"all {self._limits.connections} connections have a request")
            return False
        self._open[connection] = address
        if address is not None:
            self._by_address[address] += 1
        self._idle[connection] = None
        return True

    def release(self, connection: Connection) -> None:
        """Unregister a closed connection. Idempotent."""
        self._idle.pop(connection, None)
        self._lingering.discard(connection)
        address = self._open.pop(connection, None)
        if address is not None:
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]

    def set_idle(self, connection: Connection, *, idle: bool) -> None:
        """Set whether an open connection waits for a request."""
        if not idle:
            self._idle.pop(connection, None)
        elif connection in self._open:
            self._idle.setdefault(connection, None)

    def linger(self, connection: Connection) -> bool:
        """Whether a refused connection may stay open until its client has read the response."""
        if len(self._lingering) < _MAX_LINGERING:
            self._lingering.add(connection)
            return True
        return False

    def _close_longest_idle(self) -> bool:
        connection = next(iter(self._idle), None)
        if connection is None:
            return False
        self.release(connection)
        connection.close_idle()
        return True

    def _counted_as(self, host: str | None) -> str | None:
        """Address or network that a connection counts for; None for trusted proxies and local sockets."""
        try:
            address = ipaddress.ip_address((host or "").partition("%")[0])
        except ValueError:
            return None
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if any(address in network for network in self._limits.trusted_proxies):
            return None
        if isinstance(address, ipaddress.IPv6Address):
            return str(ipaddress.ip_network((address, _IPV6_PREFIX), strict=False))
        return str(address)

    def _refuse(self, host: str | None, now_s: float, reason: str) -> None:
        self._refused += 1
        if now_s - self._logged_s >= _LOG_INTERVAL_S:
            _log.warning("connections_refused", count=self._refused, last_address=host, reason=reason)
            self._refused, self._logged_s = 0, now_s
