"""Client for health, served models and chat completions."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import msgspec

from corral.cli.client.channel import Channel, Request, decode, reason
from corral.cli.client.connection import RequestFailed
from corral.core.generation import Message
from corral.core.server_state import ServerState


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """A model that the server serves; None where the server does not report a value."""

    id: str
    context_tokens: int | None
    weights: str | None
    """Name of the loaded weights."""
    stands_in: bool
    """Whether other weights than those of the named model compute the answers."""
    state: str | None
    """State of its deployment: ``ready``, ``loading 40 %``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerOptions:
    """Options of a chat completion; None uses the server's default."""

    temperature: float | None = None
    max_tokens: int | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerPart:
    """A part of a streamed answer."""

    text: str
    finish_reason: str | None
    """Set on the last part."""


class Client:
    """Calls the API over a channel, which the caller opens and closes."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def state(self) -> ServerState:
        """Get the state of the server.

        Raises:
            RequestFailed: the server cannot be reached, or is not Corral.
        """
        with self._channel.unchecked(Request(path="/health")) as reply:
            state = decode(reply.body(), _Health).status
            if state not in set(ServerState):
                raise RequestFailed(f"The server at {self._channel.url} is not Corral.")
            return ServerState(state)

    def models(self) -> tuple[ServedModel, ...]:
        """List the served models, in the server's order.

        Raises:
            RequestFailed: the server cannot be reached, the key is invalid, or the server returns an error.
        """
        body = self._channel.ask(Request(path="/v1/models"))
        return tuple(
            ServedModel(
                id=entry.id,
                context_tokens=entry.metadata.context_length if entry.metadata else None,
                weights=entry.corral.weights if entry.corral else None,
                stands_in=entry.corral is not None and entry.corral.stands_in,
                state=entry.corral.state if entry.corral else None,
            )
            for entry in decode(body, _ModelList).data
        )

    def answer(self, model: str, messages: Sequence[Message], options: AnswerOptions) -> Generator[AnswerPart]:
        """Stream a chat completion. Closing the generator early cancels it on the server.

        Raises:
            RequestFailed: while iterating: the server cannot be reached, refuses the request, or cuts the answer off.
        """
        chosen = {"temperature": options.temperature, "max_tokens": options.max_tokens, "seed": options.seed}
        body = {
            "model": model,
            "messages": [{"role": message.role.value, "content": message.content} for message in messages],
            "stream": True,
        } | {name: value for name, value in chosen.items() if value is not None}
        finished = False
        request = Request(
            path="/v1/chat/completions", method="POST", json=body, headers={"accept": "text/event-stream"}
        )
        with self._channel.exchange(request) as reply:
            for event in reply.events():
                if event.data == "[DONE]":
                    break
                part = _part(event.data)
                finished = finished or part.finish_reason is not None
                yield part
        if not finished:
            raise RequestFailed("The server closed the stream before the answer was complete.")


class _Health(msgspec.Struct):
    status: str = ""


class _Metadata(msgspec.Struct):
    context_length: int | None = None


class _Weights(msgspec.Struct):
    weights: str
    stands_in: bool
    state: str | None = None


class _Model(msgspec.Struct):
    id: str
    metadata: _Metadata | None = None
    corral: _Weights | None = None


class _ModelList(msgspec.Struct):
    data: list[_Model]


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    error: object = None


def _part(data: str) -> AnswerPart:
    chunk = decode(data.encode(), _Chunk)
    if chunk.error is not None:
        raise RequestFailed(reason(data.encode()) or "The server failed while it generated the answer.")
    if not chunk.choices:
        return AnswerPart(text="", finish_reason=None)
    choice = chunk.choices[0]
    return AnswerPart(text=choice.delta.content or "", finish_reason=choice.finish_reason)
