"""Evaluation of the trained model: greedy answers, held-out accuracy, and robustness to int8."""

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor

from training.demo.batches import pad
from training.demo.corpus import Conversation
from training.demo.encoding import IGNORED, Encoder
from training.demo.model import Llama
from training.demo.tokenizer import EOS_ID


@torch.inference_mode()
def greedy(model: Llama, prompt: list[int], max_tokens: int = 400) -> list[int]:
    """Return the likeliest continuation of a prompt, EOS left out; no cache, so slow."""
    ids = list(prompt)
    while len(ids) < len(prompt) + max_tokens:
        tokens = torch.tensor([ids])
        states = model.hidden_states(tokens, torch.arange(len(ids))[None])
        best = int(model.logits(states[0, -1]).argmax())
        if best == EOS_ID:
            break
        ids.append(best)
    return ids[len(prompt) :]


@torch.inference_mode()
def exact(model: Llama, encoder: Encoder, conversations: Sequence[Conversation]) -> list[bool]:
    """Return for each conversation whether the greedy last answer is the expected one, to the token.

    Greedy decoding gives the expected answer exactly if every label is the likeliest token.
    """
    verdicts: list[bool] = []
    for start in range(0, len(conversations), 16):
        batch = pad([encoder.sample(item) for item in conversations[start : start + 16]])
        states = model.hidden_states(batch.ids, batch.positions)
        best: Tensor = model.logits(states).argmax(-1)  # (samples, tokens)
        verdicts += ((best == batch.labels) | (batch.labels == IGNORED)).all(dim=1).tolist()
    return verdicts


@torch.inference_mode()
def rounded(model: Llama) -> Llama:
    """Return a float32 copy whose weights are rounded to BF16, as the file stores them."""
    copy = deepcopy(model)
    for weight in copy.parameters():
        weight.copy_(weight.to(torch.bfloat16))
    return copy.eval()


@torch.inference_mode()
def quantized(model: Llama) -> Llama:
    """Return a copy whose matrices are rounded to int8, one scale per output row."""
    copy = deepcopy(model)
    for weight in copy.parameters():
        if weight.dim() == 2:
            scale = weight.abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / 127
            weight.copy_((weight / scale).round().clamp(-127, 127) * scale)
    return copy.eval()
