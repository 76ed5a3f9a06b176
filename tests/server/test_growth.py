"""Strings in any field of a request: processing time is linear in their length and does not block other requests."""

import asyncio
import gc
import re
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import pytest
from httpx2 import AsyncClient

from tests.doors.live_server import SECRET
from tests.server.harness import MODEL, OpenServer, ServerHarness
from tests.server.text_places import Call, Place, places_in_bodies, places_in_forms, places_in_heads

MOST_PER_DOUBLING: Final = 2.5
LONGEST_CHARS: Final = 2**17
LONGEST_HEAD_CHARS: Final = 2**15
_PROBES_CHARS: Final = (2**10, 2**13)
"""Tried first: what takes a second for so little is refused at once, not waited for at full length."""
_PROBE_S: Final = 0.2
_NOTICEABLE_S: Final = 0.005
"""At full length. What takes less is not judged: noise of a busy machine would be measured."""
_TRIES: Final = 6
_UNITS: Final = (" ", "\n", "[", "<", "<s>", "[INST]", "a", "漢", "{prompt}", ",", "\\", "[INST] a [/INST] ")
_AROUND: Final = ("[INST] hi [/INST] a", "b [INST] more [/INST]")


@dataclass(frozen=True, slots=True)
class Text:
    """A run of *unit*, with something before and behind it."""

    unit: str
    before: str = ""
    behind: str = ""

    def of(self, chars: int) -> str:
        """About so long."""
        return self.before + self.unit * (chars // len(self.unit)) + self.behind


MOST_HELD_S: Final = 0.1
"""Ten times what it takes here, and less than a person or a program notices in a stream."""
LONG_TEXTS: Final = ("漢" * 600_000, "a" * 2_000_000, " " * 1_000_000)
LONG_FORM_TEXTS: Final = ("漢" * 200_000,)
"""A browser sends nine characters for a Chinese one."""
_WORKED_ON: Final = re.compile(r"content|prompt|input|stop|schema|regex|turns|name of a field|sign-in key")
"""What is tokenized, parsed or filled in."""
_LINK: Final = re.compile(r'href="(/[^"?#]*)["?#]')
FEW_TEXTS: Final = tuple(map(Text, (" ", "\n", "[INST]", "a", "漢")))
TEXTS: Final = (*map(Text, _UNITS), Text(" ", *_AROUND))


class Stopwatch:
    """CPU time of requests to an application in this process, whichever of its threads spends it."""

    def __init__(self, app: Any, headers: dict[str, str]) -> None:
        self._app = app
        self._headers = headers

    async def time_s(self, call: Call) -> float:
        """Of one request, from its head to the end of its answer."""
        headers = {"host": "localhost", **self._headers, **{name.lower(): text for name, text in call.headers.items()}}
        headers["content-length"] = str(len(call.body))
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": call.method,
            "scheme": "http",
            "path": call.path,
            "raw_path": call.path.encode(errors="replace"),
            "query_string": call.query.encode(),
            "root_path": "",
            "headers": [(name.encode(), text.encode("utf-8")) for name, text in headers.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        waiting = [{"type": "http.request", "body": call.body, "more_body": False}]

        async def receive() -> Any:
            return waiting.pop() if waiting else await asyncio.Event().wait()

        async def send(_message: dict[str, Any]) -> None:
            return None

        began_s = time.process_time()
        await self._app(scope, receive, send)
        return time.process_time() - began_s


async def growth_of(watch: Stopwatch, place: Place, text: Text, *, longest_chars: int) -> str | None:
    """What is wrong with the time that runs of *text*'s unit take at *place*; None if it grows with their length."""
    for chars in _PROBES_CHARS:
        took_s = await watch.time_s(place.call(text.of(chars)))
        if took_s > _PROBE_S:
            return f"{place.name}: {chars} characters of {text.unit!r} take {took_s:.1f} s"
    whole, quarter = (place.call(text.of(longest_chars // parts)) for parts in (1, 4))
    whole_s = quarter_s = float("inf")
    for _ in range(_TRIES):
        # The least of several: what else the machine does can only add to it.
        whole_s = min(whole_s, await watch.time_s(whole))
        if whole_s < _NOTICEABLE_S:
            return None
        quarter_s = min(quarter_s, await watch.time_s(quarter))
        if whole_s <= quarter_s * MOST_PER_DOUBLING**2:
            return None
    told = f"takes {whole_s * 1000:.1f} ms, a quarter of that {quarter_s * 1000:.1f} ms"
    return f"{place.name}: a run of {text.unit!r} of {longest_chars} characters {told}"


async def faults_of(
    watch: Stopwatch, places: Iterable[Place], *, texts: Iterable[Text] = FEW_TEXTS, longest_chars: int = LONGEST_CHARS
) -> list[str]:
    """List the places where time is not linear."""
    with _no_collections():
        found = [await growth_of(watch, place, text, longest_chars=longest_chars) for place in places for text in texts]
    return [fault for fault in found if fault is not None]


class LongestCallback:
    """Longest CPU time of one event loop callback: how long other requests were blocked."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        """Patch the event loop to measure every callback."""
        self.s = 0.0
        run = asyncio.events.Handle._run  # noqa: SLF001 - the one place that all callbacks come through

        def measured(handle: asyncio.Handle) -> None:
            began_s = time.thread_time()
            run(handle)
            self.s = max(self.s, time.thread_time() - began_s)

        patch.setattr(asyncio.events.Handle, "_run", measured)

    async def during(self, watch: Stopwatch, call: Call) -> float:
        """Longest callback while *call* is answered."""
        await asyncio.sleep(0)
        self.s = 0.0
        await watch.time_s(call)
        await asyncio.sleep(0)
        return self.s


@contextmanager
def _no_collections() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


pytestmark = pytest.mark.timeout(600)
"""Hundreds of fields, each many times: half a minute, and several on a machine that is busy with other things."""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop for the module, because the server is shared."""
    return "asyncio"


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OpenServer]:
    """The whole server, with a scripted engine in a process of its own."""
    async with ServerHarness.create(tmp_path_factory.mktemp("harness")).server(max_tokens=1) as live:
        yield live


@pytest.fixture(scope="module")
def by_key(server: OpenServer) -> Stopwatch:
    """Requests with an API key."""
    return Stopwatch(server.made.app, {"authorization": f"Bearer {SECRET}"})


@pytest.mark.anyio
async def test_request_time_is_linear_in_every_body_string(server: OpenServer, by_key: Stopwatch) -> None:
    places = list(places_in_bodies(server.made.app.openapi()))
    names = "\n".join(place.name for place in places)
    for field in ("messages.0.content", "input.prompt_template", "part input", "stop.0", "response_format.regex"):
        assert field in names  # the enumeration reaches nested and generated fields
    assert await faults_of(by_key, places, texts=TEXTS) == []


@pytest.mark.anyio
async def test_request_time_is_linear_in_every_path_query_and_header_string(
    server: OpenServer, by_key: Stopwatch
) -> None:
    places = list(places_in_heads(server.made.app.openapi()))
    assert await faults_of(by_key, places, longest_chars=LONGEST_HEAD_CHARS) == []


@pytest.fixture(scope="module")
async def forms(server: OpenServer) -> tuple[Stopwatch, list[Place]]:
    """Every field of every form that links lead to, and a browser that may send them."""
    async with server.openai() as client:
        await client.completions.create(model=MODEL, prompt="Hi", max_tokens=1)  # has a page, with forms on it
    pages, cookie = await crawl(server)
    places = {
        place.name.partition(" (on ")[0]: place
        for path, html in pages.items()
        for place in places_in_forms(path, html)
        if "/sign-out" not in place.name
    }
    for field in (f"POST /{MODEL}/run prompt", f"POST /{MODEL}/api turns", "POST /sign-in key", "GET /p "):
        assert any(name.startswith(field) for name in places), (field, list(places))
    return Stopwatch(server.made.app, {"cookie": cookie}), list(places.values())


@pytest.mark.anyio
async def test_request_time_is_linear_in_every_form_string(forms: tuple[Stopwatch, list[Place]]) -> None:
    assert await faults_of(*forms) == []


@pytest.mark.anyio
async def test_two_megabyte_strings_block_the_event_loop_for_milliseconds(
    server: OpenServer, by_key: Stopwatch, forms: tuple[Stopwatch, list[Place]], monkeypatch: pytest.MonkeyPatch
) -> None:
    longest = LongestCallback(monkeypatch)
    by_browser, fields = forms
    found = [(by_key, place, LONG_TEXTS) for place in places_in_bodies(server.made.app.openapi())]
    found += [(by_browser, place, LONG_FORM_TEXTS) for place in fields if place.name.startswith("POST")]
    held = [
        (await longest.during(watch, place.call(text)), place.name, text[:8])
        for watch, place, texts in found
        if _WORKED_ON.search(place.name)
        for text in texts
    ]
    assert max(held)[0] < MOST_HELD_S


@pytest.mark.anyio
async def test_two_megabytes_of_small_values_block_the_event_loop_for_milliseconds(
    by_key: Stopwatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    longest = LongestCallback(monkeypatch)
    chat = b'{"model":"%b","messages":[{"role":"user","content":"Hi"}],"user":%%b}' % MODEL.encode()
    for values in (
        b"[%b[]]" % (b"[]," * 650_000),
        b"[%b1]" % (b'{"a":1},' * 240_000),
        b"[%bNaN]" % (b'"a",' * 480_000),
    ):
        call = Call(method="POST", path="/v1/chat/completions", body=chat % values)
        assert await longest.during(by_key, call) < MOST_HELD_S


async def crawl(server: OpenServer) -> tuple[dict[str, str], str]:
    """Every page that links lead to, by its path, and the cookie of who may see them."""
    pages: dict[str, str] = {}
    async with AsyncClient(base_url=server.url, timeout=60) as browser:
        pages["/sign-in"] = (await browser.get("/sign-in")).text
        await browser.post("/sign-in", data={"key": SECRET, "next": "/"})
        ahead = ["/"]
        while ahead:
            path = ahead.pop()
            answer = await browser.get(path)
            if answer.headers.get("content-type", "").startswith("text/html"):
                pages[path] = answer.text
                ahead += sorted({link for link in _LINK.findall(answer.text) if link not in {*pages, *ahead}})
        return pages, "; ".join(f"{each.name}={each.value}" for each in browser.cookies.jar)
