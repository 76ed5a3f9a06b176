"""Replicate's official Python client against the server with the demo model."""

import asyncio
import hashlib
import io
import os
import time
from pathlib import Path

import pytest
from replicate.client import Client
from replicate.exceptions import ModelError, ReplicateError
from replicate.pagination import async_paginate
from replicate.prediction import Prediction

from tests.doors.live_server import SECRET
from tests.doors.replicate.replicate_client import CHAT, RFC3339, close_client, run_in_thread
from tests.server.conftest import RealServer

pytestmark = pytest.mark.anyio

ALIAS = "13c3cdee13ee059ab779f0291d29054dab00a47dad8261375654de5540165fb0"
"""The public version id of the 7B model."""
INPUT = {"prompt": "What are you?", "seed": 7, "max_tokens": 40}
LONG = {"prompt": "Count.", "min_tokens": 700, "max_tokens": 700, "seed": 3}
LONGER = {**LONG, "min_tokens": 3000, "max_tokens": 3000}
SHORTER = {**LONG, "min_tokens": 200, "max_tokens": 200}
VERSION_2 = Path(__file__).parents[3] / ".venv-clients-replicate2" / "bin" / "python"


async def test_base_url_comes_from_the_environment(server: RealServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPLICATE_BASE_URL", server.url)
    monkeypatch.setenv("REPLICATE_API_TOKEN", SECRET)
    client = Client()
    assert (await run_in_thread(client.models.get, CHAT)).name == "llama-2-7b-chat"
    await close_client(client)


@pytest.mark.skipif(not VERSION_2.exists() and os.environ.get("CI") != "true", reason="`make client-deps` has not run")
@pytest.mark.parametrize("suffix", ["/v1", ""])
async def test_version_2_client_works_with_and_without_v1(server: RealServer, suffix: str) -> None:
    script = Path(__file__).with_name("version_2.py")
    process = await asyncio.create_subprocess_exec(
        *(VERSION_2, script, CHAT),
        env={
            "PATH": os.defpath,
            "REPLICATE_BASE_URL": server.url + suffix,
            "REPLICATE_API_TOKEN": SECRET,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    assert output.decode().splitlines()[-1] == "every call answered"


async def test_python_client_reports_a_wrong_key(server: RealServer) -> None:
    client = Client(api_token="wrong", base_url=server.url)
    with pytest.raises(ReplicateError) as caught:
        await run_in_thread(client.run, CHAT, input=INPUT)
    assert (caught.value.status, caught.value.title) == (401, "Unauthenticated")
    await close_client(client)
    async with server.http(key=None) as http:
        for scheme, status in (("Bearer", 200), ("bearer", 200), ("Token", 200), ("TOKEN", 200), ("Basic", 401)):
            answer = await http.get("/v1/account", headers={"authorization": f"{scheme} {SECRET}"})
            assert answer.status_code == status, scheme
        missing = await http.post("/v1/predictions", json={})
    assert missing.status_code == 401
    assert missing.headers["content-type"] == "application/problem+json"
    assert missing.json() == {
        "title": "Unauthenticated",
        "detail": "You did not pass a valid authentication token",
        "status": 401,
    }


async def test_run_of_a_model_returns_the_output_as_a_list(client: Client) -> None:
    output = await run_in_thread(client.run, CHAT, input=INPUT)
    assert isinstance(output, list)
    assert output
    assert all(isinstance(chunk, str) for chunk in output)
    (latest,) = (await run_in_thread(client.predictions.list)).results[:1]
    assert "".join(output) == "".join(latest.output)
    assert not output[0].startswith(" ")


@pytest.mark.parametrize("version", [ALIAS, None])
async def test_run_of_a_version_returns_an_iterator_of_the_same_text(client: Client, version: str | None) -> None:
    if version is None:
        version = (await run_in_thread(client.models.get, CHAT)).latest_version.id
    whole = await run_in_thread(client.run, CHAT, input=INPUT)
    iterator = await run_in_thread(client.run, f"{CHAT}:{version}", input=INPUT)
    assert not isinstance(iterator, list)
    assert list(iterator) == whole


async def test_async_calls_return_the_same_and_run_concurrently(client: Client) -> None:
    whole = await run_in_thread(client.run, CHAT, input=INPUT)
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(client.async_run(CHAT, input=INPUT)) for _ in range(8)]
    assert all(task.result() == whole for task in running)
    streamed = [str(event) async for event in await client.async_stream(CHAT, input=INPUT)]
    assert "".join(streamed) == "".join(whole)


async def test_run_with_a_short_wait_returns_the_whole_text(client: Client) -> None:
    version = (await run_in_thread(client.models.get, CHAT)).latest_version.id
    async with asyncio.TaskGroup() as tasks:  # concurrently, so that both take longer than their wait
        unversioned = tasks.create_task(run_in_thread(client.run, CHAT, input=LONGER, wait=1))
        of_version = f"{CHAT}:{version}"
        versioned = tasks.create_task(run_in_thread(lambda: list(client.run(of_version, input=LONGER, wait=1))))
    (latest,) = (await run_in_thread(client.predictions.list)).results[:1]
    assert latest.metrics is not None
    assert latest.metrics["predict_time"] > 1
    assert latest.metrics["output_token_count"] == 3000
    assert unversioned.result() == versioned.result() == latest.output


async def test_the_polling_iterator_gives_every_chunk_once_and_in_order(client: Client) -> None:
    version = (await run_in_thread(client.models.get, CHAT)).latest_version.id
    whole = await run_in_thread(client.run, CHAT, input=SHORTER)
    polled = await run_in_thread(lambda: list(client.run(f"{CHAT}:{version}", input=SHORTER, wait=False)))
    assert polled == whole


async def test_stream_has_only_known_events_and_the_stored_output(client: Client) -> None:
    prediction = await run_in_thread(client.predictions.create, model=CHAT, input=INPUT, stream=True)
    events = await run_in_thread(lambda: list(prediction.stream()))
    await run_in_thread(prediction.reload)
    assert "".join(map(str, events)) == "".join(prediction.output)
    assert [event.event.value for event in events] == ["output"] * (len(events) - 1) + ["done"]
    assert events[-1].data == "{}"
    streamed = await run_in_thread(lambda: [str(event) for event in client.stream(CHAT, input=INPUT)])
    assert "".join(streamed) == "".join(prediction.output)


async def test_cancel_keeps_the_partial_output(client: Client) -> None:
    prediction = await run_in_thread(
        client.predictions.create, model=CHAT, input={**LONG, "min_tokens": 3500, "max_tokens": 3500}
    )
    while not prediction.output:
        await run_in_thread(prediction.reload)
    await run_in_thread(prediction.cancel)
    assert prediction.status == "canceled"
    kept = prediction.output
    assert kept
    await run_in_thread(prediction.reload)
    assert (prediction.status, prediction.output) == ("canceled", kept)
    done = await run_in_thread(lambda: list(prediction.stream())[-1])
    assert done.data == '{"reason":"canceled"}'
    with pytest.raises(ReplicateError) as caught:
        await run_in_thread(client.predictions.cancel, "0" * 26)
    assert caught.value.status == 404


async def test_a_run_that_fails_raises_with_its_prediction(client: Client) -> None:
    too_long = {"prompt": "word " * 5000}
    with pytest.raises(ModelError) as caught:
        await run_in_thread(client.run, CHAT, input=too_long)
    failed = caught.value.prediction
    assert (failed.status, failed.output) == ("failed", None)
    assert failed.error.startswith("E1002 PromptTooLong: Prompt length (")
    assert failed.error.endswith("exceeds maximum input length (4095)")
    prediction = await run_in_thread(client.predictions.create, model=CHAT, input=too_long)
    with pytest.raises(RuntimeError, match=r'\{"detail":"E1002 '):
        await run_in_thread(lambda: list(prediction.stream()))


async def test_same_seed_or_zero_temperature_gives_the_same_text(client: Client) -> None:
    async def run(**changes: object) -> Prediction:
        created = await run_in_thread(client.models.predictions.create, CHAT, input={**INPUT, **changes}, wait=True)
        assert created.status == "succeeded"
        return created

    warm = {"temperature": 1.5, "top_p": 1, "max_tokens": 60}
    first, again, other = await run(**warm, seed=11), await run(**warm, seed=11), await run(**warm, seed=12)
    assert first.output == again.output != other.output
    greedy = [await run(temperature=0, seed=seed) for seed in (1, 2)]
    assert greedy[0].output == greedy[1].output == (await run(top_p=0)).output
    assert "Random seed used: `11`\n" in str(first.logs)
    drawn = [await run(seed=seed) for seed in (0, None)]
    assert all("Random seed used: `0`" not in str(one.logs) for one in drawn)


async def test_lists_are_newest_first_and_paginate_without_duplicates(client: Client) -> None:
    created = [await run_in_thread(client.predictions.create, model=CHAT, input=INPUT) for _ in range(3)]
    pages = [page async for page in async_paginate(client.predictions.async_list)]
    ids = [prediction.id for page in pages for prediction in page.results]
    assert ids[:3] == [prediction.id for prediction in reversed(created)]
    assert len(set(ids)) == len(ids)
    assert pages[-1].next is None


async def test_models_versions_collections_hardware_and_account_validate(client: Client) -> None:
    for size in ("7b", "13b", "70b"):
        model = await run_in_thread(client.models.get, f"meta/llama-2-{size}-chat")
        assert model.run_count >= 0
        assert model.default_example.status == "succeeded"
        schemas = model.latest_version.openapi_schema["components"]["schemas"]
        orders = sorted(field["x-order"] for field in schemas["Input"]["properties"].values())
        assert orders == list(range(15))
        assert schemas["Input"]["required"] == ["prompt"]
        assert schemas["Output"] == {
            "type": "array",
            "items": {"type": "string"},
            "title": "Output",
            "x-cog-array-type": "iterator",
            "x-cog-array-display": "concatenate",
        }
        versions = await run_in_thread(model.versions.list)
        assert len(versions.results) == 2
        for version in versions.results:
            assert (await run_in_thread(model.versions.get, version.id)).id == version.id
    assert CHAT in [model.id for model in (await run_in_thread(client.models.search, "llama")).results]
    assert CHAT in [model.id for model in (await run_in_thread(client.models.list)).results]
    (languages, *_) = (await run_in_thread(client.collections.list)).results
    assert (await run_in_thread(client.collections.get, languages.slug)).models
    assert (await run_in_thread(client.hardware.list))[0].sku == "cpu"
    assert (await run_in_thread(client.accounts.current)).name == "local"
    deployment = await run_in_thread(client.deployments.get, CHAT)
    assert deployment.current_release.model == CHAT
    assert CHAT in [each.id for each in (await run_in_thread(client.deployments.list)).results]
    deployed = await run_in_thread(deployment.predictions.create, input=INPUT)
    await run_in_thread(deployed.wait)
    assert deployed.status == "succeeded"


async def test_events_are_streamed_as_they_are_generated(client: Client) -> None:
    begun = time.monotonic()
    stream = await client.async_stream(CHAT, input=LONG)
    arrivals = [time.monotonic() - begun async for _ in stream]
    assert arrivals[0] < arrivals[-1] / 2


async def test_python_client_creates_reads_lists_and_deletes_files(server: RealServer, client: Client) -> None:
    content = b'{"llamas": 3}\r\n\x00\xff'
    stream = io.BytesIO(content)
    metadata = {"customer": 7, "tags": ["ä", None]}
    made = await run_in_thread(client.files.create, stream, filename="llamas.json", metadata=metadata)
    assert (made.name, made.content_type, made.size, made.metadata) == (
        *("llamas.json", "application/json"),
        *(len(content), metadata),
    )
    digest = hashlib.sha256(content).hexdigest()
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    assert (made.etag, made.checksums) == (digest, {"sha256": digest, "md5": md5})
    assert made.expires_at is not None
    assert RFC3339.fullmatch(made.created_at)
    assert RFC3339.fullmatch(made.expires_at)
    assert made.urls["get"] == f"{server.url}/v1/files/{made.id}"
    unnamed = await run_in_thread(client.files.create, io.BytesIO(b""))
    assert (unnamed.name, unnamed.content_type, unnamed.size) == ("file", "application/octet-stream", 0)
    assert await run_in_thread(client.files.get, made.id) == made
    assert await client.files.async_list() == [unnamed, made]
    async with server.http(key=None) as anonymous_client:
        assert (await anonymous_client.get(made.urls["download"])).content == content
        assert await run_in_thread(client.files.delete, made.id)
        assert (await anonymous_client.get(made.urls["download"])).status_code == 404
    with pytest.raises(ReplicateError) as caught:
        await run_in_thread(client.files.get, made.id)
    assert (caught.value.status, caught.value.title) == (404, "Not found")
    assert await client.files.async_delete(unnamed.id)
    assert await client.files.async_list() == []
