"""Style sheets, scripts and images under URLs with a digest of their content, cached for ever."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from corral.web.errors import UnknownPage

PREFIX: Final = "/static/"
_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
}
_DIGEST_CHARS: Final = 12
_IMPORT: Final = re.compile(rb'from "\./([a-z-]+\.js)"')


@dataclass(frozen=True, slots=True)
class Asset:
    """A static file."""

    content: bytes
    media_type: str
    digest: str


@cache
def assets() -> dict[str, Asset]:
    """Every file under ``static``, by its path there."""
    contents = {path: file.read_bytes() for path, file in _files(files("corral.web") / "static", "")}
    return {path: _asset(path, contents) for path in contents}


def asset_url(path: str) -> str:
    """URL of the file at *path* under ``static``.

    Raises:
        KeyError: there is none, which is a slip in a template.
    """
    return f"{PREFIX}{path}?v={assets()[path].digest}"


async def send_asset(request: Request) -> Response:
    """``GET /static/{path}``: cached for a year if the URL has the digest, revalidated otherwise.

    Raises:
        UnknownPage: there is no such file.
    """
    found = assets().get(request.path_params["path"])
    if found is None:
        raise UnknownPage(request.url.path)
    named = request.query_params.get("v") == found.digest
    headers = {"cache-control": "public, max-age=31536000, immutable" if named else "no-cache"}
    return Response(found.content, media_type=found.media_type, headers=headers)


def _asset(path: str, contents: Mapping[str, bytes]) -> Asset:
    # Modules import each other by digest too: a cached module must not import a newer one.
    def named(match: re.Match[bytes]) -> bytes:
        return b'from "./%b?v=%b"' % (match[1], _asset(match[1].decode(), contents).digest.encode())

    content = _IMPORT.sub(named, contents[path]) if path.endswith(".js") else contents[path]
    digest = hashlib.sha256(content).hexdigest()[:_DIGEST_CHARS]
    return Asset(content, _TYPES[path.rpartition(".")[2]], digest)


def _files(folder: Traversable, prefix: str) -> list[tuple[str, Traversable]]:
    found: list[tuple[str, Traversable]] = []
    for entry in folder.iterdir():
        path = prefix + entry.name
        found += _files(entry, path + "/") if entry.is_dir() else [(path, entry)]
    return found
