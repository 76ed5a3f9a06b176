"""ASGI application that sends scripted answers: OpenAI streams, JSON documents and event streams."""

import asyncio
import json
import threading
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

KEY = "sk-of-the-test"
MODELS = {
    "object": "list",
    "data": [
        {
            "id": "meta/llama-2-7b-chat",
            "object": "model",
            "metadata": {"context_length": 512},
            "corral": {"weights": "demo", "stands_in": True, "state": "ready"},
        },
        {"id": "other/server-says-less", "object": "model"},
    ],
}


def chunk(text: str | None, finish_reason: str | None = None) -> str:
    """One event of an OpenAI stream."""
    delta = {} if text is None else {"role": "assistant", "content": text}
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return f"data: {json.dumps({'object': 'chat.completion.chunk', 'choices': [choice]})}\n\n"


def stream(*texts: str, reason: str = "stop") -> str:
    """A whole OpenAI stream."""
    return "".join([chunk(""), *map(chunk, texts), chunk(None, reason), "data: [DONE]\n\n"])


@dataclass(frozen=True, kw_only=True)
class ReceivedRequest:
    """A request that the fake server received."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def key(self) -> str:
        """The bearer token, empty without one."""
        return self.headers.get("authorization", "").removeprefix("Bearer ")


@dataclass(kw_only=True)
class ScriptedAnswer:
    """A scripted answer to one method and path."""

    status: int = 200
    document: object = None
    """Sent as JSON if ``events`` is None."""
    events: str | None = None
    """Sent as an event stream."""
    breaks: bool = False
    """Whether the connection breaks after the events."""


@dataclass
class FakeServer:
    """Sends scripted answers and records the requests."""

    url: str
    replies: list[str] = field(default_factory=lambda: [stream(" Hello", "!")])
    """Event streams, one per request; the last one is reused."""
    hang: bool = False
    """Whether the next stream stays open after its events."""
    refusal: tuple[int, object] | None = None
    """Status and body of an error for every request."""
    health: tuple[int, object] = (200, {"status": "ready"})
    questions: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    answers: dict[str, list[ScriptedAnswer]] = field(default_factory=dict[str, list[ScriptedAnswer]])
    """By method and path, such as ``GET /v1/me``; one per request, the last one is reused."""
    requests: list[ReceivedRequest] = field(default_factory=list[ReceivedRequest])
    delay_s: float = 0
    """Delay of every answer."""
    left: threading.Event = field(default_factory=threading.Event)
    """Set when a client disconnects from a hanging stream."""

    def reset(self) -> None:
        """Reset the script and recorded requests of an earlier test."""
        self.__dict__.update(FakeServer(url=self.url).__dict__)

    def answer(self, request: str, *answers: object) -> None:
        """Script the answers to a request such as ``GET /v1/me``: documents or ``ScriptedAnswer``."""
        self.answers[request] = [
            answer if isinstance(answer, ScriptedAnswer) else ScriptedAnswer(document=answer) for answer in answers
        ]

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while (message := await receive()).get("more_body"):
            body += message["body"]
        body += message.get("body", b"")
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        query = dict(parse_qsl(scope["query_string"].decode()))
        asked = ReceivedRequest(method=scope["method"], path=scope["path"], query=query, headers=headers, body=body)
        self.requests.append(asked)
        await asyncio.sleep(self.delay_s)
        scripted = self.answers.get(f"{asked.method} {asked.path}")
        if scripted is not None:
            await _answer(send, scripted.pop(0) if len(scripted) > 1 else scripted[0])
        elif scope["path"] == "/health":
            await _send_json(send, *self.health)
        elif self.refusal is not None:
            await _send_json(send, *self.refusal)
        elif asked.key != KEY:
            await _send_json(send, 401, {"error": {"message": "Not authenticated"}})
        elif scope["path"] == "/v1/models":
            await _send_json(send, 200, MODELS)
        else:
            self.questions.append(json.loads(body))
            await self._stream(receive, send)

    async def _stream(self, receive: Any, send: Any) -> None:
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        await send({"type": "http.response.body", "body": reply.encode(), "more_body": self.hang})
        if self.hang:
            self.hang = False
            while (await receive())["type"] != "http.disconnect":
                pass
            self.left.set()

    @property
    def asked(self) -> list[list[tuple[str, str]]]:
        """Role and content of the messages of every question."""
        return [[(message["role"], message["content"]) for message in body["messages"]] for body in self.questions]


async def _answer(send: Any, scripted: ScriptedAnswer) -> None:
    if scripted.events is None:
        await _send_json(send, scripted.status, scripted.document)
        return
    kind = (b"content-type", b"text/event-stream; charset=utf-8")
    await send({"type": "http.response.start", "status": scripted.status, "headers": [kind]})
    await send({"type": "http.response.body", "body": scripted.events.encode(), "more_body": scripted.breaks})
    if scripted.breaks:
        raise ConnectionAbortedError


async def _send_json(send: Any, status: int, body: object) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})
