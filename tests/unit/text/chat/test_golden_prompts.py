"""Five conversations in each format, as the families' own templates and encoders write them.

Each file in ``golden`` says how it was made and in which ways Corral differs on purpose. Texts and control tokens are
compared everywhere, ids where the vocabulary is at hand.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from corral.core.generation import Message, Role
from corral.text.chat.encoder import PromptEncoder
from corral.text.chat.format import chat_formats
from corral.text.chat.recognition import Recognised
from corral.text.chat.render import ChatRenderer
from corral.text.chat.runs import ControlToken, Run
from tests.unit.text.chat.published import vocabulary

GOLDEN = Path(__file__).parent / "golden"
CONVERSATIONS = {
    each["name"]: [Message(role=Role(message["role"]), content=message["content"]) for message in each["messages"]]
    for each in json.loads((GOLDEN / "conversations.json").read_text())
}
FILES = sorted(path for path in GOLDEN.glob("*.json") if path.name != "conversations.json")


def read(path: Path) -> tuple[dict[str, Any], str | None]:
    """A golden file, and the system text of conversations without one."""
    golden = json.loads(path.read_text())
    return golden, golden.get("default_system", chat_formats()[golden["format"]].system.default)


def run_of(written: str | dict[str, str]) -> Run:
    return written if isinstance(written, str) else ControlToken(written["control"])


def test_there_are_five_golden_prompts_of_every_format() -> None:
    goldens = [read(path)[0] for path in FILES]
    assert {golden["format"] for golden in goldens} == set(chat_formats())
    for golden in goldens:
        assert [prompt["name"] for prompt in golden["prompts"]] == list(CONVERSATIONS)
        assert golden["made"]


@pytest.mark.parametrize("name", CONVERSATIONS)
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_conversation_has_the_texts_and_control_tokens_of_the_published_format(path: Path, name: str) -> None:
    golden, default_system = read(path)
    renderer = ChatRenderer(chat_formats()[golden["format"]], default_system=default_system)
    expected = next(prompt for prompt in golden["prompts"] if prompt["name"] == name)
    assert renderer.render(CONVERSATIONS[name]) == [run_of(run) for run in expected["runs"]]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_conversation_has_the_ids_of_the_published_encoder(path: Path) -> None:
    golden, default_system = read(path)
    tokenizer = vocabulary(golden["vocabulary"])
    chat_format = chat_formats()[golden["format"]]
    assert chat_format.misfit(tokenizer) is None
    chat = Recognised(format=chat_format, default_system=default_system, evidence="The test says so.")
    prompts = PromptEncoder(tokenizer, chat)
    for prompt in golden["prompts"]:
        assert prompts.chat_ids(CONVERSATIONS[prompt["name"]]) == prompt["ids"], prompt["name"]
