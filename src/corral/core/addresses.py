"""Host names and base URLs as an operator or a person gives them: checked, and in the form that clients send."""

import ipaddress
import re
import socket
from typing import Final
from urllib.parse import SplitResult, urlsplit

_LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_MAX_NAME_CHARACTERS: Final = 253


def host_name(text: str) -> str:
    """*text* as a Host header has it: lower case, without brackets and final dot; an IP address in its usual form.

    Raises:
        ValueError: it is neither a host name nor an IP address; a URL and a name with a port are neither.
    """
    name = text.lower().removesuffix(".")
    bare = name[1:-1] if name.startswith("[") and name.endswith("]") else name
    try:
        return ipaddress.ip_address(bare).compressed
    except ValueError:
        pass  # a name, then
    if len(name) > _MAX_NAME_CHARACTERS or not all(map(_LABEL.fullmatch, name.split("."))):
        raise ValueError(f"'{text}' is neither a host name nor an IP address")
    return name


def is_any_address(host: str) -> bool:
    """Whether a server that listens on *host* listens on every address of the machine: ``0.0.0.0`` or ``::``."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def reachable_host(host: str) -> str:
    """The host for a URL by which this machine reaches a server that listens on *host*."""
    if is_any_address(host):
        return "[::1]" if ":" in host and not socket.has_dualstack_ipv6() else "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def base_url(text: str, *, path: bool = True) -> str:
    """*text* with its scheme in lower case: ``http(s)://host``, perhaps with a port and, with *path*, a path.

    Raises:
        ValueError: it is no such URL; the message says which part is wrong.
    """
    if any(character.isspace() or not character.isprintable() or character == "\\" for character in text):
        raise ValueError("it holds white space, a backslash or a control character")
    scheme, separator, rest = text.partition("://")
    if not separator or scheme.lower() not in {"http", "https"}:
        raise ValueError("it does not begin with http:// or https://")
    parts = urlsplit(text)  # raises a ValueError for brackets without an IPv6 address
    if "@" in parts.netloc or "?" in text or "#" in text:
        raise ValueError("it holds a user, a query or a fragment")
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
    except ValueError:  # no number, or one that is too large
        is_good = False
    if not is_good:
        raise ValueError("its port is not between 1 and 65535")
