"""The sender on real sockets: to the address that was checked and nowhere else, for a while and no longer."""

import asyncio
import socket
import ssl
from collections.abc import Sequence
from ipaddress import ip_address, ip_network

import pytest
import trustme

from corral.egress.addresses import Address, AddressPolicy
from corral.egress.failures import EgressFailed, EgressRefused, Failure, Refusal
from corral.egress.sender import PinnedSender, SendLimits, SystemResolver
from tests.receiver import Received, answer, babble, hang, hang_up, receiving

pytestmark = pytest.mark.anyio

LOOPBACK = AddressPolicy([ip_network("127.0.0.0/8")])


class FakeResolver:
    """DNS resolver with fixed answers; records the lookups."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Sequence[Address]:
        self.asked.append((host, port))
        return [ip_address(address) for address in self.addresses]


def sender(policy: AddressPolicy = LOOPBACK, **parts: object) -> PinnedSender:
    limits = SendLimits(connect_s=2, total_s=5)
    return PinnedSender(policy, user_agent="corral/test", **{"limits": limits, **parts})


async def failure(url: str, **parts: object) -> Failure:
    with pytest.raises(EgressFailed) as failed:
        await sender(**parts).post(url, b"{}", {})
    return failed.value.why


async def refusal(url: str, **parts: object) -> Refusal:
    with pytest.raises(EgressRefused) as refused:
        await sender(**parts).post(url, b"{}", {})
    return refused.value.why


async def test_the_body_arrives_at_the_checked_address_under_the_urls_name() -> None:
    resolver = FakeResolver("127.0.0.1")
    async with receiving() as receiver:
        url = f"http://Hooks.example:{receiver.port}/a/b?c=%20d"
        sent = await sender(resolve=resolver).post(url, b'{"a": 1}', {"webhook-id": "msg_1"})
    (received,) = receiver.received
    assert sent.status == 200
    assert received.line == "POST /a/b?c=%20d HTTP/1.1"
    assert received.json() == {"a": 1}
    assert received.headers["host"] == f"hooks.example:{receiver.port}"
    assert received.headers["user-agent"] == "corral/test"
    assert received.headers["webhook-id"] == "msg_1"
    assert resolver.asked == [("hooks.example", receiver.port)]


async def test_host_is_resolved_once_against_dns_rebinding() -> None:
    class Rebinding(FakeResolver):
        async def __call__(self, host: str, port: int) -> Sequence[Address]:
            found = await super().__call__(host, port)
            self.addresses = ("169.254.169.254",)
            return found

    resolver = Rebinding("127.0.0.1")
    async with receiving() as receiver:
        url = f"http://hooks.example:{receiver.port}/"
        assert (await sender(resolve=resolver).post(url, b"", {})).status == 200
        assert len(resolver.asked) == 1
        assert await refusal(url, resolve=resolver) is Refusal.FORBIDDEN_ADDRESS


@pytest.mark.parametrize(
    "addresses", [("127.0.0.1",), ("8.8.8.8", "10.0.0.1"), ("::ffff:127.0.0.1",), ("64:ff9b::7f00:1",), ("::1", "::1")]
)
async def test_host_with_one_non_public_address_is_rejected(addresses: tuple[str, ...]) -> None:
    async with receiving() as receiver:
        resolver = FakeResolver(*addresses)
        url = f"http://hooks.example:{receiver.port}/"
        assert await refusal(url, policy=AddressPolicy(), resolve=resolver) is Refusal.FORBIDDEN_ADDRESS
        assert receiver.connections == 0


async def test_ip_address_in_the_url_is_checked_without_dns() -> None:
    resolver = FakeResolver("8.8.8.8")
    async with receiving() as receiver:
        for host in ("127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"):
            url = f"http://{host}:{receiver.port}/"
            assert await refusal(url, policy=AddressPolicy(), resolve=resolver) is Refusal.FORBIDDEN_ADDRESS
        assert (await sender(resolve=resolver).post(receiver.url, b"", {})).status == 200
    assert resolver.asked == []


async def test_the_machines_own_names_are_refused_by_default() -> None:
    async with receiving() as receiver:
        for host in ("localhost", "localhost."):
            assert await refusal(f"http://{host}:{receiver.port}/", policy=AddressPolicy()) is Refusal.FORBIDDEN_ADDRESS
    assert receiver.connections == 0


async def test_a_redirect_is_an_answer_like_any_other() -> None:
    async with receiving() as elsewhere, receiving() as receiver:
        for status in (301, 302, 307, 308):
            receiver.answers.append(answer(status, f"Location: {elsewhere.url}/"))
            assert (await sender().post(receiver.url, b"{}", {})).status == status
        assert elsewhere.connections == 0
        assert receiver.connections == 4


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiving() as proxy, receiving() as receiver:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        assert (await sender().post(receiver.url, b"{}", {})).status == 200
        assert proxy.connections == 0


async def test_the_next_address_is_tried_while_none_can_be_connected_to() -> None:
    resolver = FakeResolver("127.0.0.9", "127.0.0.1")
    async with receiving() as receiver:
        assert (await sender(resolve=resolver).post(f"http://two.example:{receiver.port}", b"", {})).status == 200
        assert receiver.connections == 1


async def test_refused_connection_is_a_connection_failure() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        assert await failure(f"http://127.0.0.1:{taken.getsockname()[1]}") is Failure.NO_CONNECTION


async def test_a_name_without_an_address_is_a_failure_of_its_own() -> None:
    assert await failure("http://nowhere.example", resolve=FakeResolver()) is Failure.NO_ADDRESS
    assert await failure("http://nowhere.invalid", resolve=SystemResolver()) is Failure.NO_ADDRESS


async def test_hanging_resolver_or_receiver_times_out() -> None:
    async def never(_host: str, _port: int) -> Sequence[Address]:
        await asyncio.sleep(600)
        return ()

    async def drip(_request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"x: y\r\n")
            await writer.drain()
            await asyncio.sleep(0.02)

    limits = SendLimits(connect_s=0.2, total_s=0.2)
    async with asyncio.timeout(60), receiving() as receiver:
        assert await failure("http://slow.example", limits=limits, resolve=never) is Failure.TIMEOUT
        receiver.answers += [hang, drip]
        for _ in range(2):
            assert await failure(receiver.url, limits=limits) is Failure.TIMEOUT


async def test_a_connection_that_is_not_accepted_is_a_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(address)
        limits = SendLimits(connect_s=0.2, total_s=5)
        assert await failure(f"http://127.0.0.1:{address[1]}", limits=limits) is Failure.TIMEOUT
        for each in waiting:
            each.close()


async def test_an_endless_answer_is_cut_off_and_its_status_counts() -> None:
    async with receiving() as receiver:
        receiver.answers.append(babble)
        async with asyncio.timeout(60):
            assert (await sender().post(receiver.url, b"{}", {})).status == 200


async def test_a_slow_body_does_not_hold_up_the_status() -> None:
    async def trickle(_request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 1000000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)

    async with receiving() as receiver:
        receiver.answers.append(trickle)
        async with asyncio.timeout(60):
            assert (await sender().post(receiver.url, b"{}", {})).status == 202


async def test_closed_connection_and_invalid_http_are_failures() -> None:
    async with receiving() as receiver:
        receiver.answers += [hang_up, b"", b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"y" * 300_000]
        whys = [await failure(receiver.url) for _ in range(4)]
    assert whys == [Failure.CLOSED, Failure.CLOSED, Failure.NOT_HTTP, Failure.NOT_HTTP]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def tls_of(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def test_the_certificate_must_be_of_the_urls_name(authority: trustme.CA) -> None:
    async with receiving(tls_of(authority, "hooks.example")) as receiver:
        parts = {"resolve": FakeResolver("127.0.0.1"), "trust": trusting(authority)}
        url = f"https://hooks.example:{receiver.port}/"
        assert (await sender(**parts).post(url, b"{}", {})).status == 200
        assert receiver.sni == ["hooks.example"]
        assert await failure(f"https://other.example:{receiver.port}/", **parts) is Failure.BAD_TLS
        assert await failure(receiver.url, **parts) is Failure.BAD_TLS
    assert len(receiver.received) == 1


async def test_an_unknown_authority_or_no_tls_at_all_is_bad_tls(authority: trustme.CA) -> None:
    async def refuse(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(400))
        writer.close()

    resolver = FakeResolver("127.0.0.1")
    async with receiving(tls_of(authority, "hooks.example")) as receiver:
        assert await failure(f"https://hooks.example:{receiver.port}/", resolve=resolver) is Failure.BAD_TLS
    assert receiver.received == []
    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as plain:
        port = plain.sockets[0].getsockname()[1]
        assert await failure(f"https://hooks.example:{port}/", resolve=resolver) is Failure.BAD_TLS


async def test_a_handshake_that_hangs_is_a_timeout() -> None:
    async with receiving() as plain:
        url = f"https://127.0.0.1:{plain.port}/"
        assert await failure(url, limits=SendLimits(connect_s=0.2, total_s=5)) is Failure.TIMEOUT


async def test_an_address_may_have_a_certificate_of_its_own(authority: trustme.CA) -> None:
    async with receiving(tls_of(authority, "127.0.0.1")) as receiver:
        assert (await sender(trust=trusting(authority)).post(receiver.url, b"{}", {})).status == 200
