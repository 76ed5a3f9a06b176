"""Keys and the header that carries them."""

import pytest
from starlette.requests import Request

from corral.api.auth import authenticate
from corral.core.caller import Caller
from corral.core.errors import Unauthenticated

CALLER = Caller(account_id="local", key_id="first", scopes=frozenset())


class SingleKeyAuthenticator:
    """Authenticator with one valid key."""

    async def authenticate(self, secret: str) -> Caller | None:
        """The caller, if *secret* is the key."""
        return CALLER if secret == "s3cret" else None


def _request(*values: bytes) -> Request:
    return Request({"type": "http", "headers": [(b"authorization", value) for value in values]})


@pytest.mark.anyio
@pytest.mark.parametrize("header", [b"Bearer s3cret", b"bearer s3cret", b"BEARER   s3cret "])
async def test_bearer_scheme_is_case_insensitive(header: bytes) -> None:
    assert await authenticate(_request(header), SingleKeyAuthenticator()) == CALLER


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
async def test_invalid_authorization_error_does_not_contain_the_key(headers: tuple[bytes, ...]) -> None:
    with pytest.raises(Unauthenticated) as caught:
        await authenticate(_request(*headers), SingleKeyAuthenticator())
    assert "s3c" not in str(caught.value)
