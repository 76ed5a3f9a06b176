"""Which addresses are public: nothing that leads back to this machine or its neighbours, in whatever disguise."""

from ipaddress import ip_address, ip_network

import pytest

from corral.egress.addresses import AddressPolicy, is_public

PRIVATE = """
    0.0.0.0 0.1.2.3 10.1.2.3 100.64.0.1 100.100.100.200 127.0.0.1 127.255.255.254 169.254.169.254 172.16.0.1
    172.31.255.255 192.0.0.1 192.0.0.170 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.51.100.1 203.0.113.1
    224.0.0.1 239.1.1.1 240.0.0.1 255.255.255.255 168.63.129.16
    :: ::1 ::127.0.0.1 ::8.8.8.8 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:0:127.0.0.1
    64:ff9b::127.0.0.1 64:ff9b::169.254.169.254 64:ff9b::10.0.0.1 64:ff9b:1::8.8.8.8 64:ff9b:1:a9fe:a9:fe00::
    100::1 2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:2::1 2001:10::1 2001:20::1 2001:db8::1
    2002:7f00:1:: 2002:808:808:: 3fff::1 4000::1 5f00::1 fc00::1 fd00:ec2::254 fe80::1 fec0::1 ff02::1 ff0e::1
"""
PUBLIC = """
    1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 172.15.255.255 172.32.0.0
    192.0.1.1 223.255.255.255
    ::ffff:8.8.8.8 64:ff9b::8.8.8.8 2001:4860:4860::8888 2606:4700:4700::1111 2a00:1450::1 2003::1
"""


@pytest.mark.parametrize("address", PRIVATE.split())
def test_non_public_addresses_are_rejected(address: str) -> None:
    assert not is_public(ip_address(address))
    assert not AddressPolicy().admits(ip_address(address))


@pytest.mark.parametrize("address", PUBLIC.split())
def test_public_addresses_are_accepted(address: str) -> None:
    assert is_public(ip_address(address))
    assert AddressPolicy().admits(ip_address(address))


def test_nothing_that_python_calls_private_is_public_here() -> None:
    private = [each for each in PUBLIC.split() if not ip_address(each).is_global and ":ff" not in each]
    assert private == []


def test_an_allowed_network_is_admitted_and_nothing_beside_it() -> None:
    policy = AddressPolicy([ip_network("127.0.0.0/8"), ip_network("fd00:1::/32")])
    for inside in ("127.0.0.1", "127.9.9.9", "::ffff:127.0.0.1", "fd00:1::5"):
        assert policy.admits(ip_address(inside))
    for outside in ("10.0.0.1", "::1", "fd00:2::1", "64:ff9b::127.0.0.1"):
        assert not policy.admits(ip_address(outside))


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "::ffff:169.254.169.254", "0.0.0.0", "::", "fe80::1", "ff02::1"]
)
def test_metadata_services_are_refused_even_if_every_network_is_allowed(address: str) -> None:
    everything = AddressPolicy([ip_network("0.0.0.0/0"), ip_network("::/0")])
    assert not everything.admits(ip_address(address))
    assert everything.admits(ip_address("10.0.0.1"))
    assert everything.admits(ip_address("::1"))
