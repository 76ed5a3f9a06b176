"""Measure the overhead of Corral over its engine: time to the first token and time per token, as JSON lines.

``python bench/overhead/overhead.py --streams 1 32 256``. The engine is scripted: a token for every sequence at each
step, steps of equal length. It is asked once directly (``bare``) and once through the whole server (``served``):
HTTP, authentication, a stored prediction with hold and settlement in SQLite, a priced account, server-sent events;
gateway, worker and client in three processes. Both times the same number of streams is kept up: as soon as one ends the
next begins, and they begin spread over the length of an answer. The first answer of each is not counted.

Time per token is (last - first) / (tokens - 1) of one answer; a gap is the time between two neighbouring tokens.
"""

import argparse
import asyncio
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import quantiles
from typing import Any, cast

import uvloop

from corral.bootstrap import open_accounts, open_store
from corral.catalog.catalog import DEMO, demo_checkpoint
from corral.core.generation import Sampling
from corral.engines.base import EngineLimits, EngineRequest
from corral.engines.queued import QueuedEngine
from corral.engines.scripted import SCRIPTED_CAPABILITIES
from corral.engines.subprocess.worker import SubprocessWorker, WorkerLaunch
from corral.service.accounts.api_keys import KeyTerms
from corral.settings import load_settings, worker_environment
from corral.text.load import load_tokenizer

_LETTER = b"a"
"""All that a token says, without a space before it: the client counts tokens by characters."""
_CONTENT = re.compile(rb'"content":"([^"]*)"')
_OK = b"HTTP/1.1 200 "
_LAST_CHUNK = b"\r\n0\r\n\r\n"
_CREDIT_NUSD = 10**15


@dataclass(slots=True)
class Answer:
    """Arrival times of the tokens of one answer, by the monotonic clock."""

    began_s: float
    tokens_s: list[float] = field(default_factory=list[float])

    @property
    def first_ms(self) -> float:
        """Time to the first token."""
        return 1000 * (self.tokens_s[0] - self.began_s)

    @property
    def token_ms(self) -> float:
        """Time per token."""
        return 1000 * (self.tokens_s[-1] - self.tokens_s[0]) / (len(self.tokens_s) - 1)

    @property
    def gaps_ms(self) -> list[float]:
        """Times between neighbouring tokens."""
        return [1000 * (later - earlier) for earlier, later in pairwise(self.tokens_s)]


Ask = Callable[[], Awaitable[Answer]]


def main() -> None:
    """Parse the arguments and measure each number of streams."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 32, 256])
    parser.add_argument("--tokens", type=int, default=128, help="of each answer")
    parser.add_argument("--step-ms", type=float, default=20)
    parser.add_argument("--answers", type=int, default=300, help="counted at each number of streams, at least")
    parser.add_argument("--model", default=DEMO, help="whose tokenizer is used; its weights are not")
    uvloop.run(bench(parser.parse_args()))


async def bench(arguments: argparse.Namespace) -> None:
    """Print three lines for each number of streams: bare, served, and their difference."""
    checkpoint = demo_checkpoint() if arguments.model == DEMO else Path(arguments.model)
    tokenizer = load_tokenizer(checkpoint)
    letter = next(index for index in range(tokenizer.vocab_size) if tokenizer.piece_bytes(index) == _LETTER)
    script = {
        "vocab_size": tokenizer.vocab_size,
        "kv_blocks": 2**16,
        "step_s": arguments.step_ms / 1000,
        "answer": [letter] * arguments.tokens,
    }
    for streams in arguments.streams:
        bare = await measure_bare(script, streams, arguments)
        print(json.dumps(bare), flush=True)
        served = await measure_served(script, streams, arguments)
        print(json.dumps(served), flush=True)
        added = {
            name: {at: round(served[name][at] - bare[name][at], 3) for at in bare[name]}
            for name in ("first_ms", "token_ms", "gap_ms")
        }
        print(json.dumps({"what": "added", "streams": streams, **added}), flush=True)


async def measure_bare(script: dict[str, Any], streams: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure the engine without service, HTTP and database."""
    worker = SubprocessWorker(WorkerLaunch(engine="scripted", options=script, environment=worker_environment()))
    engine = QueuedEngine(
        [worker],
        limits=EngineLimits(vocab_size=script["vocab_size"], context_tokens=4096, room_tokens=4096, max_sequences=256),
        capabilities=SCRIPTED_CAPABILITIES,
    )
    request = EngineRequest(
        prompt_ids=tuple(range(3, 23)),
        max_new_tokens=arguments.tokens,
        min_new_tokens=0,
        seed=0,
        sampling=Sampling(temperature=0),
        stop_ids=frozenset({2}),
    )

    async def ask() -> Answer:
        answer = Answer(time.monotonic())
        async with engine.open(request) as run:
            async for batch in run:
                answer.tokens_s += [time.monotonic()] * len(batch.ids)
        return answer

    async with engine.run():
        await engine.ready()
        answers = await keep_up(ask, streams, arguments)
    return {"what": "bare", "streams": streams, **summary(answers)}


async def measure_served(script: dict[str, Any], streams: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure the whole server over sockets."""
    with tempfile.TemporaryDirectory() as directory:
        settings = priced_settings(
            arguments.model, Path(directory), max_sequences=max(256, streams), concurrent_per_model=0
        )
        secret = await open_account(settings)
        request = chat_request(secret, arguments)
        async with gateway(settings, script) as (port, pid):
            clients = asyncio.Queue[Client]()
            for _ in range(streams):
                clients.put_nowait(await Client.connect(port))

            async def ask() -> Answer:
                client = clients.get_nowait()
                answer = await client.ask(request)
                clients.put_nowait(client)
                return answer

            cpu_before_s = cpu_s(pid)
            answers = await keep_up(ask, streams, arguments)
            spent_s = cpu_s(pid) - cpu_before_s
            tokens = (len(answers) + streams) * arguments.tokens
    return {
        "what": "served",
        "streams": streams,
        **summary(answers),
        "gateway_cpu_us_per_token": round(1e6 * spent_s / tokens, 1),
    }


async def keep_up(ask: Ask, streams: int, arguments: argparse.Namespace) -> list[Answer]:
    """Run a constant number of streams until each has completed its answers and one uncounted answer before them.

    Raises:
        ValueError: an answer has more or fewer tokens than it was asked for.
    """
    rounds = 1 + -(-arguments.answers // streams)
    length_s = arguments.tokens * arguments.step_ms / 1000

    async def one(index: int) -> list[Answer]:
        await asyncio.sleep(length_s * index / streams)
        return [await ask() for _ in range(rounds)][1:]

    answers = [answer for answers in await asyncio.gather(*map(one, range(streams))) for answer in answers]
    if wrong := {len(answer.tokens_s) for answer in answers} - {arguments.tokens}:
        raise ValueError(f"answers of {sorted(wrong)} tokens were counted where each has {arguments.tokens}")
    return answers


def summary(answers: list[Answer]) -> dict[str, Any]:
    """Medians and 99th percentiles in milliseconds."""
    return {
        "answers": len(answers),
        "first_ms": percentiles([answer.first_ms for answer in answers]),
        "token_ms": percentiles([answer.token_ms for answer in answers]),
        "gap_ms": percentiles([gap_ms for answer in answers for gap_ms in answer.gaps_ms]),
    }


def percentiles(values: list[float]) -> dict[str, float]:
    """p50 and p99."""
    cuts = quantiles(values, n=100, method="inclusive")
    return {"p50": round(cuts[49], 3), "p99": round(cuts[98], 3)}


class Client(asyncio.Protocol):
    """A keep-alive connection with little overhead, because the client shares the machine with the server."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._answer: Answer
        self._done: asyncio.Future[Answer]
        self._rest = b""
        self._begun = False

    @classmethod
    async def connect(cls, port: int) -> "Client":
        """A client of the server on *port*."""
        _, client = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is open."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Record the arrival time of each token; each is one letter."""
        now_s = time.monotonic()
        if not self._begun and not data.startswith(_OK):
            self._done.set_exception(ValueError(f"the server refused a request: {data.decode(errors='replace')}"))
            return
        self._begun = True
        events, _, self._rest = (self._rest + data).rpartition(b"\n\n")
        for found in _CONTENT.finditer(events):
            self._answer.tokens_s += [now_s] * len(found[1])
        if self._rest.endswith(_LAST_CHUNK):
            self._rest = b""
            self._done.set_result(self._answer)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the measurement: the server closed the connection."""
        if not self._done.done():
            self._done.set_exception(exc or ConnectionResetError("the server closed the connection"))

    async def ask(self, request: bytes) -> Answer:
        """Send one request and read its answer."""
        self._done = asyncio.get_running_loop().create_future()
        self._answer = Answer(time.monotonic())
        self._begun = False
        self._transport.write(request)
        return await self._done


def priced_settings(model: str, directory: Path, **more: Any) -> dict[str, Any]:
    """Settings of a server whose model has a price."""
    name = model if model == DEMO else f"local/{Path(model).resolve().name}"
    prices = directory / "prices.toml"
    prices.write_text(
        f'[["{name}"]]\nsince = 2026-01-01\ninput_usd_per_million = "0.65"\noutput_usd_per_million = "2.75"\n'
    )
    return {"model": model, "data_dir": str(directory / "data"), "prices": str(prices), "port": 0, **more}


def chat_request(secret: str, arguments: argparse.Namespace) -> bytes:
    """Raw HTTP request of a streamed chat."""
    name = arguments.model if arguments.model == DEMO else f"local/{Path(arguments.model).resolve().name}"
    body = json.dumps(
        {
            "model": name,
            "messages": [{"role": "user", "content": "Say it."}],
            "max_tokens": arguments.tokens,
            "temperature": 0,
            "stream": True,
        }
    ).encode()
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        b"authorization: Bearer %b\r\ncontent-length: %d\r\n\r\n%b" % (secret.encode(), len(body), body)
    )


async def open_account(choices: dict[str, Any]) -> str:
    """Create a prepaid account in the server's database; return an API key."""
    settings = load_settings(choices, {})
    store = open_store(settings)
    services = open_accounts(settings, store)
    account = await services.accounts.create("Bench")
    await services.accounts.credit(account.id, _CREDIT_NUSD)
    _, secret = await services.keys.create(account.id, KeyTerms(name="bench"))
    await store.close()
    return secret


@asynccontextmanager
async def gateway(settings: dict[str, Any], script: dict[str, Any]) -> AsyncGenerator[tuple[int, int]]:
    """Run the server in a subprocess; yields its port and process id."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(Path(__file__).with_name("gateway.py"))),
        json.dumps({"settings": settings, "script": script}),
        env={**os.environ, "NO_COLOR": "1"},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        port = 0
        async for line in process.stdout:
            if b"answers at" in line:
                port = int(line.rpartition(b":")[2])
            if b"Ctrl-C" in line:
                break
        yield port, process.pid
    finally:
        process.terminate()
        await process.wait()


def cpu_s(pid: int) -> float:
    """CPU time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
