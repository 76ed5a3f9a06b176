"""An engine on one worker keeps answers whole while processes die. Real processes, scripted tokens."""

import asyncio
import os
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from corral.core.errors import (
    CheckpointRefused,
    EngineFailed,
    EngineUnavailable,
    InvalidRequest,
    Overloaded,
    PromptTooLong,
)
from corral.core.generation import Sampling
from corral.engines.base import EndReason
from corral.engines.policy import QueuePolicy
from corral.engines.queued import QueuedEngine
from tests.engines import DEADLINE_S, generate, request, scripted_engine, until_idle, worker_pid

pytestmark = pytest.mark.anyio

BAD_ID = 66


def pid_of(engine: QueuedEngine) -> int:
    pid = worker_pid(engine)
    assert pid is not None
    return pid


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0),
        Sampling(temperature=0.8),
        Sampling(temperature=0, presence_penalty=1.0),
    ],
    ids=["greedy", "seeded", "penalised"],
)
async def test_killing_the_worker_mid_run_changes_nothing_but_the_time(sampling: Sampling) -> None:
    engine = scripted_engine(step_s=0.005)
    asked = request(sampling=sampling, seed=7, max_new_tokens=100)
    async with engine.run():
        await engine.ready()
        undisturbed, _ = await generate(engine, asked)
        ids: list[int] = []
        killed, end = False, None
        async with engine.open(asked) as batches:
            async for batch in batches:
                ids, end = [*ids, *batch.ids], batch.end
                if len(ids) > 30 and not killed:
                    killed = True
                    os.kill(pid_of(engine), signal.SIGKILL)
        assert ids == undisturbed
        assert end is EndReason.LENGTH
        assert engine.stats().restarts == 1


async def test_a_death_is_noticed_at_once() -> None:
    engine = scripted_engine()
    async with engine.run():
        await engine.ready()
        os.kill(pid_of(engine), signal.SIGKILL)
        async with asyncio.timeout(60):
            while engine.stats().restarts == 0:
                await asyncio.sleep(0.005)


async def test_eight_runs_survive_the_death_of_their_worker() -> None:
    engine = scripted_engine(step_s=0.005)
    asked = [request(5, n, max_new_tokens=60) for n in range(10, 18)]
    async with engine.run():
        await engine.ready()
        alone = [await generate(engine, one) for one in asked]
        runs = asyncio.gather(*(generate(engine, one) for one in asked))
        while engine.stats().emitted_tokens < 60 * 8 + 100:
            await asyncio.sleep(0.002)
        os.kill(pid_of(engine), signal.SIGKILL)
        assert await runs == alone
        await until_idle(engine)


@pytest.mark.parametrize("fault", ["raise_id", "hang_id", "exit_id"])
async def test_request_that_kills_workers_fails_alone(fault: str) -> None:
    engine = scripted_engine(step_timeout_s=0.5, step_s=0.002, **{fault: BAD_ID})
    good = request(5, 6, max_new_tokens=40)
    async with engine.run():
        await engine.ready()
        expected = await generate(engine, good)
        bad, *others = await asyncio.gather(
            generate(engine, request(5, BAD_ID)),
            *(generate(engine, good) for _ in range(3)),
            return_exceptions=True,
        )
        assert isinstance(bad, EngineFailed)
        assert others == [expected] * 3
        assert await generate(engine, good) == expected


async def test_neighbours_of_a_request_that_kills_workers_are_alone_for_one_token_each() -> None:
    engine = scripted_engine(step_s=0.005, exit_id=BAD_ID)
    async with engine.run():
        await engine.ready()
        good = [request(5, n, max_new_tokens=1000) for n in range(4)]
        others = [asyncio.ensure_future(generate(engine, one)) for one in good]
        while engine.stats().running < 4:
            await asyncio.sleep(0.002)
        with pytest.raises(EngineFailed):
            await generate(engine, request(5, BAD_ID))
        async with asyncio.timeout(DEADLINE_S):
            while engine.stats().recovering or engine.stats().running < 4:
                await asyncio.sleep(0.002)
        assert not any(other.done() for other in others)
        assert [len(ids) for ids, _ in await asyncio.gather(*others)] == [1000] * 4


async def test_recovery_is_reported_to_queued_requests_and_bounded() -> None:
    engine = scripted_engine(QueuePolicy(max_recovery_s=1.0), max_sequences=1, step_s=0.01)
    replayed = request(sampling=Sampling(temperature=1.0), max_new_tokens=3000)
    async with engine.run():
        await engine.ready()
        running = asyncio.ensure_future(generate(engine, replayed))
        while engine.stats().emitted_tokens < 400:
            await asyncio.sleep(0.01)
        async with engine.open(request()) as waiting:
            for _ in range(2):
                replayed_tokens = engine.stats().replayed_tokens
                os.kill(pid_of(engine), signal.SIGKILL)
                while engine.stats().replayed_tokens == replayed_tokens:
                    await asyncio.sleep(0.005)
            assert engine.stats().recovering
            with pytest.raises(Overloaded, match="recovers") as refused:
                await generate(engine, request())
            assert refused.value.retry_after_s == 1
            for recovering in (True, False):
                while waiting.recovering is not recovering:
                    await waiting.moved()
            assert not engine.stats().recovering
            assert not running.done()
        running.cancel()


async def test_signals_for_the_gateway_do_not_end_its_worker() -> None:
    engine = scripted_engine(step_s=0.005)
    async with engine.run():
        await engine.ready()
        pid = pid_of(engine)
        assert os.getpgid(pid) != os.getpgid(0)
        running = asyncio.ensure_future(generate(engine, request(max_new_tokens=50)))
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(pid, number)
        await running
        assert (pid_of(engine), engine.stats().restarts) == (pid, 0)


async def test_a_refused_request_leaves_the_others_and_the_worker() -> None:
    engine = scripted_engine(step_s=0.002, refused_id=BAD_ID)
    async with engine.run():
        await engine.ready()
        refused, other = await asyncio.gather(
            generate(engine, request(BAD_ID)), generate(engine, request()), return_exceptions=True
        )
        assert isinstance(refused, InvalidRequest)
        assert not isinstance(other, BaseException)
        assert engine.stats().restarts == 0
        await until_idle(engine)


async def test_a_checkpoint_that_is_refused_is_reported_and_not_tried_again() -> None:
    engine = scripted_engine(refuse_load=True)
    async with engine.run():
        with pytest.raises(CheckpointRefused, match="refused by the script"):
            await engine.ready()
        with pytest.raises(EngineUnavailable, match="could not be loaded"):
            await generate(engine, request())
        assert str(engine.stats().state) == "failed: refused by the script"
        assert engine.stats().restarts == 0


async def test_a_worker_that_never_gets_ready_is_reported() -> None:
    engine = scripted_engine(QueuePolicy(max_failed_starts=1), load_timeout_s=0.2, load_s=60)
    async with engine.run():
        with pytest.raises(EngineUnavailable, match="could not be started"):
            await engine.ready()


async def test_closing_ends_running_requests_and_the_worker() -> None:
    engine = scripted_engine(step_s=0.01)
    async with engine.run():
        await engine.ready()
        pid = pid_of(engine)
        running = asyncio.ensure_future(generate(engine, request(max_new_tokens=4000)))
        while engine.stats().emitted_tokens == 0:
            await asyncio.sleep(0.005)
    with pytest.raises(EngineUnavailable, match="shut down"):
        await running
    assert not Path(f"/proc/{pid}").exists()


async def test_what_runs_always_fits_the_kv_cache() -> None:
    # The scripted engine raises when more is in its batch than its cache holds.
    engine = scripted_engine(kv_blocks=8, kv_block_tokens=32)
    async with engine.run():
        await engine.ready()
        sizes = [(n % 200) + 1 for n in range(0, 2000, 37)]
        answers = await asyncio.gather(*(generate(engine, request(9, max_new_tokens=size)) for size in sizes))
        assert [len(ids) for ids, _ in answers] == sizes
        assert engine.stats().restarts == 0
        await until_idle(engine)


async def test_a_prompt_that_can_never_fit_is_refused_with_both_counts() -> None:
    engine = scripted_engine(kv_blocks=2, kv_block_tokens=32)
    async with engine.run():
        await engine.ready()
        with pytest.raises(PromptTooLong, match=r"64 tokens.*64"):
            await generate(engine, request(*([5] * 64), max_new_tokens=1))


async def test_flow_queue_limit_leaves_room_for_other_flows() -> None:
    engine = scripted_engine(QueuePolicy(max_waiting=4), max_sequences=1, step_s=0.01)
    async with engine.run():
        await engine.ready()
        asked = [request(flow=flow) for flow in "aaaaabb"]
        answers = await asyncio.gather(*(generate(engine, one) for one in asked), return_exceptions=True)
        refused = [one.flow for one, answer in zip(asked, answers, strict=True) if isinstance(answer, Overloaded)]
        assert refused == ["a", "a", "b"]
        assert engine.stats().emitted_tokens == 4 * 16


async def test_a_request_that_could_not_start_soon_is_refused_with_the_time_to_wait() -> None:
    engine = scripted_engine(QueuePolicy(max_queue_wait_s=2), max_sequences=1, step_s=0.01)
    async with engine.run():
        await engine.ready()
        await generate(engine, request(max_new_tokens=120))  # a second and more of work shows the worker's speed
        async with (
            engine.open(request(max_new_tokens=120)),
            engine.open(request(max_new_tokens=800, flow="other")) as other,
        ):
            assert other.position == 1
            with pytest.raises(Overloaded) as refused:
                await generate(engine, request())
        assert 3 <= refused.value.retry_after_s <= 20
        await until_idle(engine)
        await generate(engine, request())


async def test_one_flow_with_500_waiting_requests_does_not_starve_another() -> None:
    engine = scripted_engine(QueuePolicy(max_waiting=2000), max_sequences=4)
    async with engine.run():
        await engine.ready()
        heavy = [asyncio.ensure_future(generate(engine, request(5, n % 500, flow="heavy"))) for n in range(504)]
        while engine.stats().waiting < 500:
            await asyncio.sleep(0)
        await generate(engine, request(flow="light"))
        assert sum(task.done() for task in heavy) < 40
        assert len(await asyncio.gather(*heavy)) == 504


async def test_queued_request_receives_its_position() -> None:
    engine = scripted_engine(max_sequences=1, step_s=0.01)
    async with engine.run(), AsyncExitStack() as stack:
        await engine.ready()
        first, _, last = [
            await stack.enter_async_context(engine.open(request(max_new_tokens=40, ignore_eos=True))) for _ in range(3)
        ]
        assert (first.position, last.position) == (0, 2)
        places: list[int] = []
        while last.position:
            await last.moved()
            places.append(last.position)
        assert places == [1, 0]
        assert engine.stats().waiting == 0


async def test_queued_request_fails_when_the_engine_stops() -> None:
    engine = scripted_engine(max_sequences=1, step_s=0.01)
    async with AsyncExitStack() as stack:
        async with engine.run():
            await engine.ready()
            runs = [await stack.enter_async_context(engine.open(request(max_new_tokens=400))) for _ in range(2)]
            engine.close_admission()
        await runs[1].moved()
        assert runs[1].position == 0
        with pytest.raises(EngineUnavailable):
            await anext(runs[1])


async def test_an_idle_worker_uses_no_cpu() -> None:
    engine = scripted_engine()
    async with engine.run():
        await engine.ready()
        await generate(engine, request())
        await until_idle(engine)

        def jiffies() -> int:
            fields = Path(f"/proc/{pid_of(engine)}/stat").read_text().rpartition(")")[2].split()
            return int(fields[11]) + int(fields[12])

        before = jiffies()
        await asyncio.sleep(1)
        assert jiffies() - before <= 1


async def test_the_worker_dies_with_a_gateway_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "gateway.py"
    script.write_text(
        "import asyncio, sys\n"
        "from tests.engines import scripted_engine\n"
        "async def main():\n"
        "    engine = scripted_engine()\n"
        "    async with engine.run():\n"
        "        await engine.ready()\n"
        "        sys.stdout.write(f'{engine.stats().workers[0].pid}\\n'); sys.stdout.flush()\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(script),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert process.stdout is not None
    worker = Path("/proc") / (await process.stdout.readline()).decode().strip()
    assert worker.exists()
    process.kill()
    await process.wait()
    async with asyncio.timeout(60):
        while worker.exists() and "\nState:\tZ" not in (worker / "status").read_text():
            await asyncio.sleep(0.01)
