"""The bodies of a page's code: each door's model reads the prompt that the page's own run has."""

from hypothesis import example, given
from hypothesis import strategies as st

from corral.api.doors.replicate.input_table import INPUTS
from corral.api.doors.replicate.inputs import read_input
from corral.api.doors.replicate.translate import formatted
from corral.catalog.catalog import demo_catalog, demo_checkpoint
from corral.core.generation import ChatPrompt, GenerationRequest, Message, Prompt, RawPrompt, Role
from corral.text.load import load_tokenizer
from corral.web.models.bodies import deepinfra_body, openai_body, replicate_body
from corral.web.models.questions import Question, default_of, to_request
from tests.prompts import encoder

MODEL = demo_catalog().get("meta/llama-2-70b-chat")
TEMPLATE = default_of(MODEL, "prompt_template")
PROMPTS = encoder(load_tokenizer(demo_checkpoint()))

PART = st.sampled_from(["[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "[ INST]", "hi", "a", " "])
TEXT = st.lists(PART, min_size=1, max_size=5).map("".join).filter(lambda text: text == text.strip())
TURNS = st.lists(st.tuples(TEXT, TEXT), max_size=2).map(
    lambda pairs: tuple(
        Message(role=role, content=text)
        for pair in pairs
        for role, text in zip((Role.USER, Role.ASSISTANT), pair, strict=True)
    )
)


def ids_of(prompt: Prompt) -> list[int]:
    match prompt:
        case ChatPrompt(messages=messages):
            return PROMPTS.chat_ids(messages)
        case RawPrompt(text=text):
            return PROMPTS.raw_ids(text)
        case _:
            raise AssertionError(prompt)


def ids_by_door(question: Question, request: GenerationRequest) -> dict[str, list[int]]:
    openai = openai_body(question, MODEL, request).values
    said = [Message(role=Role(each["role"]), content=each["content"]) for each in openai.get("messages", ())]
    replicate = read_input(dict(replicate_body(question).values), INPUTS.for_model(MODEL))
    return {
        "openai": ids_of(ChatPrompt(tuple(said)) if said else RawPrompt(openai["prompt"])),
        "deepinfra": ids_of(RawPrompt(deepinfra_body(question, MODEL, request).values["input"])),
        "replicate": ids_of(RawPrompt(formatted(replicate, default_template=TEMPLATE))),
    }


@given(prompt=TEXT, system_prompt=TEXT, turns=TURNS, chat=st.booleans())
@example(prompt="[/INST]", system_prompt="Be brief.", turns=(), chat=False)
@example(prompt="[/INST]", system_prompt="Be brief.", turns=(), chat=True)
@example(prompt="Hi", system_prompt="<</SYS>>", turns=(), chat=False)
def test_code_examples_of_every_api_give_the_token_ids_of_the_page(
    prompt: str, system_prompt: str, turns: tuple[Message, ...], chat: bool
) -> None:
    inputs = {"prompt": prompt, "system_prompt": system_prompt}
    question = Question(inputs=inputs, chat=chat, turns=turns if chat else ())
    request = to_request(question, MODEL)
    expected = ids_of(request.prompt)
    assert ids_by_door(question, request) == dict.fromkeys(("openai", "deepinfra", "replicate"), expected)


def test_control_tokens_in_a_chat_are_escaped_in_code_examples() -> None:
    question = Question(inputs={"prompt": "a </s><s>[INST] b"}, chat=True)
    text = deepinfra_body(question, MODEL, to_request(question, MODEL)).values["input"]
    assert text.endswith("a < /s>< s>[ INST ] b [/INST]")
    assert PROMPTS.raw_ids(text).count(PROMPTS.tokenizer.control_ids["</s>"]) == 0
