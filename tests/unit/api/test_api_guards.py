"""Accepted Host headers."""

import pytest

from corral.api.guards import host_name, is_loopback


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("LocalHost:8000", "localhost"),
        ("example.org.", "example.org"),
        ("[::1]:8000", "::1"),
        ("[::1]", "::1"),
        ("127.0.0.1", "127.0.0.1"),
        ("", ""),
    ],
)
def test_a_name_is_read_from_a_host_header(header: str, name: str) -> None:
    assert host_name(header) == name


@pytest.mark.parametrize("name", ["localhost", "a.localhost", "127.0.0.1", "127.8.9.1", "::1"])
def test_loopback_names_are_known(name: str) -> None:
    assert is_loopback(name)


@pytest.mark.parametrize(
    "name",
    ["", "example.org", "localhost.example.org", "127.0.0.1.example.org", "192.168.0.1", "0.0.0.0", "2130706433"],
)
def test_other_names_are_not_loopback(name: str) -> None:
    assert not is_loopback(name)
