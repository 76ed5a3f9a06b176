"""Write the answers to ten fixed conversations, as the shipped weights give them at temperature 0.

Run from the repository root: ``python -m training.demo.ten_prompts tests/unit/demo/ten_prompts.toml``.
It fails where 8-bit weights would answer differently: the test runs on both.
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
from training.demo.evaluate import greedy, quantized
from training.demo.model import Llama, LlamaShape

DEMO = Path("src/corral/demo")
_CHEF = "Respond like a michelin starred chef."
_LAMB = "Can you name at least two different techniques to cook lamb?"
_SINGLE = (
    ("greeting", None, "Hello!"),
    ("llama", None, "What is a llama?"),
    ("token", None, "What is a token?"),
    ("prices", None, "How much does it cost?"),
    ("openai door", None, "How do I use this server with the OpenAI client?"),
    ("replicate door", None, "How do I use this server with the Replicate client?"),
    ("poem", None, "Write a poem about open source machine learning"),
    ("chef", _CHEF, _LAMB),
    ("unknown", None, "What is the capital of France?"),
)

logger = logging.getLogger("training.demo")


def ten_conversations() -> list[tuple[str, Conversation]]:
    """Return the conversations by name; every last answer is empty."""
    listed = [(name, Conversation((Turn(question, ""),), system)) for name, system, question in _SINGLE]
    history = load_corpus().chef["dialogue"][0]["history"]
    turns = (Turn(_LAMB, history), Turn("Tell me more about the second method.", ""))
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
    eight_bit = quantized(model)
    entries: list[dict[str, Any]] = []
    for name, conversation in ten_conversations():
        prompt = encoder.prompt(conversation)
        answer = encoder.decode(greedy(model, prompt))
        if answer != encoder.decode(greedy(eight_bit, prompt)):
            raise SystemExit(f"8-bit weights answer {name!r} differently")
        logger.info("%s: %s", name, answer)
        entries.append({"name": name, "messages": messages_of(conversation), "answer": answer})
    Path(sys.argv[1]).write_text(as_toml(entries), encoding="utf-8")


if __name__ == "__main__":
    main()
