"""HTTP exchanges as readable text for golden files.

An exchange is written as it was sent, except that JSON is indented and chunked bodies are put together. What changes
from run to run is replaced by its name in angle brackets.
"""

import asyncio
import json
import re
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from tests.doors.live_server import SECRET
from tests.doors.replicate.replicate_client import parse
from tests.receiver import Received

_VOLATILE = [
    (re.compile(pattern, re.MULTILINE), name)
    for pattern, name in (
        (re.escape(SECRET), "<key>"),
        (r"127\.0\.0\.1:\d+", "<server>"),
        (r"\b[a-z2-7]{52}\b", "<token>"),
        (r"\b[0-9a-f]{64}\b", "<digest>"),
        (r"\bmsg_[0-9A-Za-z]+", "<message>"),
        (r"\b[a-z0-9]{26}\b", "<id>"),
        (r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "<time>"),
        (r"(?<=^date: ).+", "<date>"),
        (r"(?<=^x-request-id: ).+", "<request>"),
        (r"(?<=^content-length: )\d+", "<bytes>"),
        (r"(?<=^webhook-timestamp: )\d+", "<seconds>"),
        (r"(?<=^webhook-signature: )v1,[0-9A-Za-z+/=]{44}$", "v1,<signature>"),
        (r"(?<=^user-agent: )\S+", "<program>"),
        (r"(?<=^ratelimit-reset: )\d+", "<seconds>"),
        (r"(?:(?<=^id: )|(?<=^last-event-id: ))\d{10}(?=:)", "<seconds>"),
        (r'(?<="predict_time": )[0-9.e-]+', "<seconds>"),
        (r'(?<="total_time": )[0-9.e-]+', "<seconds>"),
        (r'(?<="time_to_first_token": )[0-9.e-]+', "<seconds>"),
        (r'(?<="tokens_per_second": )[0-9.e-]+', "<rate>"),
    )
]
_PARTIAL = [
    (re.compile(pattern, re.MULTILINE), name)
    for pattern, name in (
        (r'(?<="output": )\[".*\]', '["<so far>"]'),
        (r'(?<="output_token_count": )\d+', "<tokens>"),
        (r"(?<=^id: <seconds>:)\d+-[0-9a-f]{8}", "<number>"),
        (r"(?<=^event: output\n)((?:id: .+\n)?)(?:data: .*\n)+", r"\1data: <so far>\n"),
    )
]
_STRINGS = re.compile(r'\[\n\s+("(?:[^"\\]|\\.)*"(?:,\n\s+"(?:[^"\\]|\\.)*")*)\n\s+\]')


class Connection:
    """A raw TCP connection for one request."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.received = b""

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        await self._writer.wait_closed()

    async def send(self, request: bytes) -> None:
        self._writer.write(request)
        await self._writer.drain()

    async def read_until(self, mark: bytes) -> None:
        """Read at least to *mark*."""
        while mark not in self.received:
            piece = await self._reader.read(65536)
            assert piece, self.received
            self.received += piece

    async def rest(self) -> bytes:
        """Everything, once the server has closed."""
        self.received += await self._reader.read()
        return self.received


def request_of(port: int, line: str, *headers: str, body: Any = None, key: str | None = SECRET) -> bytes:
    """Build an HTTP request; *body* is sent as JSON."""
    content = b"" if body is None else json.dumps(body).encode()
    fields = [f"host: 127.0.0.1:{port}", *([] if key is None else [f"authorization: Bearer {key}"]), *headers]
    fields += [] if body is None else ["content-type: application/json"]
    fields += [] if line.startswith("GET") else [f"content-length: {len(content)}"]
    return "\r\n".join([f"{line} HTTP/1.1", *fields, "connection: close", "", ""]).encode() + content


@dataclass(slots=True)
class Transcript:
    """Records HTTP exchanges as text."""

    port: int
    parts: list[str] = field(default_factory=list[str])

    async def exchange(self, title: str, line: str, *headers: str, body: Any = None, key: str | None = SECRET) -> Any:
        """Ask, and write both sides down; the answer's JSON, or its text."""
        request = request_of(self.port, line, *headers, body=body, key=key)
        async with Connection(self.port) as connection:
            await connection.send(request)
            return self.write(title, request, await connection.rest())

    def write(self, title: str, request: bytes, answer: bytes) -> Any:
        """Both sides of an exchange; the answer's JSON, or its text."""
        self.parts += [f"### {title}", _readable(request), _readable(answer)]
        content = _body(answer).decode()
        return json.loads(content) if content.startswith("{") else content

    def receive(self, title: str, webhook: Received) -> None:
        """A request that was sent by the server."""
        fields = "".join(f"{name}: {value}\r\n" for name, value in webhook.headers.items())
        self.parts += [f"### {title}", _readable(f"{webhook.line}\r\n{fields}\r\n".encode() + webhook.body)]

    def text(self, *, partial: bool = False, **names: str) -> str:
        """Everything, with *names* for strings of this run; *partial* where texts were cut at no certain place."""
        text = "\n\n".join(part.strip("\n") for part in self.parts) + "\n"
        for name, value in names.items():
            text = text.replace(value, f"<{name}>")
        for pattern, name in _VOLATILE + (_PARTIAL if partial else []):
            text = pattern.sub(name, text)
        return text


def joined(transcript: str) -> str:
    """Merge consecutive output events, because chunk boundaries depend on timing."""
    blocks: list[str] = []
    said = ""
    for block in transcript.split("\n\n"):
        if block.startswith("event: output\n"):
            said += parse(block)[0].data
            continue
        blocks += [f"output: {said}"] if said else []
        blocks.append(block)
        said = ""
    return "\n\n".join(blocks)


def _body(message: bytes) -> bytes:
    head, _, body = message.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" not in head.lower():
        return body
    whole = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        whole += rest[: int(size, 16)]
        body = rest[int(size, 16) + 2 :]
    return whole


def _readable(message: bytes) -> str:
    head = message.partition(b"\r\n\r\n")[0].decode().replace("\r\n", "\n")
    body = _body(message).decode()
    if body.startswith("{"):
        indented = json.dumps(json.loads(body), indent=2, ensure_ascii=False)
        body = _STRINGS.sub(lambda match: "[" + re.sub(r",\n\s+", ", ", match[1]) + "]", indented)
    else:
        body = "\n\n".join(block for block in body.split("\n\n") if not block.startswith(":"))
    return f"{head}\n\n{body}"
