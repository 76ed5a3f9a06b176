"""Unit tests: inputs, templates, dialogues, chunks, headers, rate limits, cursors, stream positions."""

import re
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from replicate.client import Client
from replicate.stream import EventSource

from corral.api.doors.replicate.chunks import shown
from corral.api.doors.replicate.dialogue import as_reference
from corral.api.doors.replicate.errors import ERRORS, from_error
from corral.api.doors.replicate.faults import InvalidInput, ModelErrorCode, ModelRefusal
from corral.api.doors.replicate.input_table import INPUTS
from corral.api.doors.replicate.inputs import read_input
from corral.api.doors.replicate.pages import after_id, read_id, read_offset
from corral.api.doors.replicate.prefer import read_cancel_after, read_wait
from corral.api.doors.replicate.rates import Kind, Rates
from corral.api.doors.replicate.stream import BEGINNING, Beyond, Position, Words, read_position
from corral.api.doors.replicate.template import fill
from corral.api.doors.replicate.times import read_time_ms, rfc3339
from corral.api.doors.replicate.translate import to_core
from corral.catalog.catalog import demo_checkpoint
from corral.core.caller import Caller
from corral.core.generation import Delta, Message, RawPrompt, Role, Started
from corral.text.load import load_tokenizer
from tests.doors.error_examples import every_error
from tests.doors.replicate.replicate_client import normalize_newlines, parse, text_of
from tests.prompts import encoder

FIELDS = INPUTS.fields
TEMPLATE = next(field.default for field in FIELDS if field.name == "prompt_template")


SEPARATORS = re.compile("[\v\f\x1c-\x1e\x85\u2028\u2029]")
"""Characters at which ``str.splitlines`` splits, except line ends."""


def values(**given: Any) -> dict[str, Any]:
    return read_input({"prompt": "Hi", **given}, FIELDS)


def faults(**given: Any) -> list[tuple[str, str]]:
    with pytest.raises(InvalidInput) as caught:
        values(**given)
    return [(fault.type, fault.field) for fault in caught.value.faults]


@pytest.mark.parametrize(
    ("name", "good", "low", "high"),
    [
        ("max_tokens", [1, 512.0, 10**9, 2**63 - 1], [0, -1], [2**63, 1e30, 10**30]),
        ("min_tokens", [-1, 0, None], [-2], [2**63]),
        ("temperature", [0, 5, 0.01], [-0.01], [5.01, 1e308]),
        ("top_p", [0, 1], [-0.01, -1], [1.01]),
        ("top_k", [-1, 0, 10**12, -0.0], [-2, -(10**30)], [1e308]),
        ("length_penalty", [0, 5], [-0.1], [5.1]),
        ("presence_penalty", [-2, 2, 0.5], [-2.1], [2.1]),
        ("frequency_penalty", [-2, 2], [-2.1], [2.1]),
        ("repetition_penalty", [0.01, 100], [0, 1e-300, -1], [100.5]),
        ("seed", [-(2**63), 2**64, 0], [-(2**63) - 1], [2**64 + 1, 10**30]),
        ("max_new_tokens", [1], [0], [2**63]),
        ("min_new_tokens", [-1], [-2], [2**63]),
    ],
)
def test_range_limits_are_inclusive(name: str, good: list[Any], low: list[Any], high: list[Any]) -> None:
    for value in good:
        to_core("m", values(**{name: value}), default_template=TEMPLATE)
    assert [faults(**{name: value}) for value in low] == [[("number_gte", f"input.{name}")]] * len(low)
    assert [faults(**{name: value}) for value in high] == [[("number_lte", f"input.{name}")]] * len(high)
    assert faults(**{name: "1"}) == faults(**{name: True}) == [("invalid_type", f"input.{name}")]


def test_json_schema_types_are_enforced_and_all_errors_are_reported() -> None:
    assert faults(prompt=None) == [("required", "input")]
    assert faults(prompt=1, log_performance_metrics=1, prompt_template="", top_p=2) == [
        ("invalid_type", "input.prompt"),
        ("number_lte", "input.top_p"),
        ("string_gte", "input.prompt_template"),
        ("invalid_type", "input.log_performance_metrics"),
    ]
    assert faults(max_tokens=1.5, repetition_penalty=0) == [
        ("invalid_type", "input.max_tokens"),
        ("number_gte", "input.repetition_penalty"),
    ]
    assert faults(stop_sequences=",".join(map(str, range(17)))) == [("string_lte", "input.stop_sequences")]
    assert faults(stop_sequences="x" * 257) == [("string_lte", "input.stop_sequences")]
    assert faults(replicate_weights="https://weights") == [("not_offered", "input.replicate_weights")]
    with pytest.raises(InvalidInput, match="Expected: object, given: array"):
        read_input([], FIELDS)
    assert "nobody" not in values(nobody="knows this", debug=True)


def test_stop_sequences_are_split_at_commas_and_nothing_is_trimmed() -> None:
    asked = to_core("m", values(stop_sequences="END, and,,\n\n"), default_template=TEMPLATE)
    assert asked.stopping.stop == ("END", " and", "\n\n")


def test_deprecated_limit_names_must_agree() -> None:
    def limits(**given: Any) -> tuple[int | None, int]:
        stopping = to_core("m", values(**given), default_template=TEMPLATE).stopping
        return stopping.max_tokens, stopping.min_tokens

    assert limits() == (512, 0)
    assert limits(max_new_tokens=30) == limits(max_tokens=512, max_new_tokens=30) == (30, 0)
    assert limits(max_tokens=30, max_new_tokens=30, min_tokens=5, min_new_tokens=5) == (30, 5)
    assert limits(min_tokens=-1, min_new_tokens=7) == (512, 7)
    assert limits(min_tokens=7, min_new_tokens=0) == limits(min_tokens=7, min_new_tokens=-1) == (512, 7)
    with pytest.raises(ModelRefusal, match=r"^E1102 ") as refused:
        limits(max_tokens=20, max_new_tokens=30)
    assert (refused.value.code, refused.value.field) == (ModelErrorCode.INVALID_MAX_TOKENS, "max_new_tokens")
    with pytest.raises(ModelRefusal, match=r"^E1101 "):
        limits(min_tokens=2, min_new_tokens=3)


def test_sampling_inputs_are_mapped_and_top_p_of_zero_is_greedy() -> None:
    def sampling(**given: Any) -> Any:
        return to_core("m", values(**given), default_template=TEMPLATE).sampling

    assert (sampling().temperature, sampling().top_p, sampling().top_k) == (0.7, 0.95, 0)
    assert sampling(top_p=0).greedy
    assert sampling(temperature=0).greedy
    assert (sampling(top_k=-1).top_k, sampling(top_k=2**40).top_k, sampling(top_k=3).top_k) == (0, 0, 3)
    assert to_core("m", values(seed=0), default_template=TEMPLATE).seed is None


def test_a_template_has_two_fields_and_doubled_braces() -> None:
    def filled(template: str, prompt: str = "Hi", system_prompt: str = "Be") -> str:
        return fill(template, prompt=prompt, system_prompt=system_prompt)

    assert filled("{system_prompt}: {prompt}{{}}") == "Be: Hi{}"
    assert filled("{prompt}", prompt="{system_prompt} {0}") == "{system_prompt} {0}"
    assert filled("") == "Hi"
    assert filled("fixed", prompt="") == "fixed"
    for template in (
        "{foo}",
        "{",
        "}",
        "{prompt",
        "{prompt!r}",
        "{prompt:>9}",
        "{prompt.x}",
        "{0}",
        "{}",
        "{{prompt}}}",
    ):
        with pytest.raises(ModelRefusal, match=r"^E1004 PromptTemplateError"):
            filled(template + "{prompt}")
    with pytest.raises(ModelRefusal, match=r"^E1003 BadPromptTemplate"):
        filled("no place {system_prompt}")
    with pytest.raises(ModelRefusal, match=r"^E1001 PromptRequired"):
        filled("{prompt}", prompt="")
    with pytest.raises(ModelRefusal, match="as the template"):
        filled("{a long text}", prompt="Hi")


DIALOGUE = "[INST] Hi! [/INST]\nHello! How are you?\n[INST] I'm great, thanks for asking. Could you help me? [/INST]"
TOLD = "Hello! How are you? </s><s>[INST] I'm great, thanks for asking. Could you help me? [/INST]"


def test_dialogue_prompt_becomes_the_reference_format() -> None:
    assert as_reference(DIALOGUE, system_prompt="") == f"<s>[INST] Hi! [/INST] {TOLD}"
    assert (
        as_reference(DIALOGUE, system_prompt="Be kind.")
        == f"<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nHi! [/INST] {TOLD}"
    )
    marked = DIALOGUE.replace("[INST]", "<s>[INST]").replace("you?\n", "you? </s>")
    assert as_reference(marked, system_prompt="") == as_reference(DIALOGUE, system_prompt="")
    own = "[INST] <<SYS>>\nMine.\n<</SYS>>\n\nHi [/INST]"
    assert as_reference(own, system_prompt="Be kind.") == f"<s>{own}"
    assert as_reference("[INST] Hi [/INST] Once upon", system_prompt="") == "<s>[INST] Hi [/INST] Once upon"
    for text in (
        "Hi",
        "",
        "Say [INST]",
        "[INST] Hi",
        "[/INST] [INST]",
        "[INST] a [INST] b [/INST]",
        "x [INST] a [/INST]",
    ):
        assert as_reference(text, system_prompt="Be kind.") is None


def test_hand_written_dialogue_has_the_reference_token_ids() -> None:
    tokenizer = load_tokenizer(demo_checkpoint())
    by_hand = as_reference(DIALOGUE, system_prompt="Be kind.")
    assert by_hand is not None
    turns = (
        (Role.SYSTEM, "Be kind."),
        (Role.USER, "Hi!"),
        (Role.ASSISTANT, "Hello! How are you?"),
        (Role.USER, "I'm great, thanks for asking. Could you help me?"),
    )
    messages = [Message(role=role, content=content) for role, content in turns]
    prompts = encoder(tokenizer)
    assert prompts.raw_ids(by_hand) == prompts.chat_ids(messages)


def test_a_dialogue_is_recognised_only_in_the_models_own_template() -> None:
    own = to_core("m", values(prompt=DIALOGUE, system_prompt=""), default_template=TEMPLATE)
    assert own.prompt == RawPrompt(f"<s>[INST] Hi! [/INST] {TOLD}", is_llama2=True)
    bare = to_core("m", values(prompt=DIALOGUE, prompt_template="{prompt}"), default_template=TEMPLATE)
    assert bare.prompt == RawPrompt(DIALOGUE)


PIECES = [
    "",
    " ",
    "https:",
    "data:",
    "http",
    "s:",
    "a",
    " data:",
    "\n",
    "é",
    "\r",
    "\r\n",
    *"\v\f\x1c\x1d\x1e\x85\u2028\u2029",
]
"""Texts that some SSE client misreads."""
TOKENS = st.lists(st.sampled_from("\r\n\v") | st.sampled_from(PIECES), max_size=4).map("".join)


@given(st.lists(TOKENS, max_size=6), st.data())
def test_stream_equals_the_output_for_any_chunking_and_resumption(texts: list[str], data: st.DataObject) -> None:
    chunks = shown(texts)
    assert not any(chunk.startswith(("https:", "data:")) or chunk == "" for chunk in chunks)
    assert "".join(chunks) == "".join(texts).removeprefix(" ")
    for end in range(len(texts)):
        assert chunks[: len(shown(texts[:end]))] == shown(texts[:end])  # append-only
    joined = data.draw(st.lists(st.booleans(), min_size=len(texts), max_size=len(texts)))
    body = _stream(texts, joined)
    whole = parse(body)
    assert text_of(whole) == normalize_newlines("".join(chunks))
    assert not any(event.data.startswith(("https:", "data:")) for event in whole)
    assert _read_by_the_official_client(body) == SEPARATORS.sub("", normalize_newlines("".join(chunks)))
    assert [event.number for event in whole] == sorted({event.number for event in whole})
    again = data.draw(st.permutations(joined))
    for index, event in enumerate(whole[:-1]):
        rest = parse(_stream(texts, again, read_position(event.id, created_s=7)))
        assert text_of(rest) == text_of(whole[index + 1 :])
        assert all(one.number > event.number for one in rest)
        assert rest[-1].name == "done"


def test_resuming_with_another_text_is_an_error_also_within_a_token() -> None:
    texts = ["é", "ab\vcd\r"]
    for event in parse(_stream(texts, [False, False]))[1:3]:
        after = read_position(event.id, created_s=7)
        assert (after.number, after.beyond) == (2, Beyond.PART)
        for other in (["é", "aB\vcd\r"], ["é", "aB", "\vcd\r"], ["é", "a"], ["é"]):
            error, done = parse(_stream(other, [False] * len(other), after))
            assert (error.name, done.data) == ("error", '{"reason":"error"}')
            (again,) = parse(_stream(other, [False] * len(other), read_position(error.id, created_s=7)))
            assert again == done
        same = parse(_stream(["é", "ab", "\vcd", "\r"], [False] * 4, after))
        assert text_of(same) == ("cd\n" if event.data == "ab\v" else "\n")


def _stream(texts: list[str], joined: list[bool], after: Position = BEGINNING) -> str:
    """Stream of an event log of *texts*, joined to the previous one where *joined* is true."""
    words = Words(created_s=7, after=after, digest="{:08x}".format)
    bodies = [] if after.number else list(words.feed(1, Started(prompt_tokens=1, seed=1)))
    groups: list[tuple[int, str]] = []
    for number, (text, to_the_last) in enumerate(zip(texts, joined, strict=True), 2):
        if number > after.number:
            before = groups.pop()[1] if to_the_last and groups else ""
            groups.append((number, before + text))
    for number, text in groups:
        delta = Delta(choice=0, text=text, ids=(5,), logprobs=(-1.0,), completion_tokens=number)
        bodies += words.feed(number, delta)
    bodies += words.refuse() if words.differs(over=True) else words.end(None)
    return b"".join(bodies).decode()


def _read_by_the_official_client(body: str) -> str:
    """Parse the stream with replicate-python; returns its text."""
    response = httpx.Response(200, headers={"content-type": "text/event-stream"}, content=body.encode())
    return "".join(map(str, EventSource(Client(api_token="none"), response)))


def test_event_id_is_a_position_and_anything_else_is_the_start() -> None:
    assert read_position("7:13", created_s=7) == Position(number=3, beyond=Beyond.PART, characters=1)
    checked = Position(number=3, beyond=Beyond.PART, characters=25, digest="00ff12ab")
    assert read_position("7:13.25-00ff12ab", created_s=7) == checked
    assert read_position("7:12.25", created_s=7) == Position(number=3)
    assert read_position("7:15", created_s=7).beyond is Beyond.DONE
    for text in (
        None,
        "",
        "8:13",
        "7:x",
        "7:-1",
        "7:13 ",
        "7:13-",
        "7:13-00FF12AB",
        "7:13-0",
        "7:13.",
        "7:13.-1",
        "7" * 99,
        "७:1",
    ):
        assert read_position(text, created_s=7) == BEGINNING


def test_prefer_header_is_clamped_or_ignored() -> None:
    assert read_wait([]) is None
    for text, applied in {
        "wait": "wait", "wait=10": "wait=10", "wait=0": "wait=1", "wait=99": "wait=60", "WAIT=5": "wait=5",
        "respond-async, wait=5; x=1": "wait=5", 'wait="7"': "wait=7",
    }.items():  # fmt: skip
        wait = read_wait([text])
        assert wait is not None
        assert wait.applied == applied
        assert wait.timeout_s < 60
    for text in ("", "respond-async", "wait=x", "waiting", "wait=-1", "wait=1.5"):
        assert read_wait([text]) is None


def test_cancel_after_reads_durations_from_five_seconds_to_a_day() -> None:
    durations = {"5": 5, "30s": 30, "5m": 300, "1h": 3600, "1h30m45s": 5445, "7.5": 7.5, "24h": 86400, " 6S ": 6}
    for text, seconds in durations.items():
        assert read_cancel_after([text]) == seconds
    assert read_cancel_after([]) is None
    for text in ("", "4", "4s", "0", "-5", "5x", "s", "25h", "1e3", "5 s", "9" * 30, "m30", "1s1h"):
        with pytest.raises(InvalidInput):
            read_cancel_after([text])
    with pytest.raises(InvalidInput):
        read_cancel_after(["5s", "5s"])


def test_token_bucket_holds_one_minute_and_refills_evenly() -> None:
    now = [1000.0]
    rates = Rates(creates_per_minute=60, requests_per_minute=0, clock=lambda: now[0])
    ann = Caller(account_id="acct_a", key_id="key_a", scopes=frozenset())
    standings = [rates.take(ann, Kind.CREATE) for _ in range(61)]
    assert standings[0].headers == {"ratelimit-remaining": "59", "ratelimit-reset": "1"}
    assert standings[59].headers == {"ratelimit-remaining": "0", "ratelimit-reset": "60"}
    assert [standing.refused is None for standing in standings] == [True] * 60 + [False]
    assert standings[60].refused is not None
    assert standings[60].refused.retry_after_s == 1
    now[0] += 1
    assert rates.take(ann, Kind.CREATE).refused is None
    assert rates.take(ann, Kind.OTHER).headers == {"ratelimit-remaining": "59999", "ratelimit-reset": "1"}
    rich = Caller(account_id="acct_b", key_id="key_b", scopes=frozenset(), unlimited=True)
    assert {rates.take(rich, Kind.CREATE).headers["ratelimit-remaining"] for _ in range(99)} == {"59"}


def test_every_error_is_a_problem_object() -> None:
    for error in every_error():
        problem = from_error(error)
        assert problem.media_type == "application/problem+json"
        assert problem.body["status"] == problem.status
        assert isinstance(problem.body["title"], str)
        assert isinstance(problem.body["detail"], str)
    assert all(400 <= row.status < 600 for row in ERRORS.values())


def test_times_and_cursors_round_trip() -> None:
    assert rfc3339(1_694_507_401_050) == "2023-09-12T08:30:01.050Z"
    for text in ("2023-09-12T08:30:01.05Z", "2023-09-12T10:30:01.050+02:00", "2023-09-12T08:30:01.050"):
        assert read_time_ms(text, param="created_after") == 1_694_507_401_050
    assert read_id(after_id("0a" * 13)) == "0a" * 13
    for text in ("", "x", "!", "cD0", after_id("UPPER"), "é"):
        with pytest.raises(InvalidInput):
            read_id(text)
    with pytest.raises(InvalidInput):
        read_offset(after_id("a"))
    with pytest.raises(InvalidInput):
        read_time_ms("yesterday", param="created_after")


def test_too_large_template_expansion_is_rejected() -> None:
    with pytest.raises(ModelRefusal, match=r"E1002 .* more than 2097152 characters"):
        fill("{prompt}" * 100_000, prompt="a" * 1_000_000, system_prompt="")
    assert fill("{prompt} {prompt}", prompt="a" * 1_000_000, system_prompt="").count("a") == 2_000_000


def test_one_megabyte_dialogue_is_parsed_quickly() -> None:
    sandwich = "[INST] hi [/INST] a" + " " * 1_000_000 + "b [INST] more [/INST]"
    assert as_reference(sandwich, system_prompt="") == (
        "<s>[INST] hi [/INST] a" + " " * 1_000_000 + "b </s><s>[INST] more [/INST]"
    )
    for text in ("\n" * 1_000_000, "[INST]" * 300_000, "<s>" * 600_000):
        assert as_reference(text, system_prompt="") is None
