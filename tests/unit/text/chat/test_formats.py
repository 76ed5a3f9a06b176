"""The chat formats: how each writes a conversation, and what its file may say."""

import re
from pathlib import Path

import msgspec
import pytest

from corral.core.errors import BadSetting, InvalidRequest, Unsupported
from corral.core.generation import Message
from corral.core.llama2_prompts import MARKERS
from corral.text.chat.encoder import PromptEncoder
from corral.text.chat.format import chat_formats, parse_format
from corral.text.chat.recognition import Recognised
from corral.text.chat.render import ChatRenderer
from tests.prompts import assistant, encoder, system, user
from tests.unit.text.chat.byte_level import byte_level_tokenizer

HI = [user("Hi")]
FULL = [system("Be kind."), user("Hi"), assistant("Hello."), user("Bye")]
OPEN = [user("Hi"), assistant("The answer is ")]
HEADER = "<|start_header_id|>{}<|end_header_id|>\n\n"
SYSTEM = HEADER.format("system")
DATES = SYSTEM + "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
USER, ANSWER = HEADER.format("user"), HEADER.format("assistant")
VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions."
)
ALPACA = "Below is an instruction that describes a task. Write a response that appropriately completes the request."


def written(name: str, messages: list[Message]) -> str:
    """A conversation in a format, as text with its control tokens."""
    chat_format = chat_formats()[name]
    renderer = ChatRenderer(chat_format, default_system=chat_format.system.default)
    return "".join(run if isinstance(run, str) else run.text for run in renderer.render(messages))


@pytest.mark.parametrize(
    ("name", "short", "full", "unfinished"),
    [
        (
            "llama-2",
            "<s>[INST] Hi [/INST]",
            "<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nHi [/INST] Hello. </s><s>[INST] Bye [/INST]",
            "<s>[INST] Hi [/INST] The answer is",
        ),
        (
            "llama-3",
            f"{USER}Hi<|eot_id|>{ANSWER}",
            f"{SYSTEM}Be kind.<|eot_id|>{USER}Hi<|eot_id|>{ANSWER}Hello.<|eot_id|>{USER}Bye<|eot_id|>{ANSWER}",
            f"{USER}Hi<|eot_id|>{ANSWER}The answer is",
        ),
        (
            "llama-3.1",
            f"{DATES}<|eot_id|>{USER}Hi<|eot_id|>{ANSWER}",
            f"{DATES}Be kind.<|eot_id|>{USER}Hi<|eot_id|>{ANSWER}Hello.<|eot_id|>{USER}Bye<|eot_id|>{ANSWER}",
            f"{DATES}<|eot_id|>{USER}Hi<|eot_id|>{ANSWER}The answer is",
        ),
        (
            "chatml",
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
            "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
            "<|im_start|>assistant\nHello.<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n",
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nThe answer is",
        ),
        (
            "mistral-v1",
            "[INST] Hi [/INST]",
            "[INST] Be kind.\n\nHi [/INST] Hello.</s>[INST] Bye [/INST]",
            "[INST] Hi [/INST] The answer is",
        ),
        (
            "mistral-v3",
            "[INST]Hi[/INST]",
            "[INST]Hi[/INST]Hello.</s>[INST]Be kind.\n\nBye[/INST]",
            "[INST]Hi[/INST]The answer is",
        ),
        (
            "vicuna",
            f"{VICUNA} USER: Hi ASSISTANT:",
            "Be kind. USER: Hi ASSISTANT: Hello.</s>USER: Bye ASSISTANT:",
            f"{VICUNA} USER: Hi ASSISTANT: The answer is",
        ),
        (
            "zephyr",
            "<|user|>\nHi</s>\n<|assistant|>\n",
            "<|system|>\nBe kind.</s>\n<|user|>\nHi</s>\n<|assistant|>\nHello.</s>\n<|user|>\nBye</s>\n<|assistant|>\n",
            "<|user|>\nHi</s>\n<|assistant|>\nThe answer is",
        ),
        (
            "alpaca",
            f"{ALPACA}\n\n### Instruction:\nHi\n\n### Response:\n",
            "Be kind.\n\n### Instruction:\nHi\n\n### Response:\nHello.\n\n### Instruction:\nBye\n\n### Response:\n",
            f"{ALPACA}\n\n### Instruction:\nHi\n\n### Response:\nThe answer is",
        ),
        (
            "qwen-3",
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
            "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
            "<|im_start|>assistant\nHello.<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n",
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\nThe answer is",
        ),
        ("plain", "Hi\n\n", "Be kind.\n\nHi\n\nHello.\n\nBye\n\n", "Hi\n\nThe answer is"),
    ],
)  # fmt: skip
def test_a_conversation_is_written_as_the_format_says(name: str, short: str, full: str, unfinished: str) -> None:
    assert written(name, HI) == short
    assert written(name, FULL) == full
    assert written(name, OPEN) == unfinished


def test_a_closed_answer_is_followed_by_what_the_format_says() -> None:
    told = [user("Hi"), assistant(" Hello. "), user(" Bye "), assistant("So long.\n")]
    assert written("chatml", told).endswith(
        "\n Hello. <|im_end|>\n<|im_start|>user\n Bye <|im_end|>\n<|im_start|>assistant\nSo long.\n"
    )
    assert (
        written("llama-3", told) == f"{USER}Hi<|eot_id|>{ANSWER}Hello.<|eot_id|>{USER}Bye<|eot_id|>{ANSWER}So long.\n"
    )


def test_system_messages_stand_where_the_format_has_them() -> None:
    late = [user("a"), system("A"), assistant("b"), user("c"), system("B"), user("d")]
    assert written("chatml", late).split("<|im_start|>")[1:] == [
        "user\na<|im_end|>\n", "system\nA<|im_end|>\n", "assistant\nb<|im_end|>\n", "user\nc<|im_end|>\n",
        "system\nB<|im_end|>\n", "user\nd<|im_end|>\n", "assistant\n",
    ]  # fmt: skip
    assert written("mistral-v1", late) == "[INST] A\n\nB\n\na [/INST] b</s>[INST] c\n\nd [/INST]"
    assert written("mistral-v3", late) == "[INST]a[/INST]b</s>[INST]A\n\nB\n\nc\n\nd[/INST]"
    assert written("vicuna", late) == "A\n\nB USER: a ASSISTANT: b</s>USER: c\n\nd ASSISTANT:"


def test_the_dates_of_llama_3_1_stand_in_the_first_system_turn_only() -> None:
    assert written("llama-3.1", [system(" A "), system("B"), user("c")]) == (
        f"{DATES}A<|eot_id|>{SYSTEM}B<|eot_id|>{USER}c<|eot_id|>{ANSWER}"
    )


def test_the_date_of_llama_3_1_is_a_parameter() -> None:
    later = msgspec.structs.replace(chat_formats()["llama-3.1"], parameters={"today": "1 Jan 2030"})
    runs = ChatRenderer(later, default_system="").render(HI)
    assert "Cutting Knowledge Date: December 2023\nToday Date: 1 Jan 2030\n\n" in "".join(map(str, runs))


def test_the_default_system_text_is_written_where_there_is_no_other() -> None:
    renderer = ChatRenderer(chat_formats()["chatml"], default_system="Be brief.")
    shown = ["".join(run for run in renderer.render(said) if isinstance(run, str)) for said in (HI, FULL)]
    assert shown[0].startswith("system\nBe brief.\nuser\nHi")
    assert shown[1].startswith("system\nBe kind.\nuser\nHi")
    assert "".join(map(str, ChatRenderer(chat_formats()["vicuna"], default_system=None).render(HI))).startswith(
        "USER: Hi"
    )


def test_an_empty_system_message_replaces_the_default_text() -> None:
    assert written("vicuna", [system(""), *HI]) == "USER: Hi ASSISTANT:"
    assert written("alpaca", [system(""), *HI]) == "### Instruction:\nHi\n\n### Response:\n"


def test_each_role_can_start_a_conversation() -> None:
    assert written("vicuna", [assistant("a"), user("b")]) == f"{VICUNA} USER:  ASSISTANT: a</s>USER: b ASSISTANT:"
    assert written("zephyr", [assistant("a"), user("b")]) == "<|assistant|>\na</s>\n<|user|>\nb</s>\n<|assistant|>\n"
    assert written("mistral-v3", [system("a")]) == "[INST]a\n\n[/INST]"


def test_thoughts_of_earlier_answers_are_left_out_where_the_format_says_so() -> None:
    thought, thinking = "<think>\nhm </think> no\n</think>\n\nb", "<think>\nso\n</think>\n\nd"
    told = [user("a"), assistant(thought), user("c"), assistant(thinking)]
    assert written("qwen-3", told) == (
        "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
        "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n" + thinking
    )
    assert thought in written("chatml", told)


def test_every_format_has_a_row_in_the_documentation() -> None:
    page = Path(__file__).parents[4] / "docs" / "chat-formats.md"
    rows = re.findall(r"^\| `([^`]+)` \|", page.read_text(encoding="utf-8"), re.M)
    assert sorted(rows) == sorted(chat_formats())


@pytest.mark.parametrize("name", sorted(chat_formats()))
def test_an_empty_conversation_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="messages must not be empty"):
        written(name, [])


def test_the_markers_of_llama_2_are_those_that_its_prompts_are_read_by() -> None:
    assert chat_formats()["llama-2"].markers == MARKERS


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("stop = 1", "unknown field `stop`"),
        ('[user]\nprefix = ""\nstrip = true', "unknown field `strip` - at `$.user`"),
        ('strip = "yes"', "Expected `bool`, got `str` - at `$.strip`"),
        ('control = ["<s>"]', "control lists <s>, which no prefix or suffix contains"),
        ('[system]\nplace = "last user"', "system.place is 'last user', which needs alternates = true"),
        ('[system]\nplace = "middle"', "Invalid enum value 'middle' - at `$.system.place`"),
        ('[system]\nplace = "turn"\nopening = "{when}"', "system.opening has {when}, which parameters do not give"),
        ("[", "at line 1, column 2"),
    ],
)
def test_a_format_that_is_not_valid_is_refused_by_its_key(document: str, said: str) -> None:
    tables = "".join(f"\n[{role}]" for role in ("user", "assistant") if f"[{role}]" not in document)
    system_table = "" if "[system]" in document else '\n[system]\nplace = "turn"'
    with pytest.raises(BadSetting) as refusal:
        parse_format("mine", f"{document}{system_table}{tables}\n")
    assert str(refusal.value).startswith("chat format mine: ")
    assert said in str(refusal.value)


def test_a_format_needs_its_control_tokens_in_the_vocabulary() -> None:
    chatml = chat_formats()["chatml"]
    assert chatml.misfit(byte_level_tokenizer(["<|im_start|>", "<|im_end|>"])) is None
    assert chatml.misfit(byte_level_tokenizer(["<|im_start|>"])) == (
        "The chat format chatml needs the control token <|im_end|>, which is not in the vocabulary."
    )


def test_a_format_does_not_fit_a_vocabulary_that_has_its_markers_as_control_tokens() -> None:
    assert chat_formats()["zephyr"].misfit(byte_level_tokenizer(["</s>", "<|user|>"])) == (
        "The chat format zephyr writes <|user|> as text, but it is a control token of the vocabulary."
    )
    assert chat_formats()["mistral-v1"].misfit(byte_level_tokenizer(["</s>", "[INST]", "[/INST]"])) is not None


def test_a_deployment_without_a_format_refuses_chats_and_names_the_formats() -> None:
    prompts = PromptEncoder(byte_level_tokenizer(["</s>"]), Recognised(format=None, evidence="The test says so."))
    with pytest.raises(Unsupported, match="chat_format to one of alpaca, mistral-v1, plain, vicuna, zephyr") as refusal:
        prompts.chat_ids(HI)
    assert refusal.value.param == "messages"
    assert prompts.format_name is None
    assert prompts.raw_ids("Hi") == prompts.tokenizer.encode("Hi")


def test_the_end_ids_are_those_of_the_format_and_of_the_vocabulary() -> None:
    tokenizer = byte_level_tokenizer(["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|stop|>"], ends=["<|stop|>"])
    assert encoder(tokenizer, "chatml").end_ids == {
        tokenizer.control_ids[text] for text in ("<|im_end|>", "<|endoftext|>", "<|stop|>")
    }
    assert encoder(tokenizer, "plain").end_ids == tokenizer.end_ids
    assert encoder(tokenizer, "chatml").eos_text == "<|im_end|>"
    assert encoder(tokenizer, "plain").eos_text == "<|stop|>"
    assert encoder(byte_level_tokenizer([]), "plain").eos_text == ""
