"""Run the demo model through the real service and keep the runs as the catalog's examples.

Run from the repository root: ``python tools/demo_examples.py``. It writes ``src/corral/catalog/examples/*.json``; do it
anew whenever the demo model's weights change, because examples of other weights are not shown.
"""

import asyncio
import json
import secrets
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, cast

from corral.api.doors.replicate.input_table import INPUTS as REPLICATE_INPUTS
from corral.bootstrap import Server, build
from corral.catalog.catalog import demo_checkpoint
from corral.catalog.model import CatalogModel
from corral.catalog.page import Example
from corral.catalog.versions import weights_digest
from corral.core.caller import Caller
from corral.core.generation import GenerationRequest, RawPrompt, Sampling, Stopping, collect
from corral.service.ports import Ask
from corral.settings import load_settings

EXAMPLES: Final = Path("src/corral/catalog/examples")
_SEEDS: Final = 100_000
"""How many seeds Replicate's models draw from."""
_CHEF: Final = "Respond like a michelin starred chef."
_LAMB: Final = "Can you name at least two different techniques to cook lamb?"

INPUTS: Final[Mapping[str, tuple[Mapping[str, Any], ...]]] = {
    "meta/llama-2-70b-chat": (
        {"prompt": "Write a poem about open source machine learning in the style of E. E. Cummings"},
        {"prompt": "What is a token?"},
        {"prompt": _LAMB, "system_prompt": _CHEF, "temperature": 0.5},
        {"prompt": "[INST] Hello! [/INST] Hello! How can I help? [INST] What is a llama? [/INST]", "temperature": 0.2},
    ),
    "meta/llama-2-13b-chat": (
        {"prompt": "What is a llama?"},
        {"prompt": "Write a haiku", "system_prompt": "You are a helpful assistant.", "temperature": 0.3},
        {"prompt": "How much does it cost?", "max_tokens": 200},
    ),
    "meta/llama-2-7b-chat": (
        {"prompt": "Tell me a joke"},
        {"prompt": "Count to ten", "temperature": 0},
        {"prompt": "How do I use this server with the Replicate client?"},
    ),
    "corral/demo": (
        {"prompt": "What can you do?"},
        {"prompt": "Write a poem about open source machine learning", "seed": 4711},
        {"prompt": "Once upon a time", "prompt_template": "<s>{prompt}", "max_tokens": 40},
        {"prompt": "What is the capital of France?"},
    ),
}
"""What is asked of each model, by the names of Replicate's inputs."""


def request_of(model: CatalogModel, given: Mapping[str, Any], *, seed: int) -> GenerationRequest:
    """Convert inputs of Replicate's API to a request."""
    defaults = {field.name: field.default for field in REPLICATE_INPUTS.for_model(model) if field.has_default}
    asked = {**defaults, **given}
    return GenerationRequest(
        model=model.id,
        prompt=RawPrompt(asked["prompt_template"].format(prompt=asked["prompt"], system_prompt=asked["system_prompt"])),
        sampling=Sampling(temperature=asked["temperature"], top_p=asked["top_p"]),
        stopping=Stopping(max_tokens=asked["max_tokens"]),
        seed=seed,
    )


async def run_example(server: Server, caller: Caller, model: CatalogModel, given: Mapping[str, Any]) -> Example:
    """Run one request; return its stored and streamed result."""
    seed = given.get("seed") or secrets.randbelow(_SEEDS) or 1
    ask = Ask(caller=caller, door="replicate", request=request_of(model, given, seed=seed), shown_input=given)
    async with server.predictions.open(ask) as run:
        result = await collect(event async for _, event in run.events())
    stored = await server.predictions.get(caller, run.id)
    times = (stored.admitted_at_ms, stored.started_at_ms, stored.completed_at_ms)
    if stored.output is None or None in times:
        raise RuntimeError(f"{run.id} is over, but not stored as such")
    admitted_at_ms, started_at_ms, completed_at_ms = cast("tuple[int, int, int]", times)
    return Example(
        id=run.id,
        model=model.id,
        weights_digest=weights_digest(demo_checkpoint()),
        input=given,
        seed=seed,
        output=tuple(stored.output[0]),
        finish_reason=result.choices[0].reason,
        prompt_tokens=stored.prompt_tokens,
        completion_tokens=stored.completion_tokens,
        created_at_ms=stored.created_at_ms,
        admitted_at_ms=admitted_at_ms,
        started_at_ms=started_at_ms,
        completed_at_ms=completed_at_ms,
    )


async def main() -> None:
    """Rewrite every file and print the answers."""
    with tempfile.TemporaryDirectory() as data_dir:
        server = build(load_settings({"model": "corral/demo", "data_dir": data_dir}, {}), lambda _: None)
        async with server.run():
            await server.engine.ready()
            caller = await server.account_services.keys.authenticate(server.api_key)
            if caller is None:
                raise RuntimeError("the server does not know its own key")
            for name, inputs in INPUTS.items():
                model = server.catalog.get(name)
                runs = [await run_example(server, caller, model, given) for given in inputs]
                for example in runs:
                    print(f"{name}: {example.input['prompt']}\n    {''.join(example.output)!r}")
                text = json.dumps([asdict(example) for example in runs], indent=1, ensure_ascii=False)
                (EXAMPLES / f"{model.name.replace('/', '-')}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
