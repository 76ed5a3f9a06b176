"""HTTP to one server, for the commands: bounded answers, and every failure as one sentence. Knows no terminal."""

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
"""Lasts while an answer has not begun; may show that on a terminal."""

_CONNECT_TIMEOUT_S: Final = 5
_READ_TIMEOUT_S: Final = 60
"""Longer than the server's pause between two comments in a silent stream."""
_MAX_BODY_BYTES: Final = 4 * 1024 * 1024
_MAX_REASON_CHARACTERS: Final = 500
_EVENT_STREAM: Final = "text/event-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One field of a form; with a file name it is an uploaded file, else text."""

    name: str
    content: bytes
    filename: str | None = None
    media_type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked of a server."""

    path: str
    """From the server's root on, such as ``/v1/models``."""
    method: str = "GET"
    query: Mapping[str, str | int] | None = None
    headers: Mapping[str, str] | None = None
    json: object = None
    form: Sequence[Part] = ()
    timeout_s: float = _READ_TIMEOUT_S
    """Silence after which the server is given up."""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One server-sent event."""

    name: str
    data: str
    id: str


class Reply:
    """An answer that has begun: an event stream, or a body to be read."""

    def __init__(self, response: httpx2.Response) -> None:
        self._response = response

    @property
    def streams(self) -> bool:
        """Whether events come, instead of one document."""
        return self._media_type == _EVENT_STREAM

    @property
    def status_code(self) -> int:
        """The HTTP status."""
        return self._response.status_code

    @property
    def _media_type(self) -> str:
        return self._response.headers.get("content-type", "").partition(";")[0].strip().lower()

    def body(self) -> bytes:
        """The whole body.

        Raises:
            RequestFailed: it is longer than any answer that is of use.
        """
        body = b""
        for part in self._response.iter_bytes():
            body += part
            if len(body) > _MAX_BODY_BYTES:
                raise RequestFailed(f"The server's answer is longer than {_MAX_BODY_BYTES} bytes.")
        return body

    def events(self) -> Generator[Event]:
        """The events, as they come."""
        for event in httpx2.EventSource(self._response):
            yield Event(name=event.event, data=event.data, id=event.id)


class Channel:
    """Asks one server. Use as a context manager."""

    def __init__(self, connection: Connection, *, waiting: Waiting = nullcontext) -> None:
        """Prepare; nothing is sent yet.

        Raises:
            RequestFailed: the address or the key cannot be right.
        """
        url = _checked_url(connection.url)
        key = connection.api_key
        if key is not None and not (key.isascii() and key.isprintable() and key.strip() == key):
            raise RequestFailed("The API key holds a character that no key has.")
        self.url = server_root(str(url))
        self.has_key = bool(key)
        self._local = is_this_machine(self.url)
        self._waiting = waiting
        self._http = httpx2.Client(
            base_url=self.url,
            headers={"authorization": f"Bearer {key}"} if key else {},
            # Certificates are read, which takes a while, only where they are looked at; redirects are not followed.
            verify=url.scheme == "https",
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

    def ask(self, request: Request) -> bytes:
        """The whole answer to a request.

        Raises:
            Unreached: no server, or none that says anything.
            Refused: the server says no.
        """
        with self.exchange(request) as reply, self._waiting():
            return reply.body()

    @contextmanager
    def exchange(self, request: Request) -> Generator[Reply]:
        """Send a request; its answer lasts as long as the block, and leaving that early ends the server's work on it.

        Raises:
            Unreached: no server, or none that says anything; also while the answer is read.
            Refused: the server says no.
        """
        with self.unchecked(request) as reply:
            if not 200 <= reply.status_code < 300:
                raise self._refusal(reply.status_code, reply.body())
            yield reply

    @contextmanager
    def unchecked(self, request: Request) -> Generator[Reply]:
        """As ``exchange``, but every status is an answer.

        Raises:
            Unreached: no server, or none that says anything; also while the answer is read.
        """
        with self._explained(request.timeout_s), ExitStack() as stack:
            with self._waiting():
                response = self._http.send(self._encoded(request), stream=True)
                stack.callback(response.close)
            yield Reply(response)

    def _encoded(self, request: Request) -> httpx2.Request:
        """The request in bytes.

        Raises:
            RequestFailed: text is not UTF-8, the address is too long, or a number is not finite.
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
            reason = "it holds bytes that are not UTF-8 text" if isinstance(error, UnicodeError) else error
            raise RequestFailed(f"The request cannot be sent: {reason}.") from error

    @contextmanager
    def _explained(self, timeout_s: float) -> Generator[None]:
        try:
            yield
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            if self._local:
                raise Unreached(f"No server answers at {self.url}; start one with `corral serve`.") from error
            raise Unreached(f"No connection to {self.url}: {error}.") from error
        except httpx2.TimeoutException as error:
            raise Unreached(f"The server at {self.url} said nothing for {timeout_s:g} s.") from error
        except httpx2.HTTPError as error:
            raise Unreached(f"The connection to {self.url} broke: {error}.") from error

    def _refusal(self, status_code: int, body: bytes) -> Refused:
        said = reason(body)
        if status_code == 401:
            said = (
                f"The server at {self.url} did not accept the API key; set CORRAL_API_KEY to the one that "
                "`corral serve` printed, or log in with `corral auth login`."
            )
        return Refused(
            said or f"The server answered with HTTP status {status_code}.", status_code=status_code, body=body
        )


Reach = Callable[[Connection], Channel]
"""Opens a channel to a server; nothing is sent yet."""
OpenServer = Callable[[str | None], Channel]
"""The same for ``--url``, or for settings and login when that is None."""


def decode(body: bytes, kind: type[T]) -> T:
    """The document in *body*, as far as *kind* tells of it.

    Raises:
        RequestFailed: it is another document.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise RequestFailed("The server's answer is not what Corral sends; is --url right?") from error


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
    except (msgspec.DecodeError, RecursionError, IndexError):
        return None
    return one_line(text)[:_MAX_REASON_CHARACTERS] or None


def path_segment(text: str) -> str:
    """*text* as one segment of a URL's path.

    Raises:
        RequestFailed: it holds bytes that are not UTF-8 text.
    """
    try:
        return quote(text, safe="")
    except UnicodeEncodeError as error:
        raise RequestFailed(f"'{text}' holds bytes that are not UTF-8 text.") from error


def one_line(text: str) -> str:
    """*text* without what would move the cursor."""
    return "".join(character if character.isprintable() else " " for character in text)


def server_root(url: str) -> str:
    """*url* as servers are compared: without a final slash and the ``/v1`` that OpenAI's clients want."""
    return url.rstrip("/").removesuffix("/v1")


def is_this_machine(url: str) -> bool:
    """Whether the address is a loopback one."""
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
        raise RequestFailed(f"'{text}' is no address: {error}.") from error
    if url.scheme not in {"http", "https"} or not url.host:
        raise RequestFailed(f"'{text}' is no address; one begins with http:// or https://.")
    return url
