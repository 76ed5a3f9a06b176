"""Answer twenty questions greedily with SmolLM2, its weights dequantized to float32, in Transformers.

The answers are what ``tests/oracle/test_smollm2.py`` compares the engine with. To make them again, in a virtual
environment with torch 2.13.0, transformers 5.24.0 and gguf 0.19.0, from the root of the repository::

    python -m training.reference.smollm2 SmolLM2-135M-Instruct.Q4_1.gguf tests/oracle/data/smollm2_answers.json
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from gguf import GGUFReader
from gguf.quants import dequantize
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

QUESTIONS = (
    "What is the capital of France?",
    "Who wrote the play Romeo and Juliet?",
    "What is 7 times 8?",
    "Name three primary colors.",
    "Why is the sky blue?",
    "Write a haiku about the sea.",
    "What is the boiling point of water in degrees Celsius?",
    "Translate 'good morning' into Spanish.",
    "How many days are in a leap year?",
    "What does a botanist study?",
    "Give me a recipe for pancakes.",
    "Explain what a prime number is.",
    "Which planet is closest to the sun?",
    "Write a Python function that adds two numbers.",
    "What is the opposite of cold?",
    "Who painted the Mona Lisa?",
    "Summarize the story of Cinderella in one sentence.",
    "What is photosynthesis?",
    "List the months of the year.",
    "How do I politely decline an invitation?",
)
ANSWER_TOKENS = 32
END_ID = 2
NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "model.layers": "blk",
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
}


def load_model(path: Path) -> LlamaForCausalLM:
    """Build the model with the values that the blocks of the file stand for."""
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        rms_norm_eps=float(np.float32(1e-5)),
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 100_000.0},
    )
    model = LlamaForCausalLM(config).to(torch.float32).eval()
    held = {tensor.name: tensor for tensor in GGUFReader(path).tensors}
    weights: dict[str, Any] = {}
    for name, parameter in model.named_parameters():
        in_file = name
        for ours, theirs in NAMES.items():
            in_file = in_file.replace(ours, theirs)
        values = np.ascontiguousarray(dequantize(held[in_file].data, held[in_file].tensor_type), np.float32)
        heads = {"q_proj": 9, "k_proj": 3}.get(name.split(".")[-2], 0)
        if heads:
            values = values.reshape(heads, len(values) // heads // 2, 2, -1).swapaxes(1, 2)
        weights[name] = torch.tensor(values.reshape(tuple(parameter.shape)))
    model.load_state_dict(weights, strict=False)
    return model


@torch.no_grad()
def answer(model: LlamaForCausalLM, prompt_ids: list[int]) -> list[int]:
    """Greedy tokens, at most 32, with the end token if it comes."""
    ids: list[int] = []
    cache, following = None, torch.tensor([prompt_ids])
    while len(ids) < ANSWER_TOKENS and END_ID not in ids:
        output = model(following, past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        ids.append(int(output.logits[0, -1].argmax()))
        following = torch.tensor([[ids[-1]]])
    return ids


def main() -> None:
    """Write the answers: ``python -m training.reference.smollm2 MODEL.gguf OUTPUT.json``."""
    path, target = map(Path, sys.argv[1:])
    model = load_model(path)
    tokenizer = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
    answers: list[dict[str, object]] = []
    for question in QUESTIONS:
        messages = [{"role": "user", "content": question}]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        prompt_ids = tokenizer.encode(text, add_special_tokens=False)
        ids = answer(model, prompt_ids)
        answers.append({"question": question, "prompt_ids": prompt_ids, "ids": ids})
    document = {
        "made_by": "python -m training.reference.smollm2",
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "answers": answers,
    }
    lines = json.dumps(document, indent=1).replace("\n    ", " ").replace("\n   ]", " ]")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(lines + "\n")


if __name__ == "__main__":
    main()
