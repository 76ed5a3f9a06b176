"""HTTP client of the commands: limits the size of responses, reports each failure as one sentence."""

import ipaddress
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self, TypeVar
from urllib.parse import quote

import httpx2
import msgspec

from corral.cli.client.connection import Connection, Refused, RequestFailed, Unreached

T = TypeVar("T")
Waiting = Callable[[], AbstractContextManager[None]]
"""Context manager that is active while a response has not started; may show that on a terminal."""

_CONNECT_TIMEOUT_S: Final = 5
_READ_TIMEOUT_S: Final = 60
"""Longer than the interval of the server's keep-alive comments in an event stream."""
_MAX_BODY_BYTES: Final = 4 * 1024 * 1024
_MAX_REASON_CHARACTERS: Final = 500
_EVENT_STREAM: Final = "text/event-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A field of a multipart form: an uploaded file if it has a file name, else text."""

    name: str
    content: bytes
    filename: str | None = None
    media_type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An HTTP request to the Corral server."""

    path: str
    """Path from the server's root, such as ``/v1/models``."""
    method: str = "GET"
    query: Mapping[str, str | int] | None = None
    headers: Mapping[str, str] | None = None
    json: object = None
    form: Sequence[Part] = ()
    timeout_s: float = _READ_TIMEOUT_S
    """Timeout for each read."""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """A server-sent event."""

    name: str
    data: str
    id: str


class Reply:
    """A response whose body is not read yet: an event stream or a document."""

    def __init__(self, response: httpx2.Response) -> None:
        self._response = response

    @property
    def streams(self) -> bool:
        """Whether the response is an event stream."""
        return self._media_type == _EVENT_STREAM

    @property
    def status_code(self) -> int:
        """HTTP status of the response."""
        return self._response.status_code

    @property
    def _media_type(self) -> str:
        return self._response.headers.get("content-type", "").partition(";")[0].strip().lower()

    def body(self) -> bytes:
        """Read the whole body.

        Raises:
            RequestFailed: the body exceeds the size limit.
        """
        body = b""
        for part in self._response.iter_bytes():
            body += part
            if len(body) > _MAX_BODY_BYTES:
                raise RequestFailed(f"The server's response is longer than {_MAX_BODY_BYTES} bytes.")
        return body

    def events(self) -> Generator[Event]:
        """Yield the events as they arrive."""
        for event in httpx2.EventSource(self._response):
            yield Event(name=event.event, data=event.data, id=event.id)


class Channel:
    """Client of one server. Use as a context manager."""

    def __init__(self, connection: Connection, *, waiting: Waiting = nullcontext) -> None:
        """Create the client; nothing is sent yet.

        Raises:
            RequestFailed: the address or the key is invalid.
        """
        url = _checked_url(connection.url)
        key = connection.api_key
        if key is not None and not (key.isascii() and key.isprintable() and key.strip() == key):
            raise RequestFailed("The API key contains a character that keys cannot contain.")
        self.url = server_root(str(url))
        self.has_key = bool(key)
        self._local = is_this_machine(self.url)
        self._waiting = waiting
        self._http = httpx2.Client(
            base_url=self.url,
            headers={"authorization": f"Bearer {key}"} if key else {},
            # Loading certificates takes time, so it is done only for https. Redirects are not followed.
            verify=url.scheme == "https",
            # Never send requests to this machine's own server, with its key, through a proxy.
            trust_env=not self._local,
        )

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections."""
        self._http.close()

    def ask(self, request: Request) -> bytes:
        """Send a request and return the body of the response.

        Raises:
            Unreached: the server cannot be reached or does not respond.
            Refused: the response has an error status.
        """
        with self.exchange(request) as reply, self._waiting():
            return reply.body()

    @contextmanager
    def exchange(self, request: Request) -> Generator[Reply]:
        """Send a request; the response is open while the block is active. Leaving the block early cancels the request.

        Raises:
            Unreached: the server cannot be reached or does not respond; also while the response is read.
            Refused: the response has an error status.
        """
        with self.unchecked(request) as reply:
            if not 200 <= reply.status_code < 300:
                raise self._refusal(reply.status_code, reply.body())
            yield reply

    @contextmanager
    def unchecked(self, request: Request) -> Generator[Reply]:
        """As ``exchange``, but does not raise for an error status.

        Raises:
            Unreached: the server cannot be reached or does not respond; also while the response is read.
        """
        with self._explained(request.timeout_s), ExitStack() as stack:
            with self._waiting():
                response = self._http.send(self._encoded(request), stream=True)
                stack.callback(response.close)
            yield Reply(response)

    def _encoded(self, request: Request) -> httpx2.Request:
        """Encode the request.

        Raises:
            RequestFailed: a text is not UTF-8, the address is too long, or a number is not finite.
        """
        try:
            return self._http.build_request(
                request.method,
                request.path,
                params=request.query,
                headers=request.headers,
                json=request.json,
                files=[(part.name, (part.filename, part.content, part.media_type)) for part in request.form] or None,
                timeout=httpx2.Timeout(request.timeout_s, connect=min(request.timeout_s, _CONNECT_TIMEOUT_S)),
            )
        except (httpx2.InvalidURL, ValueError) as error:
            reason = "it contains bytes that are not UTF-8 text" if isinstance(error, UnicodeError) else error
            raise RequestFailed(f"The request cannot be sent: {reason}.") from error

    @contextmanager
    def _explained(self, timeout_s: float) -> Generator[None]:
        try:
            yield
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            if self._local:
                raise Unreached(f"No server answers at {self.url}; start one with `corral serve`.") from error
            raise Unreached(f"Cannot connect to {self.url}: {error}.") from error
        except httpx2.TimeoutException as error:
            raise Unreached(f"The server at {self.url} did not respond for {timeout_s:g} s.") from error
        except httpx2.HTTPError as error:
            raise Unreached(f"The connection to {self.url} was lost: {error}.") from error

    def _refusal(self, status_code: int, body: bytes) -> Refused:
        message = reason(body) or f"The server returned HTTP status {status_code}."
        if status_code == 401:
            message = (
                f"The server at {self.url} did not accept the API key. Set CORRAL_API_KEY to the key that "
                "`corral serve` printed, or log in with `corral auth login`."
            )
        return Refused(message, status_code=status_code, body=body)


Reach = Callable[[Connection], Channel]
"""Creates a channel to a server; nothing is sent yet."""
OpenServer = Callable[[str | None], Channel]
"""Creates a channel to the server of ``--url``, or of settings and login if it is None."""


def decode(body: bytes, kind: type[T]) -> T:
    """Decode a JSON body to *kind*; unknown fields are ignored.

    Raises:
        RequestFailed: the body does not match.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise RequestFailed("The server did not send a valid Corral response. Check --url.") from error


class _Problem(msgspec.Struct):
    """The error shapes of OpenAI, DeepInfra and FastAPI."""

    error: object = None
    detail: object = None


class _Fault(msgspec.Struct):
    msg: str
    loc: list[str | int] = []


class _ErrorObject(msgspec.Struct):
    message: str


def reason(body: bytes) -> str | None:
    """Get the message from an error response in any of the doors' formats; None if it has none."""
    try:
        problem = msgspec.json.decode(body, type=_Problem)
        detail = problem.detail if problem.error is None else problem.error
        match detail:
            case str():
                text = detail
            case list():
                fault = msgspec.convert(detail, list[_Fault])[0]
                text = f"{'.'.join(map(str, fault.loc))}: {fault.msg}"
            case _:
                text = msgspec.convert(detail, _ErrorObject).message
    except (msgspec.DecodeError, RecursionError, IndexError):
        return None
    return one_line(text)[:_MAX_REASON_CHARACTERS] or None


def path_segment(text: str) -> str:
    """Quote *text* as one segment of a URL's path.

    Raises:
        RequestFailed: *text* contains bytes that are not UTF-8 text.
    """
    try:
        return quote(text, safe="")
    except UnicodeEncodeError as error:
        raise RequestFailed(f"'{text}' contains bytes that are not UTF-8 text.") from error


def one_line(text: str) -> str:
    """Replace line breaks and control characters with spaces."""
    return "".join(character if character.isprintable() else " " for character in text)


def server_root(url: str) -> str:
    """Strip a final slash and the ``/v1`` of OpenAI's clients from *url*, to compare servers."""
    return url.rstrip("/").removesuffix("/v1")


def is_this_machine(url: str) -> bool:
    """Return whether the URL's host is a loopback address."""
    host = _checked_url(url).host
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return address.is_loopback or address.is_unspecified


def _checked_url(text: str) -> httpx2.URL:
    try:
        url = httpx2.URL(text)
    except httpx2.InvalidURL as error:
        raise RequestFailed(f"'{text}' is not a server address: {error}.") from error
    if url.scheme not in {"http", "https"} or not url.host:
        raise RequestFailed(f"'{text}' is not a server address: it must start with http:// or https://.")
    return url
