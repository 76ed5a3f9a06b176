"""Several models in one server, with real engines: the demo model and random ones of other sizes and vocabularies."""

import asyncio
import json
import os
import random
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog
from httpx2 import AsyncClient

from corral import bootstrap
from corral.checkpoints.tokenizers.byte_fallback import BYTE_PIECES, WORD_BORDER
from corral.core.errors import BadSetting
from corral.engines.stats import EnginePhase
from corral.settings import Settings, load_settings
from tests.doors.live_server import SECRET, serving
from tests.oracle.llama import TinyLlama
from tests.server.calls import DOORS, Call
from tests.server.harness import OpenServer
from tests.unit.text.conftest import document_of

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]
DEMO, MHA, GQA = "corral/demo", "local/mha", "local/gqa"


def checkpoint(directory: Path, more_pieces: Sequence[str] = (), *, kv_heads: int | None = None) -> Path:
    pieces = ["<unk>", "<s>", "</s>", *BYTE_PIECES, WORD_BORDER, *more_pieces]
    tiny = TinyLlama(vocab=len(pieces)) if kv_heads is None else TinyLlama(vocab=len(pieces), kv_heads=kv_heads)
    path = tiny.write(directory)
    (path / "tokenizer.json").write_text(json.dumps(document_of(pieces, [])))
    return path


@pytest.fixture
def three(tmp_path: Path) -> list[str]:
    """Weights of three models."""
    mha = checkpoint(tmp_path / "mha", kv_heads=4)
    gqa = checkpoint(tmp_path / "gqa", ["ab", "cd"], kv_heads=2)
    return [DEMO, str(mha), str(gqa)]


def settings_of(directory: Path, weights: Sequence[str], load: str = "start", memory: str = "8GiB") -> Settings:
    lines = [f'api_key = "{SECRET}"', f'data_dir = "{directory / "data"}"', f'memory_budget = "{memory}"']
    for one in weights:
        lines += ["[[deployments]]", f'weights = "{one}"', f'load = "{load}"', 'chat_format = "llama-2"']
    (directory / "corral.toml").write_text("\n".join(lines))
    return load_settings({}, {"CORRAL_CONFIG": str(directory / "corral.toml")})


@asynccontextmanager
async def served(settings: Settings) -> AsyncIterator[OpenServer]:
    made = bootstrap.build(settings, lambda _: None)
    async with made.run():
        assert await made.deployments.started() is None
        async with serving(made.app) as live:
            yield OpenServer(port=live.port, made=made)


async def say(server: OpenServer, model: str) -> str:
    messages = [{"role": "user", "content": "Tell me a story."}]
    async with server.openai(timeout=120, max_retries=0) as client:
        answer = await client.chat.completions.create(model=model, messages=messages, max_tokens=12, temperature=0)
    return answer.choices[0].message.content or ""


async def test_models_side_by_side_answer_as_each_does_alone_and_a_killed_one_harms_no_other(
    tmp_path: Path, three: list[str]
) -> None:
    alone: dict[str, str] = {}
    for model, weights in zip((DEMO, MHA, GQA), three, strict=True):
        async with served(settings_of(tmp_path, [weights])) as server:
            alone[model] = await say(server, model)
    async with served(settings_of(tmp_path, three)) as server:
        models = [DEMO, MHA, GQA] * 4
        assert await asyncio.gather(*(say(server, model) for model in models)) == [alone[model] for model in models]
        (worker,) = server.made.deployments.status(MHA).workers
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        assert await asyncio.gather(*(say(server, model) for model in models)) == [alone[model] for model in models]
        assert [sum(one.deaths for one in status.workers) for status in server.made.deployments.statuses()] == [0, 1, 0]
        assert await server.made.account_services.usage.reconcile() == []


def workers_rss_bytes() -> list[int]:
    """Resident memory of each worker process of this process; pages that they share count for each."""
    sizes_bytes: list[int] = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
            command = (status.parent / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
        if int(fields["PPid"]) == os.getpid() and b"corral.engines.subprocess.child" in command and "VmRSS" in fields:
            sizes_bytes.append(int(fields["VmRSS"].split()[0]) * 1024)
    return sizes_bytes


async def sample_rss(samples: list[list[int]]) -> None:
    """Measure again and again, so that peaks of conversions are seen too."""
    while True:
        samples.append(await asyncio.to_thread(workers_rss_bytes))
        await asyncio.sleep(0.1)


async def ask(http: AsyncClient, call: Call) -> str:
    path, body = call.request
    answer = await http.post(path, json=body, headers={"prefer": "wait=60"}, timeout=60)
    assert answer.status_code in (200, 201), (call, answer.status_code, answer.text)
    return call.text(answer.json())


async def test_three_models_take_turns_in_memory_for_two(tmp_path: Path, three: list[str]) -> None:
    budget_bytes = 1100 * 2**20
    draw = random.Random(4)
    calls = [Call(model, door, "Tell me a story.") for model in (DEMO, MHA, GQA) for door in DOORS] * 7
    calls = draw.sample(calls, 60)
    samples: list[list[int]] = []
    with structlog.testing.capture_logs() as logs:
        async with served(settings_of(tmp_path, three, load="on-demand", memory=str(budget_bytes))) as server:
            made, waiting = server.made, iter(calls)
            answers: dict[Call, set[str]] = {}

            async def client(http: AsyncClient) -> None:
                for call in waiting:
                    answers.setdefault(call, set()).add(await ask(http, call))
                    samples.append(workers_rss_bytes())
                    phases = [status.state.phase for status in made.deployments.statuses()]
                    assert phases.count(EnginePhase.LOADING) <= 1

            async with server.http() as http, asyncio.TaskGroup() as tasks:
                sampling = tasks.create_task(sample_rss(samples))
                await asyncio.gather(*(client(http) for _ in range(20)))
                sampling.cancel()
            assert await made.account_services.usage.reconcile() == []
    assert [len(texts) for texts in answers.values()] == [1] * 9
    cycle = ["deployment_loading", "deployment_loaded", "deployment_unloaded"]
    turns: dict[str, int] = {}
    for name in (DEMO, MHA, GQA):
        events = [log["event"] for log in logs if log.get("deployment") == name and log["event"] in cycle]
        turns[name] = events.count("deployment_loaded")
        assert events == (cycle * turns[name])[: len(events)]  # two are still loaded when the server stops
    assert sum(turns.values()) > 3  # one at least was unloaded and loaded again
    peak_bytes = max(map(sum, samples))
    print(
        f"\n{len(calls)} answers, {sum(turns.values())} loads; peak RSS of the workers {peak_bytes / 2**20:.0f} MiB of "
        f"{budget_bytes / 2**20:.0f} MiB in {len(samples)} samples"
    )
    assert 0 < peak_bytes <= budget_bytes
    assert max(map(len, samples)) == 2  # a worker is gone before another is started in its place


def test_more_models_than_memory_are_refused_with_both_numbers(tmp_path: Path, three: list[str]) -> None:
    with pytest.raises(BadSetting, match=r"^The deployment 'local/mha' needs \d+ MiB of memory to load, and \d+ MiB"):
        bootstrap.build(settings_of(tmp_path, three, memory="600MiB"), lambda _: None)


def test_weights_that_are_nowhere_are_refused_by_deployment(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=r"^weights of deployment 1: /nowhere is neither a directory"):
        bootstrap.build(settings_of(tmp_path, ["/nowhere"]), lambda _: None)
