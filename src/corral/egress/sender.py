"""HTTP client for webhooks that protects against server-side request forgery.

The host is resolved once, all its addresses are checked, and the connection goes to one of them, which prevents DNS
rebinding. Redirects are not followed, proxies from the environment are not used, and response bodies are discarded.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

import httpx2

from corral.egress.addresses import Address, AddressPolicy
from corral.egress.failures import EgressFailed, EgressRefused, Failure, Refusal
from corral.egress.urls import Target, parse_target

MAX_ADDRESSES: Final = 4
"""Most addresses of a host to try until one connects."""
MAX_ANSWER_BYTES: Final = 16 * 1024
"""Most bytes of a response to read, so that receivers are not disconnected while they send it."""
_DRAIN_S: Final = 1.0
_RESOLVER_THREADS: Final = 16

Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]
"""Resolves a host to its addresses, in the order to try them; empty if it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SendLimits:
    """Timeouts of a request."""

    connect_s: float = 3.0
    """For each address."""
    total_s: float = 10.0
    """From resolving the host to the last header of the response."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """Response of the receiver."""

    status: int
    """HTTP status."""


class SystemResolver:
    """The system's resolver, in its own thread pool, so that a slow name server delays nothing else."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_RESOLVER_THREADS, thread_name_prefix="resolve")

    async def __call__(self, host: str, port: int) -> Sequence[Address]:
        """Resolve *host* to all its addresses."""
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._threads, _look_up, host, port)
        except (OSError, UnicodeError):
            return ()
        return tuple(ip_address(each) for each in dict.fromkeys(found))


class PinnedSender:
    """Sends POST requests to addresses that the policy allows."""

    def __init__(
        self,
        policy: AddressPolicy,
        *,
        user_agent: str,
        limits: SendLimits | None = None,
        resolve: Resolve | None = None,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        """Create the sender.

        Args:
            policy: allowed addresses.
            user_agent: value of the ``User-Agent`` header.
            limits: timeouts.
            resolve: replaces the system's resolver.
            trust: trusted certificate authorities, instead of the public ones.
        """
        self._policy = policy
        self._user_agent = user_agent
        self._limits = limits or SendLimits()
        self._resolve = resolve or SystemResolver()
        self._trust = trust or httpx2.create_ssl_context(trust_env=False)

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Sent:
        """Send *body* once, without retries.

        Raises:
            EgressRefused: the URL or an address of its host is not allowed; nothing was sent.
            EgressFailed: no status was received.
        """
        target = parse_target(url)
        try:
            async with asyncio.timeout(self._limits.total_s):
                return await self._post(target, body, headers)
        except TimeoutError:
            raise EgressFailed(Failure.TIMEOUT) from None

    async def _post(self, target: Target, body: bytes, headers: Mapping[str, str]) -> Sent:
        failed = EgressFailed(Failure.NO_ADDRESS)
        for address in await self._addresses(target):
            try:
                return await self._post_to(address, target, body, headers)
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                # Nothing was sent, so the next address can be tried.
                failed = EgressFailed(_why_not_connected(error))
            except httpx2.TimeoutException:
                raise EgressFailed(Failure.TIMEOUT) from None
            except httpx2.RemoteProtocolError as error:
                raise EgressFailed(_why_not_understood(error)) from None
            except httpx2.TransportError:
                raise EgressFailed(Failure.CLOSED) from None
        raise failed from None

    async def _addresses(self, target: Target) -> Sequence[Address]:
        """Resolve the target's addresses. If one is not allowed, all are refused."""
        found = (target.address,) if target.address else await self._resolve(target.host, target.port)
        if not all(map(self._policy.admits, found)):
            raise EgressRefused(
                Refusal.FORBIDDEN_ADDRESS,
                "The webhook's host has an address that is not public; see CORRAL_WEBHOOK_ALLOW_NETWORKS.",
            )
        return found[:MAX_ADDRESSES]

    async def _post_to(self, address: Address, target: Target, body: bytes, headers: Mapping[str, str]) -> Sent:
        # One client per request, so that no connection is reused for another host.
        transport = httpx2.AsyncHTTPTransport(verify=self._trust, trust_env=False)
        timeout = httpx2.Timeout(self._limits.total_s, connect=self._limits.connect_s)
        async with (
            httpx2.AsyncClient(transport=transport, timeout=timeout, trust_env=False, follow_redirects=False) as client,
            client.stream(
                "POST",
                target.url.copy_with(host=str(address)),
                content=body,
                headers={
                    **headers,
                    "host": target.authority,
                    "user-agent": self._user_agent,
                    "accept-encoding": "identity",
                    "connection": "close",
                },
                extensions={"sni_hostname": target.host},
            ) as response,
        ):
            await _drain(response)
            return Sent(status=response.status_code)


async def _drain(response: httpx2.Response) -> None:
    """Read a short response, so that the receiver can finish; errors are ignored."""
    read_bytes = 0
    with suppress(httpx2.TransportError, TimeoutError):
        async with asyncio.timeout(_DRAIN_S):
            async for piece in response.aiter_raw():
                read_bytes += len(piece)
                if read_bytes > MAX_ANSWER_BYTES:
                    return


def _look_up(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [str(address[0]) for *_, address in found]


def _why_not_connected(error: BaseException) -> Failure:
    cause: BaseException | None = error
    while cause is not None:
        # SSLWantReadError means that the handshake is waiting for the receiver, not that it failed.
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLWantReadError):
            return Failure.BAD_TLS
        cause = cause.__cause__ or cause.__context__
    return Failure.TIMEOUT if isinstance(error, httpx2.ConnectTimeout) else Failure.NO_CONNECTION


def _why_not_understood(error: httpx2.RemoteProtocolError) -> Failure:
    closed = "disconnected" in str(error) or "closed" in str(error)
    return Failure.CLOSED if closed else Failure.NOT_HTTP
