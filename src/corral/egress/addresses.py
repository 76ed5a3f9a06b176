"""Policy of allowed IP addresses for outgoing requests: public ones, and networks that the operator allows.

Stricter than ``ipaddress.is_global``, which differs between Python versions and ignores addresses that embed others.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_V4_REFUSED: Final = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carriers' NAT
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's own services, in every virtual machine
        "169.254.0.0/16",  # link-local, and clouds' metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
"""https://www.iana.org/assignments/iana-ipv4-special-registry, multicast and class E."""
_V6_GLOBAL: Final = IPv6Network("2000::/3")
"""All addresses allocated so far: https://www.iana.org/assignments/ipv6-unicast-address-assignments."""
_V6_REFUSED: Final = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: embeds an IPv4 address
        "3fff::/20",  # documentation
    )
)
_NAT64: Final = IPv6Network("64:ff9b::/96")
"""RFC 6052: the last 32 bits are the IPv4 address that is reached. The local-use 64:ff9b:1::/48 is not in 2000::/3."""
_NEVER: Final = tuple(
    ip_network(network)
    for network in ("0.0.0.0/32", "169.254.0.0/16", "224.0.0.0/4", "::/128", "fe80::/10", "ff00::/8")
)
"""Refused even if in an allowed network: metadata services of clouds return the machine's credentials."""


class AddressPolicy:
    """Decides which addresses webhooks may be sent to."""

    def __init__(self, allowed: Sequence[Network] = ()) -> None:
        self._allowed = tuple(allowed)

    def admits(self, address: Address) -> bool:
        """Return whether *address* may be connected to."""
        plain = _unmapped(address)
        if _within(plain, _NEVER):
            return False
        return _within(plain, self._allowed) or is_public(plain)


def is_public(address: Address) -> bool:
    """Return whether *address* is a public address on the Internet."""
    plain = _unmapped(address)
    if isinstance(plain, IPv6Address) and plain in _NAT64:
        plain = IPv4Address(int(plain) & 0xFFFF_FFFF)
    if isinstance(plain, IPv4Address):
        return not _within(plain, _V4_REFUSED)
    return plain in _V6_GLOBAL and not _within(plain, _V6_REFUSED)


def _unmapped(address: Address) -> Address:
    """Convert an IPv4-mapped address, ``::ffff:a.b.c.d``, to its IPv4 address."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


def _within(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)
