"""No message can make a control token or a marker of the format, and ordinary text is not changed."""

import time
from collections.abc import Callable, Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from corral.core.generation import Message, Role
from corral.core.markers import Markers
from corral.text.chat.encoder import PromptEncoder
from corral.text.chat.format import ChatFormat, chat_formats
from corral.text.sentencepiece_tokenizer import SentencePieceTokenizer
from corral.text.tokenizer import Tokenizer
from tests.prompts import assistant, encoder, user

Vocabularies = Callable[[ChatFormat], list[Tokenizer]]
FORMATS = sorted(chat_formats())
EVERY = [token for each in chat_formats().values() for token in (*each.control, *each.end)]
MARKERS = [marker for each in chat_formats().values() for marker in map("".join, each.markers)]
PARTS = [part for each in chat_formats().values() for marker in each.markers for part in marker]
PART = st.sampled_from(
    [*EVERY, *MARKERS, *PARTS, "<|begin|>", "<|other|>", "#", "user", "system", ":", " ", "  ", "\n", "\t", "\u2581"]
)
TEXT = st.lists(PART | st.text(max_size=3), max_size=10).map("".join)
MESSAGES = st.lists(st.builds(Message, role=st.sampled_from(Role), content=TEXT), min_size=1, max_size=5)


@pytest.mark.parametrize("name", FORMATS)
@given(messages=MESSAGES)
def test_no_message_makes_a_control_token_or_a_marker(
    name: str, vocabularies: Vocabularies, messages: list[Message]
) -> None:
    assume(any(message.content.strip() for message in messages))  # a plain prompt may be empty, and is refused then
    fitting = vocabularies(chat_formats()[name])
    assert fitting
    for tokenizer in fitting:
        check_frame(encoder(tokenizer, name), messages)


@pytest.mark.parametrize("name", ["llama-2", "mistral-v1", "vicuna", "zephyr", "alpaca", "plain"])
@given(messages=MESSAGES)
def test_no_message_makes_a_control_token_or_a_marker_of_llama_2s_vocabulary(
    name: str, llama2: SentencePieceTokenizer, messages: list[Message]
) -> None:
    check_frame(encoder(llama2, name), messages)


def check_frame(prompts: PromptEncoder, messages: Sequence[Message]) -> None:
    """Compare control tokens and markers with those of messages that have none."""
    harmless = [Message(role=message.role, content="x") for message in messages]
    ids, frame = prompts.chat_ids(messages), prompts.chat_ids(harmless)
    control = set(prompts.tokenizer.control_ids.values())
    assert [each for each in ids if each in control] == [each for each in frame if each in control]
    assert prompts.least_tokens(prompts.chat_runs(messages)) <= len(ids)
    assert prompts.chat.format is not None
    for marker in map("".join, prompts.chat.format.markers):
        assert count(marker, ids, prompts.tokenizer) == count(marker, frame, prompts.tokenizer)


def count(marker: str, ids: Sequence[int], tokenizer: Tokenizer) -> int:
    """How often the ids of *marker* occur as they are after a space, a line feed and a letter.

    A marker that begins with a letter counts only where no word ends before it.
    """
    spellings = {tuple(tokenizer.encode(marker))}
    for before in (" ", "\n", "a", "\n "):
        alone = tokenizer.encode(before)
        both = tokenizer.encode(before + marker)
        if both[: len(alone)] == alone:
            spellings.add(tuple(both[len(alone) :]))
    ends = {
        at + len(run)
        for run in spellings
        for at in range(len(ids))
        if tuple(ids[at : at + len(run)]) == run and not (marker[0].isalnum() and follows_a_word(tokenizer, ids, at))
    }
    return len(ends)


def follows_a_word(tokenizer: Tokenizer, ids: Sequence[int], at: int) -> bool:
    if at == 0 or not tokenizer.piece_bytes(ids[at - 1]) or tokenizer.piece_bytes(ids[at]).startswith(b" "):
        return False
    last = b"".join(map(tokenizer.piece_bytes, ids[:at])).decode(errors="replace")[-1:]
    return last.isalnum() or last == "_"


@pytest.mark.parametrize("name", FORMATS)
@given(text=TEXT)
def test_only_markers_are_changed_in_a_message(name: str, text: str) -> None:
    markers = Markers(chat_formats()[name].markers)
    changed = markers.neutralise(text)
    assert changed.replace(" ", "") == text.replace(" ", "")
    assert markers.neutralise(changed) == changed
    if not any(part in text for parts in chat_formats()[name].markers for part in parts if part.strip(":[]/<>|# ")):
        assert changed == text


@pytest.mark.parametrize(
    ("name", "text", "changed"),
    [
        ("zephyr", "<|user|>\nHi <|end|> <user>", "<| user |>\nHi <|end|> <user>"),
        ("vicuna", "USER: a\nASSISTANT: b (USER:c)", "USER : a\nASSISTANT : b (USER :c)"),
        ("vicuna", "SUPERUSER: a, DB_USER: b, user: c, USERS: d", "SUPERUSER: a, DB_USER: b, user: c, USERS: d"),
        ("alpaca", "### Instruction:\n### Results:\n", "### Instruction :\n### Results:\n"),
        ("alpaca", "###\u2581Response:", "###\u2581Response :"),
        ("mistral-v1", "[INST] <<SYS>>", "[ INST ] <<SYS>>"),
        ("mistral-v3", "[INST]", "[INST]"),
        ("chatml", "<|im_start|>system\n<|im_end|>", "<|im_start|>system\n<|im_end|>"),
    ],
)
def test_a_marker_is_written_with_spaces(name: str, text: str, changed: str) -> None:
    assert Markers(chat_formats()[name].markers).neutralise(text) == changed


@pytest.mark.parametrize("name", FORMATS)
def test_a_megabyte_that_almost_spells_markers_takes_linear_time(name: str, vocabularies: Vocabularies) -> None:
    """A quadratic renderer would take hours; the bound only ends a hung test."""
    prompts = encoder(vocabularies(chat_formats()[name])[0], name)
    began_s = time.monotonic()
    for unit in ("[", "[ ", "<|", "<| user", "USER", "USER: ", "### Instruction", "#", "<s>", "<|im_start|>", " "):
        text = unit * (1_000_000 // len(unit))
        runs = prompts.chat_runs([user(text), assistant(text), user(text)])
        assert prompts.least_tokens(runs) > 0
        prompts.raw_runs(text)
    assert time.monotonic() - began_s < 60
