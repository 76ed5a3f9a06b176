"""A Hub on loopback: the endpoints of huggingface.co that a pull uses, with headers, redirects and errors as there.

Weights are redirected to a "CDN", which is the same server under another host name. What was asked is remembered, and
connections can be cut, held or lied over.
"""

import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

import anyio
import uvicorn

from corral.checkpoints.tokenizers.byte_fallback import BYTE_PIECES, WORD_BORDER
from tests.oracle.llama import TinyLlama
from tests.unit.text.conftest import document_of

TOKEN = "hf_of-somebody-who-may"
STRANGER = "hf_of-somebody-who-may-not"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
PIECES = ["<unk>", "<s>", "</s>", *BYTE_PIECES, WORD_BORDER]
_LARGE = (".safetensors", ".model", ".bin", ".gguf")
_PATIENCE_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request that came."""

    host: str
    path: str
    first_byte: int
    """Of the range that was asked for; 0 without one."""
    headers: dict[str, str]

    @property
    def token(self) -> str | None:
        """What came as a bearer token."""
        return self.headers.get("authorization", "").removeprefix("Bearer ") or None


@dataclass
class Repository:
    """What the Hub holds under a name."""

    files: dict[str, bytes]
    commit: str = COMMIT
    gated: bool = False
    private: bool = False


@dataclass
class FakeHub:
    """Answers as the Hub would; remembers what it was asked."""

    url: str
    repositories: dict[str, Repository] = field(default_factory=dict[str, Repository])
    asked: list[Asked] = field(default_factory=list[Asked])
    cut: dict[str, int] = field(default_factory=dict[str, int])
    """Files whose next transfer breaks off after so many bytes."""
    down_after_cut: bool = False
    """Whether no file is to be had after a cut."""
    held: dict[str, int] = field(default_factory=dict[str, int])
    """Files whose next transfer stops after so many bytes until ``go_on`` is set."""
    go_on: threading.Event = field(default_factory=threading.Event)
    instead: dict[str, bytes] = field(default_factory=dict[str, bytes])
    """Content that comes for a file in place of what is listed."""
    ranges: bool = True
    listing: object = None
    """Comes in place of what the repository lists."""
    refusal: int = 0
    """Status of every answer."""

    def reset(self) -> None:
        """Forget what an earlier test arranged and asked."""
        self.__dict__.update(FakeHub(url=self.url).__dict__)

    def publish(self, name: str, files: dict[str, bytes], **terms: Any) -> Repository:
        """Put a repository there, in place of one that has the name."""
        self.repositories[name] = Repository(files=files, **terms)
        return self.repositories[name]

    def transfers(self, name: str) -> list[int]:
        """The first byte of each time that a file was asked for from where it is kept."""
        contents = [repository.files[name] for repository in self.repositories.values() if name in repository.files]
        digests = [hashlib.sha256(content).hexdigest() for content in contents]
        ends = (*(f"/cdn/{digest}" for digest in digests), *(() if name.endswith(_LARGE) else (f"/{name}",)))
        return [asked.first_byte for asked in self.asked if asked.path.endswith(ends)]

    async def app(self, scope: Any, _receive: Any, send: Any) -> None:
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        first_byte = int(headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        path: str = unquote(scope["raw_path"].decode())
        asked = Asked(host=headers["host"].partition(":")[0], path=path, first_byte=first_byte, headers=headers)
        self.asked.append(asked)
        if self.refusal:
            await _send(send, self.refusal, b"")
        elif path.startswith("/api/models/"):
            blobs = parse_qs(scope["query_string"].decode()).get("blobs") == ["true"]
            await self._list(asked, path.removeprefix("/api/models/"), blobs, send)
        elif path.startswith("/cdn/"):
            name, content = self._kept(path.removeprefix("/cdn/"))
            await self._transfer(name, content, asked, send)
        else:
            await self._resolve(asked, path.lstrip("/"), send)

    async def _list(self, asked: Asked, path: str, blobs: bool, send: Any) -> None:
        name, _, revision = path.partition("/revision/")
        repository = self.repositories.get(name)
        if (error := self._closed(repository, asked, listing=True)) is not None or repository is None:
            await _send(send, *(error or (404, b"", {})))
        elif revision not in {"", "main", repository.commit}:
            await _send(send, 404, b"", {"X-Error-Code": "RevisionNotFound"})
        else:
            siblings = [_sibling(file, content, blobs) for file, content in repository.files.items()]
            document = {"id": name, "sha": repository.commit, "siblings": siblings}
            body = self.listing if self.listing is not None else document
            await _send(send, 200, body if isinstance(body, bytes) else json.dumps(body).encode())

    async def _resolve(self, asked: Asked, path: str, send: Any) -> None:
        name, _, rest = path.partition("/resolve/")
        revision, _, file = rest.partition("/")
        repository = self.repositories.get(name)
        if (error := self._closed(repository, asked, listing=False)) is not None or repository is None:
            await _send(send, *(error or (404, b"", {})))
        elif revision not in {"main", repository.commit} or file not in repository.files:
            await _send(send, 404, b"", {"X-Error-Code": "EntryNotFound"})
        elif file.endswith(_LARGE):
            content = repository.files[file]
            digest = hashlib.sha256(content).hexdigest()
            headers = {
                "Location": f"{self.url.replace('127.0.0.1', 'localhost')}/cdn/{digest}",
                "X-Repo-Commit": repository.commit,
                "X-Linked-Etag": f'"{digest}"',
                "X-Linked-Size": str(len(content)),
                "X-Xet-Hash": "0" * 64,
            }
            await _send(send, 302, b"", headers)
        else:
            headers = {"X-Repo-Commit": repository.commit}
            await self._transfer(file, repository.files[file], asked, send, headers)

    def _closed(self, repository: Repository | None, asked: Asked, *, listing: bool) -> Any:
        """The refusal for who may not read, as the Hub words it; its listings of gated repositories are public."""
        if asked.token not in {None, TOKEN, STRANGER}:
            return 401, b"", {"X-Error-Message": "Invalid credentials in Authorization header"}
        if repository is None or (repository.private and asked.token != TOKEN):
            return (401 if asked.token is None else 404), b"", {"X-Error-Code": "RepoNotFound"}
        if repository.gated and not listing and asked.token != TOKEN:
            return (401 if asked.token is None else 403), b"", {"X-Error-Code": "GatedRepo"}
        return None

    def _kept(self, digest: str) -> tuple[str, bytes]:
        files = [item for repository in self.repositories.values() for item in repository.files.items()]
        return next((name, content) for name, content in files if hashlib.sha256(content).hexdigest() == digest)

    async def _transfer(
        self, name: str, content: bytes, asked: Asked, send: Any, headers: dict[str, str] | None = None
    ) -> None:
        content = self.instead.get(name, content)
        first = asked.first_byte if self.ranges else 0
        part = content[first:]
        ranged = {"Content-Range": f"bytes {first}-{len(content) - 1}/{len(content)}"} if first else {}
        cut, held = self.cut.pop(name, None), self.held.pop(name, None)
        await _start(send, 206 if first else 200, {**(headers or {}), **ranged, "Content-Length": str(len(part))})
        if cut is not None:
            self.refusal = 503 if self.down_after_cut else 0
            await send({"type": "http.response.body", "body": part[:cut], "more_body": True})
            return  # with less than was announced, so the server closes the connection
        if held is not None:
            await send({"type": "http.response.body", "body": part[:held], "more_body": True})
            await anyio.to_thread.run_sync(self.go_on.wait, _PATIENCE_S)
            part = part[held:]
        await send({"type": "http.response.body", "body": part})


@contextmanager
def serving_hub() -> Iterator[FakeHub]:
    """A Hub without repositories, in a thread of its own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        hub = FakeHub(url=f"http://127.0.0.1:{listener.getsockname()[1]}")
        config = uvicorn.Config(hub.app, log_config=None, log_level="critical", lifespan="off", interface="asgi3")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield hub
        finally:
            hub.go_on.set()
            server.should_exit = True
            thread.join(_PATIENCE_S)


def tiny_files(directory: Path, **sizes: Any) -> dict[str, bytes]:
    """A random Llama in three shards with everything that a repository holds beside it."""
    TinyLlama(**{"vocab": len(PIECES), "shards": 3, **sizes}).write(directory)
    files = {path.name: path.read_bytes() for path in sorted(directory.iterdir())}
    return {
        **files,
        "tokenizer.json": json.dumps(document_of(PIECES, [])).encode(),
        "tokenizer_config.json": b"{}",
        "generation_config.json": b"{}",
        "README.md": b"# A model",
        "modeling_llama.py": b"raise SystemExit",
        "pytorch_model.bin": b"pickled",
        "consolidated.safetensors": b"the same once more",
        "original/consolidated.00.pth": b"pickled",
    }


def shards(files: dict[str, bytes]) -> list[str]:
    """Names of the weight files that are wanted."""
    return [name for name in files if name.startswith("model-")]


def _sibling(name: str, content: bytes, blobs: bool) -> dict[str, Any]:
    if not blobs:
        return {"rfilename": name}
    git_sha1 = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    described = {"rfilename": name, "size": len(content), "blobId": git_sha1}
    if not name.endswith(_LARGE):
        return described
    lfs = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
    return {**described, "blobId": "f" * 40, "lfs": lfs}


async def _start(send: Any, status: int, headers: dict[str, str]) -> None:
    encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})


async def _send(send: Any, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
    await _start(send, status, {"Content-Length": str(len(body)), **(headers or {})})
    await send({"type": "http.response.body", "body": body})
