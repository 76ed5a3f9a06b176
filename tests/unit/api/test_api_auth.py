"""Keys and the header that carries them."""

import pytest
from starlette.requests import Request

from corral.api.auth import StaticKeyRing, authenticate
from corral.core.accounts import Scope
from corral.core.caller import Caller
from corral.core.errors import Unauthenticated

KEYS = {"first": "s3cret", "second": "other"}
CALLER = Caller(account_id="local", key_id="first", scopes=frozenset({Scope.INFERENCE, Scope.READ}))


def _request(*values: bytes) -> Request:
    return Request({"type": "http", "headers": [(b"authorization", value) for value in values]})


@pytest.mark.anyio
@pytest.mark.parametrize("header", [b"Bearer s3cret", b"bearer s3cret", b"BEARER   s3cret "])
async def test_a_known_key_is_its_caller_whatever_the_case_of_the_scheme(header: bytes) -> None:
    assert await authenticate(_request(header), StaticKeyRing(KEYS)) == CALLER


@pytest.mark.anyio
@pytest.mark.parametrize(
    "headers",
    [
        (),
        (b"",),
        (b"Bearer",),
        (b"Bearer ",),
        (b"Basic s3cret",),
        (b"s3cret",),
        (b"Bearer s3cre",),
        (b"Bearer s3cret2",),
        (b"Bearer \xff\xfe",),
        (b"Bearer " + b"x" * 100_000,),
        (b"Bearer s3cret", b"Bearer s3cret"),
    ],
)
async def test_anything_else_is_refused_without_a_word_of_the_key(headers: tuple[bytes, ...]) -> None:
    with pytest.raises(Unauthenticated) as caught:
        await authenticate(_request(*headers), StaticKeyRing(KEYS))
    assert "s3c" not in str(caught.value)


@pytest.mark.anyio
async def test_a_ring_without_keys_opens_nothing() -> None:
    assert await StaticKeyRing({}).authenticate("s3cret") is None


def test_a_ring_keeps_digests_only() -> None:
    assert "s3cret" not in str(vars(StaticKeyRing(KEYS)))


@pytest.mark.parametrize("secret", ["", "x" * 513])
def test_a_key_that_could_never_be_presented_is_refused(secret: str) -> None:
    with pytest.raises(ValueError, match="1 to 512"):
        StaticKeyRing({"first": secret})
