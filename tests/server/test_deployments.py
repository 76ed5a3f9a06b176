"""Several models in one server, with real engines: the demo model and random ones of other sizes and vocabularies."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from corral import bootstrap
from corral.core.errors import BadSetting
from corral.settings import Settings, load_settings
from corral.text.tokenizer import BYTE_PIECES, WORD_BORDER
from tests.doors.live_server import SECRET, serving
from tests.oracle.llama import TinyLlama
from tests.server.premises import OpenServer
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
        lines += ["[[deployments]]", f'weights = "{one}"', f'load = "{load}"']
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
        assert await server.made.accounts.reconcile() == []


async def test_three_models_take_turns_in_memory_for_two(tmp_path: Path, three: list[str]) -> None:
    async with served(settings_of(tmp_path, three, load="on-demand", memory="1100MiB")) as server:
        first = {model: await say(server, model) for model in (DEMO, MHA, GQA)}
        states = {status.name: str(status.state.phase) for status in server.made.deployments.statuses()}
        assert states == {DEMO: "unloaded", MHA: "ready", GQA: "ready"}
        models = [GQA, DEMO, MHA, DEMO, GQA, MHA]
        assert await asyncio.gather(*(say(server, model) for model in models)) == [first[model] for model in models]
        assert await server.made.accounts.reconcile() == []


def test_more_models_than_memory_are_refused_with_both_numbers(tmp_path: Path, three: list[str]) -> None:
    with pytest.raises(BadSetting, match=r"^The deployment 'local/mha' needs \d+ MiB of memory to load, and \d+ MiB"):
        bootstrap.build(settings_of(tmp_path, three, memory="600MiB"), lambda _: None)


def test_weights_that_are_nowhere_are_refused_by_deployment(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=r"^weights of deployment 1: /nowhere is neither a directory"):
        bootstrap.build(settings_of(tmp_path, ["/nowhere"]), lambda _: None)
