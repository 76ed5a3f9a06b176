"""Three deployments in one server: clients of all doors ask each model while workers are killed.

No request to another model fails, every greedy answer is the one that the model gives undisturbed, and the books
balance. The test prints how much longer answers took. ``DEPLOYMENTS_KILLED_S`` sets how long workers are killed.
"""

import asyncio
import json
import os
import random
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from statistics import median

import pytest
from httpx2 import AsyncClient

from corral.bootstrap import Server, build
from corral.checkpoints.tokenizers.byte_fallback import BYTE_PIECES, WORD_BORDER
from corral.deployments.deployment import Deployment
from corral.engines.stats import EnginePhase
from corral.settings import load_settings
from tests.doors.live_server import SECRET, serving
from tests.engines import DEADLINE_S
from tests.oracle.llama import GQA, MHA, TinyLlama
from tests.server.calls import DOORS, Call
from tests.unit.text.conftest import document_of

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

LASTS_S = float(os.environ.get("DEPLOYMENTS_KILLED_S", "10" if os.environ.get("CI") == "true" else "4"))
KILL_EVERY_S = 5 if LASTS_S > 20 else 1.5
CLIENTS = 30
PROMPTS = ("What does a llama eat?", "Hello!", "Once upon a time", "1 2 3 4", "Why?")


@dataclass(slots=True)
class Measured:
    """When answers began and ended, and when workers were killed; seconds of a monotonic clock."""

    answers: list[tuple[str, float, float]] = field(default_factory=list[tuple[str, float, float]])
    """Model, begin and end of each."""
    kills: list[tuple[str, float]] = field(default_factory=list[tuple[str, float]])
    """Deployment and time of each."""
    refused: int = 0
    """Requests to a model that was killed, refused while it recovered."""

    def report(self) -> str:
        """Number, median and longest time of answers whose model was left alone, and of those whose was killed."""
        groups: dict[bool, list[float]] = {}
        for model, began_s, ended_s in self.answers:
            own = any(model.endswith(f"/{name}") and began_s - 2 < at_s < ended_s for name, at_s in self.kills)
            groups.setdefault(own, []).append(1000 * (ended_s - began_s))
        names = {False: "model left alone", True: "model killed"}
        return "; ".join(
            f"{names[own]}: {len(each)} answers, median {median(each):.0f} ms, longest {max(each):.0f} ms"
            for own, each in sorted(groups.items())
        )


def checkpoint(directory: Path, kind: TinyLlama, more_pieces: int) -> Path:
    """Write a random checkpoint with a vocabulary of its own size."""
    pieces = ["<unk>", "<s>", "</s>", *BYTE_PIECES, WORD_BORDER, *(f"w{number}" for number in range(more_pieces))]
    sizes = {"vocab": len(pieces), "hidden": kind.hidden, "kv_heads": kind.kv_heads, "seed": kind.seed}
    path = TinyLlama(**sizes).write(directory)
    (path / "tokenizer.json").write_text(json.dumps(document_of(pieces, [])))
    return path


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Server]:
    """The demo model, one with as many heads for keys as for queries, and one with fewer."""
    config = tmp_path / "corral.toml"
    mha = checkpoint(tmp_path / "mha", MHA, 40)
    gqa = checkpoint(tmp_path / "gqa", GQA, 200)
    config.write_text(
        f"""
[[deployments]]
name = "demo"
weights = "corral/demo"

[[deployments]]
name = "mha"
weights = "{mha}"
chat_format = "llama-2"

[[deployments]]
name = "gqa"
weights = "{gqa}"
chat_format = "llama-2"
"""
    )
    chosen = {"data_dir": str(tmp_path / "data"), "api_key": SECRET}
    server = build(load_settings(chosen, {"CORRAL_CONFIG": str(config)}), lambda _: None)
    async with server.run():
        for deployment in server.deployments:
            await deployment.engine.ready()
        yield server


async def ask(http: AsyncClient, call: Call, measured: Measured) -> str:
    """The answer's text. A request is sent again only where its model's crashed sequences are computed alone."""
    path, body = call.request
    began_s = time.monotonic()
    while True:
        answer = await http.post(path, json=body, headers={"prefer": "wait=60"}, timeout=60)
        if not (answer.status_code == 429 and "recovers from crashes" in answer.text):
            break
        assert any(call.model.endswith(f"/{name}") for name, _ in measured.kills), answer.text
        measured.refused += 1
        await asyncio.sleep(0.1)
    measured.answers.append((call.model, began_s, time.monotonic()))
    assert answer.status_code in (200, 201), (call, answer.status_code, answer.text)
    return call.text(answer.json())


async def one_after_another(
    http: AsyncClient, calls: list[Call], measured: Measured, expected: dict[Call, str], stopping: asyncio.Event
) -> None:
    """Ask until *stopping* is set; each answer must be the expected one."""
    for call in cycle(calls):
        if stopping.is_set():
            return
        assert await ask(http, call, measured) == expected[call]


async def ready_pid(deployment: Deployment) -> int:
    """Process id of the worker once it is ready: a kill while it loads would count as a failed start."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            (worker,) = deployment.engine.stats().workers
            if worker.state.phase is EnginePhase.READY and worker.pid is not None:
                return worker.pid
            await asyncio.sleep(0.01)


async def kill_workers(deployments: list[Deployment], draw: random.Random, measured: Measured) -> None:
    """Kill a worker every KILL_EVERY_S, each deployment's in turn from a drawn one on."""
    turn = draw.randrange(len(deployments))
    while True:
        await asyncio.sleep(KILL_EVERY_S)
        deployment = deployments[turn % len(deployments)]
        os.kill(await ready_pid(deployment), signal.SIGKILL)
        measured.kills.append((deployment.name, time.monotonic()))
        turn += 1


async def hammer(
    http: AsyncClient, calls: list[Call], measured: Measured, expected: dict[Call, str], lasts_s: float, seed: int
) -> None:
    """Let CLIENTS clients ask for *lasts_s*, each in an order of its own."""
    stopping, draw = asyncio.Event(), random.Random(seed)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(CLIENTS):
            own = draw.sample(calls, len(calls))
            tasks.create_task(one_after_another(http, own, measured, expected, stopping))
        await asyncio.sleep(lasts_s)
        stopping.set()


async def test_killed_workers_of_one_model_fail_no_request_of_any(made: Server) -> None:
    own = [model.id for model in made.catalog.models() if not model.stands_in]
    calls = [Call(model, door, text) for model in own for door in DOORS for text in PROMPTS]
    undisturbed, disturbed = Measured(), Measured()
    async with serving(made.app) as live, live.http() as http:
        expected = {call: await ask(http, call, Measured()) for call in calls}
        assert len({expected[Call(model, "openai", PROMPTS[0])] for model in own}) == len(own) == 3
        await hammer(http, calls, undisturbed, expected, min(LASTS_S, 15), seed=1)
        async with asyncio.TaskGroup() as tasks:
            killing = tasks.create_task(kill_workers(list(made.deployments), random.Random(2), disturbed))
            await hammer(http, calls, disturbed, expected, LASTS_S, seed=3)
            killing.cancel()
        async with asyncio.timeout(DEADLINE_S):
            while await made.account_services.usage.reconcile():
                await asyncio.sleep(0.05)
    assert len(disturbed.kills) >= 2
    print(f"\nundisturbed: {undisturbed.report()}")
    print(f"{len(disturbed.kills)} kills: {disturbed.report()}; {disturbed.refused} refused")
