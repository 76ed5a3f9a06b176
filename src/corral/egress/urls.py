"""Parse and check webhook URLs, with the same parser that the HTTP client uses.

Refuses what parsers read differently: user names, backslashes, escapes in the host, unusual forms of IP addresses,
invalid ports.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

import httpx2

from corral.egress.failures import EgressRefused, Refusal

MAX_URL_LENGTH: Final = 2048
"""Most characters of a URL; supported by browsers and proxies."""
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_END_OF_AUTHORITY: Final = re.compile(r"[/?#]")
_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_MAX_NAME_LENGTH: Final = 253
"""From RFC 1035, without the final dot."""
_LOOKS_NUMERIC: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""Last label of a host that some resolvers parse as an address:
https://url.spec.whatwg.org/#ends-in-a-number-checker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A parsed and checked webhook URL."""

    url: httpx2.URL
    """Without a fragment."""
    host: str
    """Host name in ASCII (IDNA) and lower case without final dot, or an IP address without brackets."""
    port: int
    address: IPv4Address | IPv6Address | None
    """The host's IP address, if the host is one."""

    @property
    def receiver(self) -> str:
        """Scheme, host and port."""
        return f"{self.url.scheme}://{self._bracketed}:{self.port}"

    @property
    def authority(self) -> str:
        """Value of the ``Host`` header."""
        return self._bracketed if self.url.port is None else f"{self._bracketed}:{self.port}"

    @property
    def _bracketed(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host


def parse_target(text: str) -> Target:
    """Parse a webhook URL without resolving its host.

    Raises:
        EgressRefused: the URL is not allowed; the message contains the reason but not the URL.
    """
    if len(text) > MAX_URL_LENGTH:
        raise _refused(f"has more than {MAX_URL_LENGTH} characters")
    if "\\" in text or any(character <= " " for character in text):
        raise _refused("has a backslash, a space or a control character in it")
    try:
        url = httpx2.URL(text)
    except (httpx2.InvalidURL, ValueError):  # ValueError: from its IDNA codec
        raise _refused("is not a URL") from None
    if url.scheme not in _DEFAULT_PORTS:
        raise _refused("must begin with https:// or http://")
    if url.userinfo or "@" in _END_OF_AUTHORITY.split(text.partition("//")[2], maxsplit=1)[0]:
        raise _refused("has a user name in it")
    port = _DEFAULT_PORTS[url.scheme] if url.port is None else url.port
    if not 1 <= port <= 65535:
        raise _refused("has a port that does not exist")
    host, address = _host(url.raw_host.decode("ascii").lower())
    return Target(url=url.copy_with(fragment=None), host=host, port=port, address=address)


def _host(raw: str) -> tuple[str, IPv4Address | IPv6Address | None]:
    try:
        address = ip_address(raw)
    except ValueError:
        return _name(raw.removesuffix(".")), None
    if "%" in raw:
        raise _refused("names a network interface")
    return raw, address


def _name(name: str) -> str:
    labels = name.split(".")
    if len(name) > _MAX_NAME_LENGTH or not all(_LABEL.fullmatch(label) for label in labels):
        raise _refused("has no host name that can be looked up")
    if _LOOKS_NUMERIC.fullmatch(labels[-1]):
        raise _refused("has an address for a host that is not spelt as four decimal numbers")
    return name


def _refused(what: str) -> EgressRefused:
    return EgressRefused(Refusal.BAD_URL, f"The webhook's URL {what}.")
