"""Servers for browser tests: with the demo model, and with a scripted engine."""

import asyncio
import os
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from corral import demo, engine_kinds
from corral.bootstrap import Server, build
from corral.core.prediction import Prediction
from corral.service.ports import PageRequest
from corral.text.load import load_tokenizer
from tests.demo_server import demo_settings
from tests.doors.live_server import SECRET, serving
from tests.e2e.pages.tcp_proxy import TcpProxy, proxy_to
from tests.server.gateway import scripted

MODEL = "meta/llama-2-70b-chat"
STEP_S = 0.003
"""Time per token: slow enough to act during an answer, fast enough to wait for a thousand tokens."""
VERY_SLOW_STEP_S = 0.03
"""Time per token for runs that must not end before a page reload on a busy machine."""
_PATIENCE_S = 60

_CODE = "def double(x: int) -> int:\n    return 2 * x  # <b>not bold</b>"
_OPENING = f"""\
# A long answer

Some **bold**, some *emphasis*, some `inline <code>`, and a [link](https://example.com/a?b=1&c=2).

<script>window.broken = 1; document.title = "broken"</script>

<img src="https://example.com/x.png" onerror="window.broken = 1">

![a picture](https://example.com/pixel.png) and [no link](javascript:window.broken=1)

```python
{_CODE}
```

1. One
2. Two 🤠🐎 and a family: 👩‍👩‍👧
3. Three

- a point
- another point

שלום עולם, זה משפט מימין לשמאל.

مرحبا بالعالم

| Name | Value |
| --- | --- |
| a | 1 |

> Quoted & <i>not italic</i>

"""
CODE = _CODE + "\n"
_SENTENCE = "The herd moves at the pace of its slowest animal, and nobody is left behind. "
ANSWER_TOKENS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class BrowserTestServer:
    """A running server behind a TCP proxy."""

    proxy: TcpProxy
    built: Server

    @property
    def url(self) -> str:
        """Base URL for browsers."""
        return self.proxy.url

    async def sign_in_link(self) -> str:
        """Create a single-use sign-in link, as ``corral serve`` prints it."""
        return f"{self.url}/sign-in#{self.built.links.make(await self.built.account_services.keys.key_id_of(SECRET))}"

    async def latest_prediction(self) -> Prediction:
        """Get the prediction created last."""
        caller = await self.built.account_services.keys.authenticate(SECRET)
        assert caller is not None
        return (await self.built.predictions.page(caller, PageRequest(limit=1)))[0]

    async def run(self, command: list[str], variables: dict[str, str]) -> "subprocess.CompletedProcess[bytes]":
        """Run a subprocess without blocking this server."""
        environment = {**os.environ, **variables}
        process = await asyncio.create_subprocess_exec(
            *command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        stdout, stderr = await asyncio.wait_for(process.communicate(), _PATIENCE_S)
        return subprocess.CompletedProcess(command, process.returncode or 0, stdout, stderr)

    async def wait_for_latest(self) -> Prediction:
        """Wait until the prediction created last has a final status."""
        async with asyncio.timeout(_PATIENCE_S):
            while not (found := await self.latest_prediction()).status.terminal:
                await asyncio.sleep(0.02)
        return found


@asynccontextmanager
async def demo_server(data_dir: Path) -> AsyncGenerator[BrowserTestServer]:
    """Run the server with the demo model in this process, built as ``corral serve`` builds it."""
    built = build(demo_settings(data_dir, api_key=SECRET), lambda _: None)
    async with built.run():
        await built.engine.ready()
        async with serving(built.app) as live, proxy_to(live.port) as proxy:
            yield BrowserTestServer(proxy=proxy, built=built)


@asynccontextmanager
async def scripted_server(data_dir: Path, *, step_s: float = STEP_S) -> AsyncGenerator[BrowserTestServer]:
    """Run the server with a scripted engine that answers ``answer_ids()``, one token per *step_s*."""
    ids = answer_ids()
    tokenizer = load_tokenizer(Path(demo.__file__).parent)
    script = {"vocab_size": tokenizer.vocab_size, "kv_blocks": 4096, "step_s": step_s, "answer": ids}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(engine_kinds, "SubprocessWorker", scripted(script))
        async with demo_server(data_dir) as server:
            yield server


def answer_ids() -> tuple[int, ...]:
    """Token ids of an answer with all Markdown elements, padded with sentences to ``ANSWER_TOKENS``."""
    tokenizer = load_tokenizer(Path(demo.__file__).parent)
    sentence = tokenizer.encode(_SENTENCE)
    ids = list(tokenizer.encode(_OPENING))
    while len(ids) + len(sentence) <= ANSWER_TOKENS:
        ids += sentence
    return (*ids, *[sentence[-1]] * (ANSWER_TOKENS - len(ids)))
