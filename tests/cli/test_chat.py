"""A conversation in a real terminal, and one answer in a real pipe."""

from collections.abc import Callable

import pytest

from tests.cli.fake_server import KEY, FakeServer, chunk, stream
from tests.cli.processes import Run, Terminal, run_process

Start = Callable[..., Terminal]


def test_a_prompt_is_answered_once_as_plain_text(fake: FakeServer, run: Run) -> None:
    done = run("chat", "Hi")
    assert (done.status, done.stdout, done.stderr) == (0, b"Hello!\n", b"")
    assert fake.asked == [[("user", "Hi")]]
    assert fake.questions[0]["model"] == "meta/llama-2-7b-chat"
    assert fake.questions[0].keys() == {"model", "messages", "stream"}


def test_stdin_is_used_as_the_prompt(fake: FakeServer, run: Run) -> None:
    assert run("chat", stdin="¿Qué?\n".encode()).stdout == b"Hello!\n"
    assert fake.asked == [[("user", "¿Qué?\n")]]


def test_piped_text_follows_the_prompt(fake: FakeServer, run: Run) -> None:
    run("chat", "Summarise:", stdin=b"a text \xff")
    assert fake.asked == [[("user", "Summarise:\n\na text \ufffd")]]


def test_options_reach_the_server(fake: FakeServer, run: Run) -> None:
    options = ["--model", "m/n", "--system", "Be brief.", "--temperature", "0", "--max-tokens", "5", "--seed", "-7"]
    assert run("chat", *options, "Hi").status == 0
    assert fake.asked == [[("system", "Be brief."), ("user", "Hi")]]
    body = fake.questions[0]
    assert (body["model"], body["temperature"], body["max_tokens"], body["seed"]) == ("m/n", 0, 5, -7)


def test_an_answer_in_a_pipe_is_passed_on_unaltered(fake: FakeServer, run: Run) -> None:
    fake.replies = [stream(" ", " [b]bold[/b]", "\x1b[31m🦙\r\n")]
    assert run("chat", "Hi").stdout == "[b]bold[/b]\x1b[31m🦙\r\n".encode()


def test_comments_and_split_data_lines_of_the_stream_are_understood(fake: FakeServer, run: Run) -> None:
    event = chunk("one").replace('"choices"', '\ndata: "choices"')
    fake.replies = [f": ping\n\nevent: message\r\n{event}{chunk(None, 'stop')}data: [DONE]\n\n"]
    assert run("chat", "Hi").stdout == b"one\n"


@pytest.mark.parametrize("options", [[], ["--max-tokens", "0", "Hi"], ["--temperature", "x", "Hi"], [" "]])
def test_wrong_usage_ends_with_status_2(run: Run, options: list[str]) -> None:
    done = run("chat", *options)
    assert (done.status, done.stdout) == (2, b"")


def test_without_a_server_one_sentence_says_how_to_start_it(run: Run) -> None:
    done = run("chat", "Hi", url="http://127.0.0.1:9")
    assert (done.status, done.stdout) == (1, b"")
    assert done.stderr == b"corral: No server answers at http://127.0.0.1:9; start one with `corral serve`.\n"


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (404, {"error": {"message": "Model 'x' not found."}}, "Model 'x' not found."),
        (429, {"error": "Model busy"}, "Model busy"),
        (404, {"detail": "Not\n\x1bFound"}, "Not  Found"),
        (422, {"detail": [{"loc": ["body", "seed"], "msg": "wrong", "type": "t"}]}, "body.seed: wrong"),
        (502, "<html>", "The server returned HTTP status 502."),
        (401, {"error": {"message": "no"}}, "did not accept the API key. Set CORRAL_API_KEY"),
    ],
)
def test_an_error_of_the_server_is_one_sentence(
    fake: FakeServer, run: Run, status: int, body: object, sentence: str
) -> None:
    fake.refusal = (status, body)
    done = run("chat", "--model", "x", "Hi")
    assert (done.status, done.stdout) == (1, b"")
    assert sentence in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1
    assert KEY.encode() not in done.stderr


def test_an_error_inside_the_stream_fails_after_what_came(fake: FakeServer, run: Run) -> None:
    fake.replies = [chunk(" Half") + 'data: {"error": {"message": "The engine died."}}\n\n']
    done = run("chat", "Hi")
    assert (done.status, done.stdout, done.stderr) == (1, b"Half\n", b"corral: The engine died.\n")


def test_a_stream_that_breaks_off_fails(fake: FakeServer, run: Run) -> None:
    fake.replies = [chunk(" Half")]
    done = run("chat", "Hi")
    assert (done.status, done.stdout) == (1, b"Half\n")
    assert b"before the answer was complete" in done.stderr


def test_server_that_is_not_corral_is_reported(fake: FakeServer, run: Run) -> None:
    fake.refusal = (200, ["hello"])
    done = run("chat", "Hi")
    assert done.status == 1
    assert b"Check --url" in done.stderr


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host", "http://", "http://[::1"])
def test_invalid_address_is_rejected(run: Run, url: str) -> None:
    done = run("chat", "--url", url, "Hi")
    assert done.status == 1
    assert b"is not a server address" in done.stderr


def test_conversation_includes_previous_turns(fake: FakeServer, terminal: Start) -> None:
    fake.replies = [stream(" First."), stream(" Second."), stream(" Third.")]
    person = terminal("chat", "--system", "Be brief.")
    assert "the demo weights stand in for it" in person.wait_for("> ")
    person.type("one\n")
    person.wait_for("\nFirst.\r\n> ")
    person.type("two\n")
    person.wait_for("\nSecond.\r\n> ")
    person.type("/reset\n")
    person.wait_for("> ")
    person.type("three\n")
    person.wait_for("\nThird.\r\n> ")
    person.type("/exit\n")
    assert person.wait_for_end() == 0
    system = ("system", "Be brief.")
    assert fake.asked == [
        [system, ("user", "one")],
        [system, ("user", "one"), ("assistant", "First."), ("user", "two")],
        [system, ("user", "three")],
    ]


def test_a_backslash_continues_a_message_and_ctrl_d_leaves(fake: FakeServer, terminal: Start) -> None:
    person = terminal("chat")
    person.wait_for("> ")
    person.type("one\\\n")
    person.wait_for(". ")
    person.type("two\n")
    person.wait_for("Hello!\r\n> ")
    person.type("\x04")
    assert person.wait_for_end() == 0
    assert fake.asked == [[("user", "one\ntwo")]]


def test_ctrl_c_stops_the_answer_but_not_the_chat(fake: FakeServer, terminal: Start) -> None:
    fake.replies = [chunk(" Once upon"), stream(" The end.")]
    fake.hang = True
    person = terminal("chat")
    person.wait_for("> ")
    person.type("A story\n")
    person.wait_for("Once upon")
    person.interrupt("Stopped. Ctrl-D exits.")
    person.wait_for("> ")
    assert fake.left.wait(5)
    person.type("Go on\n")
    person.wait_for("The end.\r\n> ")
    person.interrupt("Stopped. Ctrl-D exits.")
    person.wait_for("> ")
    person.type("\x04")
    assert person.wait_for_end() == 0
    assert fake.asked[1] == [("user", "A story"), ("assistant", "Once upon"), ("user", "Go on")]


def test_rejected_message_is_dropped_and_the_chat_continues(fake: FakeServer, terminal: Start) -> None:
    person = terminal("chat")
    person.wait_for("> ")
    fake.refusal = (400, {"error": {"message": "The prompt has 900 tokens."}})
    person.type("too long\n")
    person.wait_for("The prompt has 900 tokens.")
    person.wait_for("> ")
    fake.refusal = None
    person.type("short\n")
    person.wait_for("Hello!\r\n> ")
    assert fake.asked == [[("user", "short")]]


def test_terminal_control_sequences_in_an_answer_are_escaped(fake: FakeServer, terminal: Start) -> None:
    fake.replies = [stream(" a\x1b]0;title\x07b\x9b31mc", reason="length")]
    person = terminal("chat", "Hi")
    person.wait_for("a]0;titleb31mc\r\n")


def test_an_answer_cut_at_the_token_limit_says_so(fake: FakeServer, terminal: Start) -> None:
    fake.replies = [stream(" a", reason="length")]
    person = terminal("chat")
    person.wait_for("> ")
    person.type("Hi\n")
    person.wait_for("cut off at the token limit")


def test_an_unknown_model_is_refused_before_the_first_message(terminal: Start) -> None:
    person = terminal("chat", "--model", "nobody/nothing")
    person.wait_for("Model 'nobody/nothing' is not served")
    assert person.wait_for_end() == 1


def test_a_process_in_a_pipeline_answers_and_says_its_status(fake: FakeServer) -> None:
    answered = run_process(fake.url, "chat", stdin=b"Hi")
    assert (answered.returncode, answered.stdout, answered.stderr) == (0, b"Hello!\n", b"")
    fake.refusal = (400, {"error": {"message": "No."}})
    refused = run_process(fake.url, "chat", "Hi")
    assert (refused.returncode, refused.stdout, refused.stderr) == (1, b"", b"corral: No.\n")


def test_too_long_stdin_is_rejected_before_sending(fake: FakeServer, run: Run) -> None:
    done = run("chat", stdin=b"a" * (1024 * 1024 + 1))
    assert (done.status, fake.asked) == (1, [])
    assert b"longer than 1048576 bytes" in done.stderr
