"""A small client of a running server, for the commands. Must not know of terminals, engines or settings."""

import ipaddress
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TypeVar

import httpx2
import msgspec

from corral.core.errors import CorralError
from corral.core.generation import Message

T = TypeVar("T")

_CONNECT_TIMEOUT_S = 5
_READ_TIMEOUT_S = 60
"""Longer than the server's pause between two comments in a silent stream."""
_MAX_BODY_BYTES = 4 * 1024 * 1024
_MAX_REASON_CHARACTERS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Where a server is, and the key to it."""

    url: str
    api_key: str | None = field(default=None, repr=False)


Connect = Callable[[str | None], Connection]
"""Finds the connection from ``--url``, or from the settings when that is None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """A model that the server answers for; None is what the server does not tell."""

    id: str
    context_tokens: int | None
    weights: str | None
    """What really answers: the name of the loaded weights."""
    stands_in: bool
    """Whether other weights than the name promises answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerOptions:
    """What may be asked for beside the messages; None leaves it to the server."""

    temperature: float | None = None
    max_tokens: int | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerPart:
    """A piece of a streamed answer."""

    text: str
    finish_reason: str | None
    """Set on the last piece."""


class RequestFailed(CorralError):
    """The server was not reached or said no; the message is one sentence for the person at the terminal."""


class Client:
    """Asks a server questions. Use as a context manager."""

    def __init__(self, connection: Connection) -> None:
        """Prepare; nothing is sent yet.

        Raises:
            RequestFailed: the address or the key cannot be right.
        """
        url = _checked_url(connection.url)
        key = connection.api_key
        if key is not None and not (key.isascii() and key.isprintable() and key.strip() == key):
            raise RequestFailed("The API key holds a character that no key has.")
        self._url = str(url).rstrip("/").removesuffix("/v1")
        self._local = _is_this_machine(url.host)
        self._http = httpx2.Client(
            base_url=self._url,
            headers={"authorization": f"Bearer {key}"} if key else {},
            timeout=httpx2.Timeout(_READ_TIMEOUT_S, connect=_CONNECT_TIMEOUT_S),
            # A proxy has no business with this machine's own server and its key.
            trust_env=not self._local,
        )

    def __enter__(self) -> Self:
        """Open for requests."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections, and so end what they were waiting for."""
        self._http.close()

    def ready(self) -> bool:
        """Whether the server could answer a question now.

        Raises:
            RequestFailed: nothing answers there, or not as Corral does.
        """
        with self._explained(), self._http.stream("GET", "/health") as response:
            state = _decode(_bounded(response), _Health).status
            if state not in {"ready", "starting"}:
                raise RequestFailed(f"What answers at {self._url} is not Corral.")
            return response.status_code == 200

    def models(self) -> tuple[ServedModel, ...]:
        """The served models, in the server's order.

        Raises:
            RequestFailed: no server, no valid key, or an error of the server.
        """
        with self._explained(), self._http.stream("GET", "/v1/models") as response:
            body = _bounded(response)
            self._check(response, body)
        return tuple(
            ServedModel(
                id=entry.id,
                context_tokens=entry.metadata.context_length if entry.metadata else None,
                weights=entry.corral.weights if entry.corral else None,
                stands_in=entry.corral is not None and entry.corral.stands_in,
            )
            for entry in _decode(body, _ModelList).data
        )

    def answer(self, model: str, messages: Sequence[Message], options: AnswerOptions) -> Generator[AnswerPart]:
        """Stream an answer; closing the generator early stops the server's work on it.

        Raises:
            RequestFailed: while iterating; no server, no valid key, a refused request, or an answer cut off.
        """
        wishes = {"temperature": options.temperature, "max_tokens": options.max_tokens, "seed": options.seed}
        body = {
            "model": model,
            "messages": [{"role": message.role.value, "content": message.content} for message in messages],
            "stream": True,
        } | {name: value for name, value in wishes.items() if value is not None}
        finished = False
        with self._explained(), self._http.sse("/v1/chat/completions", method="POST", json=body) as events:
            if events.response.status_code != 200:
                self._check(events.response, _bounded(events.response))
            for event in events:
                if event.data == "[DONE]":
                    break
                part = _part(event.data)
                finished = finished or part.finish_reason is not None
                yield part
        if not finished:
            raise RequestFailed("The server ended the answer before it was complete.")

    @contextmanager
    def _explained(self) -> Generator[None]:
        try:
            yield
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            if self._local:
                raise RequestFailed(f"No server answers at {self._url}; start one with `corral serve`.") from error
            raise RequestFailed(f"No connection to {self._url}: {error}.") from error
        except httpx2.TimeoutException as error:
            raise RequestFailed(f"The server at {self._url} said nothing for {_READ_TIMEOUT_S} s.") from error
        except httpx2.HTTPError as error:
            raise RequestFailed(f"The connection to {self._url} broke: {error}.") from error

    def _check(self, response: httpx2.Response, body: bytes) -> None:
        if response.status_code in {401, 403}:
            raise RequestFailed(
                f"The server at {self._url} did not accept the API key; "
                "set CORRAL_API_KEY to the one that `corral serve` printed."
            )
        if response.status_code != 200:
            raise RequestFailed(_reason(body) or f"The server answered with HTTP status {response.status_code}.")


class _Health(msgspec.Struct):
    status: str = ""


class _Metadata(msgspec.Struct):
    context_length: int | None = None


class _Weights(msgspec.Struct):
    weights: str
    stands_in: bool


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


class _Problem(msgspec.Struct):
    """The error shapes of OpenAI, DeepInfra and FastAPI."""

    error: object = None
    detail: object = None


class _Fault(msgspec.Struct):
    msg: str
    loc: list[str | int] = []


class _ErrorObject(msgspec.Struct):
    message: str


def _part(data: str) -> AnswerPart:
    chunk = _decode(data.encode(), _Chunk)
    if chunk.error is not None:
        raise RequestFailed(_reason(data.encode()) or "The server failed while it answered.")
    if not chunk.choices:
        return AnswerPart(text="", finish_reason=None)
    choice = chunk.choices[0]
    return AnswerPart(text=choice.delta.content or "", finish_reason=choice.finish_reason)


def _reason(body: bytes) -> str | None:
    """The server's own words for an error, in any of the shapes in use; None when there are none."""
    try:
        problem = msgspec.json.decode(body, type=_Problem)
        said = problem.detail if problem.error is None else problem.error
        match said:
            case str():
                text = said
            case list():
                fault = msgspec.convert(said, list[_Fault])[0]
                text = f"{'.'.join(map(str, fault.loc))}: {fault.msg}"
            case _:
                text = msgspec.convert(said, _ErrorObject).message
    except (msgspec.DecodeError, IndexError):
        return None
    printable = "".join(character if character.isprintable() else " " for character in text)
    return printable[:_MAX_REASON_CHARACTERS] or None


def _decode(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise RequestFailed("The server's answer is not what Corral sends; is --url right?") from error


def _bounded(response: httpx2.Response) -> bytes:
    body = b""
    for part in response.iter_bytes():
        body += part
        if len(body) > _MAX_BODY_BYTES:
            raise RequestFailed(f"The server's answer is longer than {_MAX_BODY_BYTES} bytes.")
    return body


def _checked_url(text: str) -> httpx2.URL:
    try:
        url = httpx2.URL(text)
    except httpx2.InvalidURL as error:
        raise RequestFailed(f"'{text}' is no address: {error}.") from error
    if url.scheme not in {"http", "https"} or not url.host:
        raise RequestFailed(f"'{text}' is no address; one begins with http:// or https://.")
    return url


def _is_this_machine(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return address.is_loopback or address.is_unspecified
