"""The servers that browsers visit: with the demo model, and with one whose answer and pace are known."""

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
from corral.settings import load_settings
from corral.text.load import load_tokenizer
from tests.doors.live_server import SECRET, serving
from tests.e2e.pages.line import Line, line_to
from tests.server.gateway import scripted

MODEL = "meta/llama-2-70b-chat"
STEP_S = 0.003
"""Between two tokens of the scripted model: slow enough to act in mid-answer, fast enough to wait for a thousand."""
CRAWL_S = 0.03
"""The same for a run that no test waits for: it still goes on when a busy machine has loaded a page anew."""
_PATIENCE_S = 20

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
class VisitedServer:
    """A running server behind a line."""

    line: Line
    made: Server

    @property
    def url(self) -> str:
        """Where browsers find it."""
        return self.line.url

    async def link(self) -> str:
        """One that signs in once, as ``corral serve`` prints it."""
        return f"{self.url}/sign-in#{self.made.links.make(await self.made.accounts.key_id_of(SECRET))}"

    async def newest(self) -> Prediction:
        """The prediction that was made last."""
        caller = await self.made.accounts.authenticate(SECRET)
        assert caller is not None
        return (await self.made.predictions.page(caller, PageRequest(limit=1)))[0]

    async def run(self, command: list[str], variables: dict[str, str]) -> "subprocess.CompletedProcess[bytes]":
        """Run a program beside this server, which goes on answering meanwhile."""
        environment = {**os.environ, **variables}
        process = await asyncio.create_subprocess_exec(
            *command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        stdout, stderr = await asyncio.wait_for(process.communicate(), _PATIENCE_S)
        return subprocess.CompletedProcess(command, process.returncode or 0, stdout, stderr)

    async def ended(self) -> Prediction:
        """The prediction that was made last, once it is over."""
        async with asyncio.timeout(_PATIENCE_S):
            while not (found := await self.newest()).status.terminal:
                await asyncio.sleep(0.02)
        return found


@asynccontextmanager
async def visited_server(data_dir: Path) -> AsyncGenerator[VisitedServer]:
    """The server as ``corral serve`` puts it together, in this process."""
    made = build(load_settings({"data_dir": data_dir, "api_key": SECRET}, {}), lambda _: None)
    async with made.run():
        await made.engine.ready()
        async with serving(made.app) as live, line_to(live.port) as line:
            yield VisitedServer(line=line, made=made)


@asynccontextmanager
async def scripted_server(data_dir: Path, *, step_s: float = STEP_S) -> AsyncGenerator[VisitedServer]:
    """The same with an engine that always says ``answer_ids()``, a token each *step_s*."""
    ids = answer_ids()
    tokenizer = load_tokenizer(Path(demo.__file__).parent)
    script = {"vocab_size": tokenizer.vocab_size, "kv_blocks": 4096, "step_s": step_s, "answer": ids}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(engine_kinds, "SubprocessWorker", scripted(script))
        async with visited_server(data_dir) as server:
            yield server


def answer_ids() -> tuple[int, ...]:
    """Tokens of everything that an answer may hold, then sentences up to ``ANSWER_TOKENS``."""
    tokenizer = load_tokenizer(Path(demo.__file__).parent)
    sentence = tokenizer.encode(_SENTENCE)
    ids = list(tokenizer.encode(_OPENING))
    while len(ids) + len(sentence) <= ANSWER_TOKENS:
        ids += sentence
    return (*ids, *[sentence[-1]] * (ANSWER_TOKENS - len(ids)))
