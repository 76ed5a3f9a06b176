"""Model information in the format of deepctl."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.cli.entry import commands
from tests.cli.fake_server import FakeServer, ScriptedAnswer
from tests.cli.processes import Run, Terminal, run_in_pipes

NAME = "meta-llama/Llama-2-70b-chat-hf"
RECORD: dict[str, Any] = {
    "model_name": NAME,
    "type": "text-generation",
    "version": "9ff8b00464fc439a64bb374769dec3dd627be1c2",
    "public": True,
    "pricing": {"type": "tokens", "cents_per_input_token": 0.00005, "cents_per_output_token": 0.0001},
    "description": "A collection.",
    "mask_token": None,
    "meta": {
        "github_url": "",
        "paper_url": "https://arxiv.org/abs/2307.09288",
        "license_url": "https://ai.meta.com/",
        "cover_img_url": "data:image/png;base64,AAAA",
        "readme": "# Llama 2",
    },
    "curl_inv": "curl -X POST",
    "cmdline_inv": "deepctl infer",
    "txt_docs": "parameters:\n  input     : string. text\n",
    "out_example": "{}\n",
    "out_docs": "results: array\n",
}
PAGE = f"""\
model: {NAME}
type: text-generation
version: 9ff8b00464fc439a64bb374769dec3dd627be1c2
public: true
pricing: $0.0010/Ktoken
description: A collection.
paper: https://arxiv.org/abs/2307.09288
license: https://ai.meta.com/
cover_image: (binary)
README:
# Llama 2

CURL invocation:

 curl -X POST

deepctl invocation:

 deepctl infer

Field description:

parameters:
  input     : string. text


output example:

{{}}


output fields description:

results: array


"""
LLAMA_7B = {"model_name": "meta-llama/Llama-2-7b-chat-hf", "type": "text-generation", "max_tokens": 4096}
WHISPER = {"model_name": "openai/whisper", "type": "automatic-speech-recognition"}


def test_info_prints_every_heading_in_deepctls_order(fake: FakeServer, run: Run) -> None:
    fake.answer(f"GET /models/{NAME}", RECORD)
    done = run("model", "info", "-m", NAME)
    assert (done.status, done.stdout.decode(), done.stderr) == (0, PAGE, b"")
    assert run("model", "info", "-m", NAME, "-v", "9ff8b0").status == 0
    assert fake.requests[-1].query == {"version": "9ff8b0"}


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"public": False}, "public: false"),
        ({"public": None}, "public: true"),
        ({"mask_token": "[MASK]"}, "mask token: [MASK]"),
        ({"pricing": {"type": "time", "cents_per_sec": 0.05}}, "pricing: $0.0005/sec"),
        ({"meta": {"github_url": "https://github.com/x"}}, "github: https://github.com/x"),
    ],
)
def test_info_prints_what_the_server_says(fake: FakeServer, run: Run, change: dict[str, object], line: str) -> None:
    fake.answer(f"GET /models/{NAME}", RECORD | change)
    assert line in run("model", "info", "-m", NAME).stdout.decode().splitlines()


def test_info_as_json_is_the_servers_record(fake: FakeServer, run: Run) -> None:
    fake.answer(f"GET /models/{NAME}", RECORD)
    assert json.loads(run("model", "info", "-m", NAME, "--json").stdout) == RECORD


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (ScriptedAnswer(status=404, document={"error": "Model not found"}), b"corral: Model not found\n"),
        ({"type": "text-generation"}, b"did not send a valid Corral response"),
        (RECORD | {"pricing": {"type": "time"}}, b"no price for pricing type 'time'"),
    ],
)
def test_info_of_no_model_ends_with_status_1(fake: FakeServer, run: Run, answer: object, sentence: bytes) -> None:
    fake.answer(f"GET /models/{NAME}", answer)
    done = run("model", "info", "-m", NAME)
    assert (done.status, done.stdout) == (1, b"")
    assert sentence in done.stderr


def test_a_pipe_gets_deepctls_list(fake: FakeServer, run: Run) -> None:
    fake.answer("GET /models/list", [LLAMA_7B, WHISPER])
    fake.answer("GET /models/private/list", [LLAMA_7B | {"model_name": "local/mine"}])
    public = "automatic-speech-recognition: openai/whisper\ntext-generation: meta-llama/Llama-2-7b-chat-hf\n"
    private = "text-generation: local/mine\n"
    assert run("model", "list").stdout.decode() == f"Public Models:\n{public}Private Models:\n{private}"
    assert run("model", "list", "--visibility", "public").stdout.decode() == public
    assert run("model", "list", "--visibility", "private").stdout.decode() == private
    assert [each["model_name"] for each in json.loads(run("model", "list", "--json").stdout)] == [
        "meta-llama/Llama-2-7b-chat-hf",
        "openai/whisper",
        "local/mine",
    ]
    assert run("model", "list", "--visibility", "some").status == 2


def test_without_a_key_private_models_are_left_out(fake: FakeServer) -> None:
    fake.answer("GET /models/list", [WHISPER])
    done = run_in_pipes(commands(fake.url, None), ["model", "list"], b"")
    assert done.stdout == b"Public Models:\nautomatic-speech-recognition: openai/whisper\n"
    assert [asked.path for asked in fake.requests] == ["/models/list"]


def test_versions_are_json_in_a_pipe(fake: FakeServer, run: Run) -> None:
    versions = [{"model_name": NAME, "version": "9ff8b0", "uploaded_at": 1694000000}]
    fake.answer(f"GET /models/{NAME}/versions", versions)
    assert json.loads(run("model", "versions", "-m", NAME).stdout) == versions


def test_a_terminal_gets_tables(fake: FakeServer, terminal: Callable[..., Terminal]) -> None:
    fake.answer("GET /models/list", [LLAMA_7B])
    fake.answer("GET /models/private/list", [])
    screen = terminal("model", "list")
    screen.wait_for("Model")
    screen.wait_for("meta-llama/Llama-2-7b-chat-hf")
    screen.wait_for("4096")
    screen.wait_for("public")
    assert screen.wait_for_end() == 0
