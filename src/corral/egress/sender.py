"""Sends to a URL that a caller named, and to nowhere else.

The name is resolved once, every address that it stands for is checked, and the connection goes to one of exactly those.
So a name that changes its address between check and use (DNS rebinding) gains nothing. Redirects are not followed,
proxies of the environment are not used, and what the receiver answers is thrown away but for its status.
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
"""Tried of one name, while none can be connected to."""
MAX_ANSWER_BYTES: Final = 16 * 1024
"""Read of an answer, only so that a receiver is not cut off in mid-sentence."""
_DRAIN_S: Final = 1.0
_RESOLVER_THREADS: Final = 16

Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]
"""Every address of a name, in the order in which they are to be tried; empty if it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SendLimits:
    """How long a receiver may take."""

    connect_s: float = 3.0
    """For each address."""
    total_s: float = 10.0
    """From looking up the name to the last header of the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """It arrived, and this is what the receiver said."""

    status: int
    """HTTP."""


class SystemResolver:
    """The machine's own resolver, in threads of its own: a name server that hangs must hold up nothing else."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_RESOLVER_THREADS, thread_name_prefix="resolve")

    async def __call__(self, host: str, port: int) -> Sequence[Address]:
        """Every address of *host*."""
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._threads, _look_up, host, port)
        except (OSError, UnicodeError):
            return ()
        return tuple(ip_address(each) for each in dict.fromkeys(found))


class PinnedSender:
    """Posts to receivers that the policy admits."""

    def __init__(
        self,
        policy: AddressPolicy,
        *,
        user_agent: str,
        limits: SendLimits | None = None,
        resolve: Resolve | None = None,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        """Put together; nothing is sent yet.

        Args:
            policy: which addresses may be connected to.
            user_agent: what receivers see as the sender.
            limits: how long a receiver may take.
            resolve: stands for the machine's own resolver.
            trust: whom certificates are to be vouched for by, instead of the public authorities.
        """
        self._policy = policy
        self._user_agent = user_agent
        self._limits = limits or SendLimits()
        self._resolve = resolve or SystemResolver()
        self._trust = trust or httpx2.create_ssl_context(trust_env=False)

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Sent:
        """Post *body*, once.

        Raises:
            EgressRefused: nothing was sent, and nothing ever will be to this URL as things are.
            EgressFailed: no status came back.
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
                # Nothing was sent yet, so the next address may be tried.
                failed = EgressFailed(_why_not_connected(error))
            except httpx2.TimeoutException:
                raise EgressFailed(Failure.TIMEOUT) from None
            except httpx2.RemoteProtocolError as error:
                raise EgressFailed(_why_not_understood(error)) from None
            except httpx2.TransportError:
                raise EgressFailed(Failure.CLOSED) from None
        raise failed from None

    async def _addresses(self, target: Target) -> Sequence[Address]:
        """The target's addresses. One that may not be connected to spoils them all."""
        found = (target.address,) if target.address else await self._resolve(target.host, target.port)
        if not all(map(self._policy.admits, found)):
            raise EgressRefused(
                Refusal.FORBIDDEN_ADDRESS,
                "The webhook's host has an address that is not public; see CORRAL_WEBHOOK_ALLOW_NETWORKS.",
            )
        return found[:MAX_ADDRESSES]

    async def _post_to(self, address: Address, target: Target, body: bytes, headers: Mapping[str, str]) -> Sent:
        # A client for each request: a connection that was checked for one name must not carry another's.
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
    """Let the receiver finish a short answer; whatever becomes of it, the status has come."""
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
        # A handshake that waits for the other side is an SSLWantReadError, and says nothing about it.
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLWantReadError):
            return Failure.BAD_TLS
        cause = cause.__cause__ or cause.__context__
    return Failure.TIMEOUT if isinstance(error, httpx2.ConnectTimeout) else Failure.NO_CONNECTION


def _why_not_understood(error: httpx2.RemoteProtocolError) -> Failure:
    closed = "disconnected" in str(error) or "closed" in str(error)
    return Failure.CLOSED if closed else Failure.NOT_HTTP
