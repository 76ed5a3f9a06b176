"""Commands and outputs on DeepInfra's pages of 2023 and 2024, and the requests of deepctl.

``pages/`` holds the commands of the pages as they are, and what ``deepctl model info`` printed. deepctl itself is on no
registry: its requests are made here as it makes them, and its printing is done again.
"""

import asyncio
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from httpx2 import AsyncClient

from corral.api.doors.deepinfra.describe import described
from corral.api.doors.deepinfra.input_table import INPUTS
from corral.catalog.catalog import demo_catalog
from tests.doors.deepinfra.native import PATH
from tests.doors.live_server import SECRET, LiveServer
from tests.doors.scripted_predictions import MODEL

pytestmark = pytest.mark.anyio

PAGES = Path(__file__).parent / "pages"
HOST = "https://api.deepinfra.com"
LARGE = "meta-llama/Llama-2-70b-chat-hf"
NAMES = ["meta-llama/Llama-2-7b-chat-hf", "meta-llama/Llama-2-13b-chat-hf", LARGE]


def page(name: str) -> str:
    return (PAGES / name).read_text(encoding="utf-8")


def model_info(document: dict[str, Any]) -> str:
    """Format ``GET /models/{owner}/{model}`` as deepctl 0.6.0 does."""
    pricing, meta = document["pricing"], document["meta"]
    public = str(document["public"]).lower()
    lines = [f"model: {document['model_name']}", f"type: {document['type']}", f"version: {document['version']}"]
    lines += [f"public: {public}", f"pricing: ${pricing['cents_per_output_token'] * 10:.4f}/Ktoken"]
    lines += [f"description: {document['description']}"]
    for label, key in (("github", "github_url"), ("paper", "paper_url"), ("license", "license_url")):
        lines += [f"{label}: {meta[key]}"] if isinstance(meta[key], str) else []
    lines += [f"cover_image: {meta['cover_img_url']}", f"README:\n{meta['readme']}\n"]
    lines += [f"CURL invocation:\n\n {document['curl_inv']}\n", f"deepctl invocation:\n\n {document['cmdline_inv']}\n"]
    lines += [f"Field description:\n\n{document['txt_docs']}\n", f"output example:\n\n{document['out_example']}\n"]
    return "\n".join([*lines, f"output fields description:\n\n{document['out_docs']}\n"])


async def run(command: str, server: LiveServer) -> str:
    """Run a documented command against this server with a valid key; returns its output."""
    here = command.replace(HOST, server.url).replace("$(deepctl auth token)", SECRET)
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        here,
        env={"PATH": os.environ["PATH"], "DEEPINFRA_TOKEN": SECRET},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


@pytest.mark.skipif(shutil.which("curl") is None and os.environ.get("CI") != "true", reason="there is no curl")
async def test_documented_curl_commands_work(live: LiveServer) -> None:
    native = json.loads(await run(page("native.sh"), live))
    assert native["results"][0]["generated_text"]
    assert list(native) == ["results", "num_tokens", "num_input_tokens", "request_id", "inference_status"]
    for name in ("chat.sh", "conversation.sh"):
        chat = json.loads(await run(page(name), live))
        assert chat["object"] == "chat.completion"
        assert chat["model"] == MODEL
        assert chat["choices"][0]["message"]["content"].startswith(" ")
        assert list(chat["usage"]) == ["prompt_tokens", "total_tokens", "completion_tokens", "estimated_cost"]
    stream = await run(page("stream.sh"), live)
    assert stream.startswith("data: {")
    assert stream.endswith("data: [DONE]\n\n")
    assert "</s>" not in stream


async def test_model_lists_need_no_key_and_agree(live: LiveServer, http: AsyncClient) -> None:
    async with live.http(key=None) as anonymous_client:
        listed = {each["model_name"]: each for each in (await anonymous_client.get("/models/list")).json()}
    assert set(NAMES) <= listed.keys()
    for name in NAMES:
        assert listed[name]["pricing"]["type"] == "tokens"
        assert (listed[name]["type"], listed[name]["reported_type"]) == ("text-generation", "text-generation")
        assert listed[name]["max_tokens"] == 4096
        assert "tools" not in listed[name]["tags"]
    openai = (await http.get("/v1/openai/models")).json()["data"]
    assert [each["id"] for each in openai] == list(listed)
    assert (await http.get("/models/featured")).json() == []


async def test_model_info_has_every_heading_in_its_order(http: AsyncClient) -> None:
    shown = model_info((await http.get(f"/models/{LARGE}")).json())
    headings = [
        f"model: {LARGE}\n",
        "type: text-generation\n",
        "version: ",
        "public: true\n",
        "pricing: $0.0010/Ktoken\n",
        "description: LLaMa 2 is a collections of LLMs",
        "paper: https://arxiv.org/abs/2307.09288\n",
        "license: https://ai.meta.com/",
        "cover_image: http",
        "README:\n",
        "CURL invocation:\n\n curl ",
        "deepctl invocation:\n\n deepctl infer ",
        "Field description:\n\nparameters:\n",
        "output example:\n\n{\n",
        "output fields description:\n\nresults: ",
    ]
    places = [shown.find(heading) for heading in headings]
    assert -1 not in places
    assert places == sorted(places)
    unknown = await http.get("/models/a/b")
    assert (unknown.status_code, list(unknown.json())) == (404, ["error"])
    version = (
        await http.get(f"/models/{LARGE}", params={"version": "9ff8b00464fc439a64bb374769dec3dd627be1c2"})
    ).json()
    assert version["version"] == "9ff8b00464fc439a64bb374769dec3dd627be1c2"
    assert (await http.get(f"/models/{LARGE}", params={"version": "0" * 40})).status_code == 404
    schema = (await http.get(f"/models/{LARGE}/schema/default")).json()
    assert schema["variant"] == "default"
    assert "input" in schema["schema_in"]["properties"]


async def test_texts_match_the_2023_pages_under_their_settings() -> None:
    model = demo_catalog().get(LARGE)
    document = described(
        model,
        model.price_at(0),
        INPUTS.for_model(model),
        version=model.version,
        base_url=HOST,
        full_text=True,
        variants=(),
    )
    later = ("min_p", "presence_penalty", "frequency_penalty", "response_format", "user", "seed")
    added = [line for line in document["txt_docs"].split("\n") if line.strip().startswith(later)]
    assert len(added) == len(later)
    document["txt_docs"] = "\n".join(line for line in document["txt_docs"].split("\n") if line not in added)
    shown = model_info({**document, "pricing": {"cents_per_output_token": 0.0001}})
    assert shown[shown.index("CURL invocation:") :].rstrip("\n") == page("model_info.txt").rstrip("\n")


async def test_lists_have_the_fields_that_deepctl_reads(http: AsyncClient) -> None:
    for path in ("/models/private/list", "/models/deployment/list", "/models/lora/list"):
        assert (await http.get(path)).json() == []
    (await http.post(PATH, json={"input": "Hi", "max_new_tokens": 1})).raise_for_status()
    versions = (await http.get(f"/models/{LARGE}/versions")).json()
    assert {"model_name", "version", "uploaded_at"} == versions[0].keys()
    deploys = (await http.get("/deploy/list/")).json()
    needed = {"type", "deploy_id", "model_name", "version", "task", "status", "fail_reason", "created_at", "updated_at"}
    assert all(needed <= deploy.keys() and deploy["status"] == "running" for deploy in deploys)
    assert len({deploy["deploy_id"] for deploy in deploys}) == len(deploys)
    (deploy,) = [each for each in deploys if each["model_name"] == MODEL]
    assert (await http.get(f"/deploy/{deploy['deploy_id']}")).json() == deploy
    entries = (await http.get("/v1/logs/query", params={"deploy_id": deploy["deploy_id"], "limit": "1"})).json()
    ((moment, line),) = entries["entries"]
    assert float(moment) > 1e9
    assert isinstance(line, str)
    for method, path in (("PUT", f"/deploy/{deploy['deploy_id']}"), ("POST", "/deploy/hf/"), ("POST", "/deploy/llm")):
        refused = await http.request(method, path, content=b'{"model_name": "a/b"}')  # without a Content-Type
        assert (refused.status_code, list(refused.json())) == (405, ["error"])


async def test_me_tells_whether_a_token_is_valid(live: LiveServer, http: AsyncClient) -> None:
    assert (await http.get("/v1/me")).status_code == 200
    async with live.http(key="wrong") as unauthorized:
        assert (await unauthorized.get("/v1/me")).status_code == 401


async def test_infer_sends_a_form_and_reads_one_json_document(http: AsyncClient) -> None:
    parts = [("input", (None, "[INST] Hello! [/INST]", "text/plain")), ("max_new_tokens", (None, "8", "text/plain"))]
    response = await http.post(PATH, files=parts, timeout=60)
    document = response.json()
    assert document["num_tokens"] == 8
    assert isinstance(document["results"][0]["generated_text"], str)
    refused = await http.post(PATH, files=[*parts, ("temperature", (None, "-1", "text/plain"))])
    assert refused.status_code == 422
    assert refused.json()["detail"][0]["loc"] == ["body", "temperature"]


async def test_cli_version_accepts_every_deepctl(live: LiveServer) -> None:
    async with live.http(key=None) as anonymous_client:
        answer = (await anonymous_client.get("/cli/version", params={"version": "0.6.0"})).json()
    assert answer.keys() == {"min", "update", "latest"}
    assert all(tuple(map(int, answer[name].split("."))) <= (0, 6, 0) for name in ("min", "update"))


async def test_deploys_are_listed_by_status(http: AsyncClient) -> None:
    every = (await http.get("/deploy/list")).json()
    assert {deploy["status"] for deploy in every} == {"running"}
    for path in ("/deploy/list", "/deploy/list/"):
        assert (await http.get(path, params={"status": "failed,running"})).json() == every
        assert (await http.get(path, params={"status": "failed,deleted"})).json() == []
        assert (await http.get(path, params={"status": ""})).json() == every
        unknown = await http.get(path, params={"status": "running,active"})
        assert (unknown.status_code, "'status' is 'active'" in unknown.json()["error"]) == (400, True)


def fits(document: dict[str, Any], schema: dict[str, Any]) -> bool:
    """Return whether an object has all required and no unknown properties."""
    return set(schema["required"]) <= document.keys() <= schema["properties"].keys()


async def test_published_model_schemas_match_the_routes(http: AsyncClient) -> None:
    listed = (await http.get(f"/models/{LARGE}")).json()["schemas"]
    assert [each["key"] for each in listed] == ["default", "openai-chat-completions", "openai-completions"]
    shared = {"temperature": 0, "stream": True}
    bodies = {
        "default": (f"/v1/inference/{LARGE}", {"input": "Hi", "max_new_tokens": 3, **shared}),
        "openai-chat-completions": (
            "/v1/openai/chat/completions",
            {"model": LARGE, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3, **shared},
        ),
        "openai-completions": ("/v1/openai/completions", {"model": LARGE, "prompt": "Hi", "max_tokens": 3, **shared}),
    }
    for each in listed:
        path = each["url"].removeprefix(str(http.base_url).rstrip("/"))
        schema = (await http.get(path)).json()
        assert schema["variant"] == each["key"]
        route, body = bodies[each["key"]]
        assert {field["name"] for field in schema["fields_in"]} == schema["schema_in"]["properties"].keys()
        whole = await http.post(route, json={**body, "stream": False})
        stream = await http.post(route, json=body)
        assert fits(body, schema["schema_in"])
        assert fits(whole.json(), schema["schema_out"])
        events = [line.removeprefix("data: ") for line in stream.text.split("\n") if line.startswith("data: {")]
        assert len(events) >= 3
        for event in events:
            assert fits(json.loads(event), schema["schema_stream"])
    assert (await http.get(f"/models/{LARGE}/schema/openai")).status_code == 404
