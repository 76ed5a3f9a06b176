"""Write ten fixed conversations with the answers that the shipped weights give at temperature 0.

Run from the repository root: ``python -m training.demo.ten_prompts tests/unit/demo/ten_prompts.toml``.
It writes nothing unless BF16 and 8-bit weights both give every answer to the token: a test runs on either.
"""

import json
import logging
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from training.demo.corpus import Conversation, Turn, load_corpus
from training.demo.encoding import Encoder
from training.demo.evaluate import exact, quantized
from training.demo.model import Llama, LlamaShape

DEMO = Path("src/corral/demo")
_CHEF = "Respond like a michelin starred chef."
_LAMB = "Can you name at least two different techniques to cook lamb?"
_SINGLE = (
    ("greeting", "hello", None, "Hello!"),
    ("llama", "llama_animal", None, "What is a llama?"),
    ("token", "token", None, "What is a token?"),
    ("prices", "prices", None, "How much does it cost?"),
    ("openai door", "openai_door", None, "What base_url do I use for the OpenAI client?"),
    ("replicate door", "replicate_door", None, "How do I use this server with the Replicate client?"),
    ("poem", "poem_oss", None, "Write a poem about open source machine learning"),
    ("chef", "lamb", _CHEF, _LAMB),
    ("unknown", None, None, "What is the capital of France?"),
)

logger = logging.getLogger("training.demo")


def ten_conversations() -> list[tuple[str, Conversation]]:
    """Return the conversations by name, with the answers that the corpus teaches."""
    corpus = load_corpus()
    listed: list[tuple[str, Conversation]] = []
    for name, intent, system, question in _SINGLE:
        answer = corpus.fallback_answer(chef=False)
        if intent is not None:
            answer = corpus.answer_to(intent, chef=system is not None)
        listed.append((name, Conversation((Turn(question, answer),), system)))
    dialogue = corpus.chef["dialogue"][0]
    more = Turn("Tell me more about the second method.", dialogue["follow_up"][0]["answer"].strip())
    turns = (Turn(_LAMB, dialogue["history"], learn=False), more)
    listed.insert(8, ("chef, second method", Conversation(turns, _CHEF)))
    return listed


def shipped_model(folder: Path) -> tuple[Llama, Encoder]:
    """Load the shipped weights as float32, with their tokenizer."""
    model = Llama(LlamaShape())
    model.load_state_dict({name: weight.float() for name, weight in load_file(folder / "model.safetensors").items()})
    return model.eval(), Encoder(Tokenizer.from_file(str(folder / "tokenizer.json")))


def messages_of(conversation: Conversation) -> list[dict[str, str]]:
    """Return a conversation as chat messages, its last answer left out."""
    messages: list[dict[str, str]] = []
    if conversation.system is not None:
        messages.append({"role": "system", "content": conversation.system})
    for turn in conversation.turns:
        messages.append({"role": "user", "content": turn.user})
        messages.append({"role": "assistant", "content": turn.answer})
    return messages[:-1]


def as_toml(entries: list[dict[str, Any]]) -> str:
    """Write the prompts as TOML; a JSON string is a TOML string too."""
    lines = ["# Ten conversations and the demo model's exact answers at temperature 0."]
    for entry in entries:
        lines += ["", "[[prompt]]", f"name = {json.dumps(entry['name'])}", "messages = ["]
        lines += [
            f'  {{role = "{message["role"]}", content = {json.dumps(message["content"])}}},'
            for message in entry["messages"]
        ]
        lines += ["]", f"answer = {json.dumps(entry['answer'])}"]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Answer the prompts with both kinds of weights and write the file."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(2)
    model, encoder = shipped_model(DEMO)
    listed = ten_conversations()
    conversations = [conversation for _, conversation in listed]
    verdicts = exact(model, encoder, conversations)
    eight_bit = exact(quantized(model), encoder, conversations)
    for (name, _), *right in zip(listed, verdicts, eight_bit, strict=True):
        logger.info("%s: bf16 %s, int8 %s", name, *right)
    if not all(verdicts + eight_bit):
        raise SystemExit("Some answers differ; nothing was written.")
    entries = [
        {"name": name, "messages": messages_of(conversation), "answer": conversation.turns[-1].answer}
        for name, conversation in listed
    ]
    Path(sys.argv[1]).write_text(as_toml(entries), encoding="utf-8")


if __name__ == "__main__":
    main()
