"""Exact answers of the shipped demo model at temperature 0, through the whole server."""

import tomllib
from pathlib import Path
from typing import Any

import openai
import pytest

pytestmark = pytest.mark.anyio

PROMPTS: list[dict[str, Any]] = tomllib.loads(
    (Path(__file__).parents[1] / "unit" / "demo" / "ten_prompts.toml").read_text(encoding="utf-8")
)["prompt"]


def test_there_are_ten_prompts() -> None:
    assert len(PROMPTS) == 10


@pytest.mark.parametrize("prompt", PROMPTS, ids=[prompt["name"] for prompt in PROMPTS])
async def test_the_demo_model_gives_its_known_answer(client: openai.AsyncOpenAI, prompt: dict[str, Any]) -> None:
    completion = await client.chat.completions.create(model="corral/demo", messages=prompt["messages"], temperature=0)
    assert completion.choices[0].message.content is not None
    assert completion.choices[0].message.content.strip() == prompt["answer"].strip()
    assert completion.choices[0].finish_reason == "stop"
