"""Where requests to the Hub may go, and with what; a Hub of its own answers in tests/cli/test_pull.py."""

from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from corral.catalog.hub import Hub
from corral.catalog.hub_files import HubFile, Listing, PullFailed

TOKEN = "hf_secret"
FILE = HubFile(name="config.json", size_bytes=2, sha256=None, git_sha1="0" * 40)
LISTING = Listing(repository="a/b", commit="0" * 40, files={FILE.name: FILE})
Answer = Callable[[httpx2.Request], httpx2.Response]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[httpx2.Request]:
    """What is asked; every host but ``end.example`` redirects to where its query says."""
    requests: list[httpx2.Request] = []

    def answer(_: httpx2.HTTPTransport, request: httpx2.Request) -> httpx2.Response:
        requests.append(request)
        if request.url.host == "end.example":
            return httpx2.Response(200, content=b"{}", request=request)
        return httpx2.Response(302, headers={"Location": redirects[request.url.host]}, request=request)

    redirects = {"safe.example": "https://end.example/x", "open.example": "http://end.example/x", "localhost": ""}
    redirects["localhost"] = "https://localhost/x?then"
    monkeypatch.setattr(httpx2.HTTPTransport, "handle_request", answer)
    return requests


def fetch(url: str, part: Path) -> None:
    with Hub(url, TOKEN) as hub:
        hub.fetch(LISTING, FILE, part, lambda _: None)


def test_redirect_to_another_host_has_no_token(asked: list[httpx2.Request], tmp_path: Path) -> None:
    fetch("https://safe.example", tmp_path / "part")
    assert [request.headers.get("Authorization") for request in asked] == [f"Bearer {TOKEN}", None]
    assert (tmp_path / "part").read_bytes() == b"{}"


def test_a_hub_with_https_may_not_redirect_to_one_without(asked: list[httpx2.Request], tmp_path: Path) -> None:
    with pytest.raises(PullFailed, match=r"redirects to end\.example without https"):
        fetch("https://open.example", tmp_path / "part")
    assert [request.url.host for request in asked] == ["open.example"]


def test_not_even_the_same_host_with_https_gets_the_token_and_endless_redirects_end(
    asked: list[httpx2.Request], tmp_path: Path
) -> None:
    with pytest.raises(PullFailed, match="is not one of a Hugging Face Hub"):
        fetch("http://localhost", tmp_path / "part")
    assert [request.headers.get("Authorization") for request in asked] == [f"Bearer {TOKEN}", *[None] * 5]


@pytest.mark.parametrize("url", ["https://[", "https://:::"])
def test_invalid_address_is_rejected(url: str) -> None:
    with pytest.raises(PullFailed), Hub(url, None) as hub:
        hub.list_files("a/b", None)
