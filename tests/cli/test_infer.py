"""``corral infer``: requests and output in the format of deepctl."""

import json
from base64 import b64encode
from pathlib import Path

import pytest

from tests.cli.fake_server import KEY, FakeServer, ScriptedAnswer
from tests.cli.processes import Run

MODEL = "meta-llama/Llama-2-70b-chat-hf"
CALL = f"POST /v1/inference/{MODEL}"
ANSWER = {
    "results": [{"generated_text": " I have"}],
    "num_tokens": 2,
    "inference_status": {"status": "succeeded", "cost": 0.5},
}


def event(text: str, *, special: bool = False, whole: str | None = None) -> str:
    """One event of DeepInfra's native stream."""
    details = None if whole is None else {"finish_reason": "eos_token"}
    token = {"id": 1, "text": text, "logprob": -0.1, "special": special}
    return f"data: {json.dumps({'token': token, 'generated_text': whole, 'details': details})}\n\n"


def sent(fake: FakeServer) -> list[tuple[str, str, str]]:
    """Disposition, type and content of the parts of the one form that came."""
    asked = fake.requests[-1]
    boundary = asked.headers["content-type"].partition("multipart/form-data; boundary=")[2]
    parts: list[tuple[str, str, str]] = []
    for part in asked.body.decode().split(f"--{boundary}")[1:-1]:
        head, _, content = part.strip("\r\n").partition("\r\n\r\n")
        lines = dict(line.split(": ", 1) for line in head.split("\r\n"))
        disposition = lines["Content-Disposition"].removeprefix("form-data; ")
        parts.append((disposition, lines.get("Content-Type", ""), content))
    return parts


def test_fields_are_parts_of_a_form_and_the_answer_is_one_json_document(fake: FakeServer, run: Run) -> None:
    fake.answer(CALL, ANSWER)
    done = run("infer", "-m", MODEL, "-i", "input=I have = a dream", "-i", "max_new_tokens=8")
    assert (done.status, done.stderr) == (0, b"")
    assert json.loads(done.stdout) == ANSWER
    assert sent(fake) == [('name="input"', "", "I have = a dream"), ('name="max_new_tokens"', "", "8")]
    assert (fake.requests[-1].key, fake.requests[-1].query) == (KEY, {})


def test_files_and_base64_are_uploads_with_a_name(fake: FakeServer, run: Run, tmp_path: Path) -> None:
    (tmp_path / "said.txt").write_text("from a file")
    fake.answer(CALL, ANSWER)
    inputs = ["-i", f"input=@{tmp_path}/said.txt", "-i", f"audio=base64:{b64encode(b'raw').decode()}"]
    assert run("infer", "-m", MODEL, *inputs).status == 0
    assert sent(fake) == [
        ('name="input"; filename="said.txt"', "text/plain", "from a file"),
        ('name="audio"; filename="filename.ext"', "application/octet-stream", "raw"),
    ]


def test_version_and_deployment_are_sent_like_deepctl(fake: FakeServer, run: Run) -> None:
    fake.answer(CALL, ANSWER)
    fake.answer("POST /v1/inference/deploy/DpM4BkrjEspUwmTa", ANSWER)
    assert run("infer", "-m", MODEL, "--version", "9ff8b0", "-i", "input=x").status == 0
    assert fake.requests[-1].query == {"version": "9ff8b0"}
    assert run("infer", "-d", "DpM4BkrjEspUwmTa", "-i", "input=x").status == 0
    assert fake.requests[-1].path == "/v1/inference/deploy/DpM4BkrjEspUwmTa"


@pytest.mark.parametrize(
    ("wish", "printed"),
    [
        ("-", ANSWER),
        ("results.0.generated_text=-", " I have"),
        ("results/0=-", ANSWER["results"][0]),
        ("num_tokens=-", 2),
        ("results=-", ANSWER["results"]),
    ],
)
def test_a_pointer_prints_a_json_value(fake: FakeServer, run: Run, wish: str, printed: object) -> None:
    fake.answer(CALL, ANSWER)
    done = run("infer", "-m", MODEL, "-i", "input=x", "-o", wish)
    assert (done.status, json.loads(done.stdout)) == (0, printed)


def test_parts_of_the_answer_go_to_files(fake: FakeServer, run: Run, tmp_path: Path) -> None:
    image = "data:image/png;base64," + b64encode(b"\x89PNG").decode()
    fake.answer(CALL, {"results": [{"generated_text": "a"}], "one": ["alone"], "images": [image, image], "count": 3})
    wishes = {
        "all.json": "{}",
        "results.0.generated_text": "text.txt",
        "one": "one.txt",
        "count": "count.txt",
        "images": "image-{IDX}.{EXT}",
    }
    options = [["-o", f"{tmp_path}/all.json"]]
    options += [["-o", f"{path}={tmp_path}/{target}"] for path, target in wishes.items() if path != "all.json"]
    done = run("infer", "-m", MODEL, "-i", "input=x", *[word for option in options for word in option])
    assert (done.status, done.stdout, done.stderr) == (0, b"", b"")
    assert json.loads((tmp_path / "all.json").read_text())["count"] == 3
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name != "all.json"}
    assert written == {
        "text.txt": b"a",
        "one.txt": b"alone",
        "count.txt": b"3\n",
        "image-0.png": b"\x89PNG",
        "image-1.png": b"\x89PNG",
    }


@pytest.mark.parametrize("path", ["results.1", "results.x", "results.0.generated_text.0", "nothing"])
def test_a_pointer_to_nothing_is_refused(fake: FakeServer, run: Run, path: str) -> None:
    fake.answer(CALL, ANSWER)
    done = run("infer", "-m", MODEL, "-i", "input=x", "-o", f"{path}=-")
    assert (done.status, done.stdout) == (1, b"")
    assert f"The answer has no '{path}'".encode() in done.stderr


def test_a_stream_is_shown_as_text_without_its_special_tokens(fake: FakeServer, run: Run) -> None:
    stream = event(" I") + event(" have") + event("</s>", special=True, whole=" I have") + "data: [DONE]\n\n"
    fake.answer(CALL, ScriptedAnswer(events=stream))
    done = run("infer", "-m", MODEL, "-i", "input=x", "-i", "stream=true")
    assert (done.status, done.stdout, done.stderr) == (0, b" I have\n", b"")


def test_output_options_of_a_stream_use_its_last_event(fake: FakeServer, run: Run) -> None:
    fake.answer(CALL, ScriptedAnswer(events=event(" I") + event("</s>", special=True, whole=" I")))
    done = run("infer", "-m", MODEL, "-i", "input=x", "-i", "stream=true", "-o", "generated_text=-")
    assert (done.status, done.stdout) == (0, b'" I"\n')


@pytest.mark.parametrize(
    ("stream", "sentence"),
    [
        (event(" I"), b"closed the stream before the answer was complete"),
        (
            event(" I") + 'data: {"error_type": "validation_error", "error_message": "Too\\nlong"}\n\n',
            b"corral: Too long\n",
        ),
    ],
)
def test_a_stream_that_fails_ends_with_status_1(fake: FakeServer, run: Run, stream: str, sentence: bytes) -> None:
    fake.answer(CALL, ScriptedAnswer(events=stream))
    done = run("infer", "-m", MODEL, "-i", "stream=true")
    assert (done.status, done.stdout) == (1, b" I\n")
    assert sentence in done.stderr


def test_a_refusal_shows_the_whole_body(fake: FakeServer, run: Run) -> None:
    body = {"detail": [{"loc": ["body", "top_p"], "msg": "too large", "type": "less_than_equal"}]}
    fake.answer(CALL, ScriptedAnswer(status=422, document=body))
    done = run("infer", "-m", MODEL, "-i", "input=x", "-i", "top_p=2")
    assert (done.status, done.stdout) == (1, b"")
    sentence, _, shown = done.stderr.decode().partition("\n")
    assert sentence == "corral: The server returned HTTP status 422: body.top_p: too large"
    assert json.loads(shown) == body


@pytest.mark.parametrize(
    "options",
    [
        ["-i", "input=x"],
        ["-m", MODEL, "-i", "input"],
        ["-m", MODEL, "-i", "=x"],
        ["-m", MODEL, "-i", "input=base64:?"],
        ["-m", "../v1", "-i", "input=x"],
        ["-m", MODEL, "-i", "input=x", "-o", "results="],
    ],
)
def test_wrong_usage_of_infer_ends_with_status_2(run: Run, options: list[str]) -> None:
    done = run("infer", *options)
    assert (done.status, done.stdout) == (2, b"")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "missing: give each field of the call"),
        (["-i", "top_k=1", "-i", "input=x", "-i", "top_k=2"], "'top_k' is given 2 times; give it once."),
        (["-i", "input=@-", "-i", "webhook=@-"], "input and webhook both read standard input"),
    ],
)
def test_missing_and_repeated_fields_are_refused_before_anything_is_sent(
    fake: FakeServer, run: Run, options: list[str], said: str
) -> None:
    fake.answer(CALL, ANSWER)
    done = run("infer", "-m", MODEL, *options)
    assert (done.status, done.stdout) == (2, b"")
    shown = " ".join(word for word in done.stderr.decode().split() if word != "│")
    assert "--input / -i" in shown
    assert said in shown
    assert not fake.requests


def test_a_field_is_read_from_standard_input_byte_for_byte(fake: FakeServer, run: Run) -> None:
    fake.answer(CALL, ANSWER)
    assert run("infer", "-m", MODEL, "-i", "input=@-", stdin=b" piped\n").status == 0
    boundary = fake.requests[-1].headers["content-type"].partition("boundary=")[2].encode()
    (part,) = fake.requests[-1].body.split(b"--" + boundary)[1:-1]
    assert b'name="input"; filename="stdin"' in part
    assert part.endswith(b"\r\n\r\n piped\n\r\n")


def test_a_file_that_is_not_there_is_named(run: Run) -> None:
    done = run("infer", "-m", MODEL, "-i", "input=@/nowhere")
    assert (done.status, done.stderr) == (1, b"corral: /nowhere cannot be read: No such file or directory.\n")
