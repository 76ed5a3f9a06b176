"""Cookies, form tokens and links, without a browser."""

import pytest

from corral.web.forms import first
from corral.web.pages import local_path
from corral.web.sessions import LINK_S, SESSION_S, OneTimeLinks, Sessions

SECRET = b"s" * 32


class Clock:
    """Unix time that a test sets."""

    def __init__(self) -> None:
        self.now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


def test_session_cookie_is_valid_until_it_expires() -> None:
    clock = Clock()
    sessions = Sessions(secret=SECRET, clock=clock)
    cookie = sessions.cookie(sessions.make("key_a"))
    session = sessions.read(cookie)
    assert session is not None
    assert session.key_id == "key_a"
    clock.now_s += SESSION_S - 1
    assert sessions.read(cookie) == session
    clock.now_s += 2
    assert sessions.read(cookie) is None


def test_altered_or_foreign_cookie_is_rejected() -> None:
    clock = Clock()
    sessions = Sessions(secret=SECRET, clock=clock)
    cookie = sessions.cookie(sessions.make("key_a"))
    foreign = Sessions(secret=b"o" * 32, clock=clock)
    other = foreign.cookie(foreign.make("key_a"))
    for wrong in (
        other,
        cookie.replace("key_a", "key_b"),
        cookie[:-1],
        cookie + "x",
        cookie.rpartition(".")[0],
        "",
        ".",
        "a.b.c.d",
        "\u00e9",
        "x" * 10_000,
    ):
        assert sessions.read(wrong) is None


def test_a_form_token_is_of_one_session_only() -> None:
    sessions = Sessions(secret=SECRET, clock=Clock())
    mine, other = (sessions.make("key_a") for _ in "12")
    token = sessions.form_token(mine)
    assert sessions.is_form_token(mine, token)
    for wrong in (sessions.form_token(other), "", token[:-1], sessions.cookie(mine).rpartition(".")[2], "\u00e9"):
        assert not sessions.is_form_token(mine, wrong)


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Sessions(secret=b"short", clock=Clock())


def test_a_link_signs_in_once_and_not_for_long() -> None:
    clock = Clock()
    links = OneTimeLinks(clock)
    token, late = links.make("key_a"), links.make("key_b")
    assert links.take("wrong") is None
    assert links.take(token) == "key_a"
    assert links.take(token) is None
    clock.now_s += LINK_S
    assert links.take(late) is None


@pytest.mark.parametrize("path", ["/", "/p/abc", "/meta/llama-2-7b-chat?tab=api", "/p?model=a%2Fb"])
def test_local_path_is_accepted_as_redirect_target(path: str) -> None:
    assert local_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "\\\\evil",
        "evil",
        "",
        "/\r\nset-cookie: a",
        "/\u00e9",
    ],
)
def test_foreign_redirect_target_is_rejected(path: str) -> None:
    assert local_path(path) == "/"


def test_a_field_that_was_not_sent_is_empty() -> None:
    assert first({"a": ["1", "2"]}, "a") == "1"
    assert first({}, "a") == ""
