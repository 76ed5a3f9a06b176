"""The context that APIs and pages show is the one that the engine serves, not that of the known model."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from httpx2 import AsyncClient

from corral.bootstrap import build
from corral.settings import load_settings
from tests.doors.live_server import SECRET, serving
from tests.hub import PIECES
from tests.oracle.llama import TinyLlama
from tests.unit.text.conftest import document_of

pytestmark = pytest.mark.anyio

KNOWN = "meta-llama/Llama-2-7b-chat-hf"
TINY = TinyLlama(vocab=len(PIECES), context_tokens=2048)
MISTRAL = replace(TINY, architecture="mistral", context_tokens=4096, extra_config={"sliding_window": 2048})


@pytest.mark.parametrize("model", [TINY, MISTRAL], ids=["a shorter context", "a sliding window"])
async def test_context_of_a_known_name_is_that_of_the_weights(model: TinyLlama, tmp_path: Path) -> None:
    checkpoint = model.write(tmp_path / "tiny")
    (checkpoint / "tokenizer.json").write_text(json.dumps(document_of(PIECES, [])))
    chosen = {
        "model": str(checkpoint),
        "stands_in": True,
        "chat_format": "llama-2",
        "data_dir": tmp_path / "data",
        "api_key": SECRET,
    }
    server = build(load_settings(chosen, {}), lambda _: None)
    async with server.run(), serving(server.app) as live, live.http() as http:
        await server.engine.ready()
        assert [deployment.limits.context_tokens for deployment in server.deployments] == [2048]
        for path in ("/v1/models", f"/v1/models/{KNOWN}", f"/models/{KNOWN}", "/models/list", "/v1/openai/models"):
            assert contexts(await get(http, path)) == {2048}, path
        [status] = (await get(http, "/corral/v1/deployments"))["deployments"]
        assert status["context_tokens"] == 2048
        asked = {"model": KNOWN, "messages": [{"role": "user", "content": "a" * 3000}]}
        refused = await http.post("/v1/chat/completions", json=asked)
        assert (refused.status_code, "the model's context holds 2048" in refused.text) == (400, True)


async def get(http: AsyncClient, path: str) -> Any:
    answer = await http.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


def contexts(document: Any) -> set[int]:
    """Every context in an answer, at any depth."""
    if isinstance(document, list):
        return set().union(*map(contexts, document))
    if not isinstance(document, dict):
        return set()
    own = (document.get(key) for key in ("context_length", "max_tokens", "max_output_tokens"))
    return {value for value in own if isinstance(value, int)}.union(*map(contexts, document.values()))
