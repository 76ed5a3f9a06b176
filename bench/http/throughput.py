"""Measure tokens per second of a running server over HTTP; prints one JSON line per number of streams.

``python bench/http/throughput.py http://127.0.0.1:8000 KEY --streams 1 16``. All streams start together with random
prompts and run greedily to their last token; the time is from the first byte sent to the last token, prompts included:
the same work as ``bench/engine/throughput.py`` measures without gateway, process border and sockets.
"""

import argparse
import asyncio
import json
import random
import time
from collections.abc import Mapping
from statistics import median

import httpx2

_TIMEOUT_S = 600
_DONE = b"data: [DONE]"
_WORDS = ("llama", "river", "seven", "under", "stone", "paper", "green", "quiet", "window", "market")


def main() -> None:
    """Parse the arguments, measure each number of streams."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("key")
    parser.add_argument("--model", default=None, help="the server's first by default")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    asyncio.run(bench(arguments))


async def bench(arguments: argparse.Namespace) -> None:
    """Print one line for each number of streams."""
    headers = {"authorization": f"Bearer {arguments.key}"}
    limits = httpx2.Limits(max_connections=max(arguments.streams))
    async with httpx2.AsyncClient(
        base_url=arguments.url, headers=headers, timeout=_TIMEOUT_S, limits=limits, trust_env=False
    ) as client:
        model = arguments.model or (await client.get("/v1/models")).json()["data"][0]["id"]
        dice = random.Random(0)
        await measure(client, model, max(arguments.streams), 2, dice)  # opens the connections
        for streams in arguments.streams:
            runs = [await measure(client, model, streams, arguments.new_tokens, dice) for _ in range(arguments.runs)]
            rates = [round(rate, 1) for rate in runs]
            print(json.dumps({"model": model, "streams": streams, "median": median(rates), "runs": rates}))


async def measure(client: httpx2.AsyncClient, model: str, streams: int, new_tokens: int, dice: random.Random) -> float:
    """Completion tokens per second of all streams together; a stream that ended early counts with its tokens."""
    bodies = [
        {
            "model": model,
            "messages": [{"role": "user", "content": " ".join(dice.choices(_WORDS, k=6))}],
            "temperature": 0,
            "max_tokens": new_tokens,
            "stream": True,
        }
        for _ in range(streams)
    ]
    started = time.monotonic()
    tokens = await asyncio.gather(*(stream(client, body) for body in bodies))
    return sum(tokens) / (time.monotonic() - started)


async def stream(client: httpx2.AsyncClient, body: Mapping[str, object]) -> int:
    """Read one stream to its end; return the server's count of completion tokens."""
    last = b""
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        response.raise_for_status()
        async for chunk in response.aiter_bytes():
            last = (last + chunk)[-2000:]
    events = [line for line in last.split(b"\n") if line.startswith(b"data: ")]
    if events[-1].strip() != _DONE:
        raise RuntimeError(f"the stream broke off: {events[-1]!r}")
    return int(json.loads(events[-2].removeprefix(b"data: "))["usage"]["completion_tokens"])


if __name__ == "__main__":
    main()
