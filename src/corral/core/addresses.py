"""Validate and normalise host names and base URLs from settings and arguments."""

import ipaddress
import re
import socket
from typing import Final
from urllib.parse import SplitResult, urlsplit

_LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_MAX_NAME_CHARACTERS: Final = 253


def host_name(text: str) -> str:
    """Normalise a host name or IP address to the form of a Host header: lower case, no brackets, no final dot.

    Raises:
        ValueError: *text* is neither a host name nor an IP address, such as a URL or a name with a port.
    """
    name = text.lower().removesuffix(".")
    bare = name[1:-1] if name.startswith("[") and name.endswith("]") else name
    try:
        return ipaddress.ip_address(bare).compressed
    except ValueError:
        pass  # not an IP address: a name
    if len(name) > _MAX_NAME_CHARACTERS or not all(map(_LABEL.fullmatch, name.split("."))):
        raise ValueError(f"'{text}' is neither a host name nor an IP address")
    return name


def is_any_address(host: str) -> bool:
    """Return whether *host* is the wildcard address ``0.0.0.0`` or ``::``: a server there listens on all interfaces."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def reachable_host(host: str) -> str:
    """Return the host part of a URL with which this machine reaches a server that listens on *host*."""
    if is_any_address(host):
        return "[::1]" if ":" in host and not socket.has_dualstack_ipv6() else "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def base_url(text: str, *, path: bool = True) -> str:
    """Validate a base URL ``http(s)://host[:port]``, with a path only if *path*; return it with a lower-case scheme.

    Raises:
        ValueError: the URL is invalid; the message names the wrong part.
    """
    if any(character.isspace() or not character.isprintable() or character == "\\" for character in text):
        raise ValueError("it contains white space, a backslash or a control character")
    scheme, separator, rest = text.partition("://")
    if not separator or scheme.lower() not in {"http", "https"}:
        raise ValueError("it does not begin with http:// or https://")
    parts = urlsplit(text)  # raises a ValueError for brackets without an IPv6 address
    if "@" in parts.netloc or "?" in text or "#" in text:
        raise ValueError("it contains a user, a query or a fragment")
    if not parts.hostname:
        raise ValueError("it has no host")
    host_name(parts.hostname)
    _check_port(parts)
    if not path and parts.path not in {"", "/"}:
        raise ValueError("it has a path")
    return f"{scheme.lower()}://{rest}"


def _check_port(parts: SplitResult) -> None:
    try:
        is_good = parts.port != 0 and not parts.netloc.endswith(":")
    except ValueError:  # not a number, or too large
        is_good = False
    if not is_good:
        raise ValueError("its port is not between 1 and 65535")
