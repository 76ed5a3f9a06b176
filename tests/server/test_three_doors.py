"""One model behind three APIs: the same prompt, seed and parameters give the same token ids through each."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from httpx2 import AsyncClient

from corral.bootstrap import Server, build
from tests.demo_server import demo_settings
from tests.doors.live_server import SECRET, serving

pytestmark = pytest.mark.anyio

MODEL = "meta-llama/Llama-2-7b-chat-hf"
SAID = "What does a llama eat?"
RAW = f"[INST] {SAID} [/INST]"
SAMPLING = {"temperature": 0.9, "top_p": 0.95, "seed": 11}
CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "OpenAI's chat": (
        "/v1/chat/completions",
        {"model": MODEL, "messages": [{"role": "user", "content": SAID}], "max_tokens": 40, **SAMPLING},
    ),
    "OpenAI's completions": ("/v1/completions", {"model": MODEL, "prompt": RAW, "max_tokens": 40, **SAMPLING}),
    "DeepInfra's native": (
        f"/v1/inference/{MODEL}",
        {"input": RAW, "max_new_tokens": 40, "repetition_penalty": 1, **SAMPLING},
    ),
    "Replicate's, as a dialogue": (
        f"/v1/models/{MODEL}/predictions",
        {"input": {"prompt": RAW, "system_prompt": "", "max_tokens": 40, **SAMPLING}},
    ),
    "Replicate's, by a template": (
        f"/v1/models/{MODEL}/predictions",
        {"input": {"prompt": SAID, "prompt_template": "<s>[INST] {prompt} [/INST]", "max_tokens": 40, **SAMPLING}},
    ),
}


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Server]:
    """The server that ``corral serve`` creates."""
    server = build(demo_settings(tmp_path, api_key=SECRET), lambda _: None)
    async with server.run():
        await server.engine.ready()
        yield server


async def _tokens(server: Server, http: AsyncClient, path: str, body: dict[str, Any]) -> tuple[object, ...]:
    answer = await http.post(path, json=body, headers={"prefer": "wait"})
    assert answer.status_code in (200, 201), answer.text
    caller = await server.account_services.keys.authenticate(SECRET)
    assert caller is not None
    newest = (await server.predictions.page(caller))[0]
    assert newest.receipt is not None
    assert newest.texts is not None
    return (
        newest.prompt_tokens,
        newest.completion_tokens,
        newest.seed,
        newest.texts,
        newest.receipt["tokens_digest"],
    )


async def test_same_request_through_every_api_gives_the_same_tokens(made: Server) -> None:
    async with serving(made.app) as live, live.http() as http:
        given = {name: await _tokens(made, http, path, body) for name, (path, body) in CALLS.items()}
        other = await _tokens(made, http, *_with_seed(12))
    assert len(set(map(str, given.values()))) == 1, given
    assert str(other) not in set(map(str, given.values()))


def _with_seed(seed: int) -> tuple[str, dict[str, Any]]:
    path, body = CALLS["OpenAI's chat"]
    return path, {**body, "seed": seed}
