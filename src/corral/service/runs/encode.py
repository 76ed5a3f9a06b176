"""Encode the prompts of requests: in a chat format, as they are, or from Llama 2's chat format into the model's own."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from corral.catalog.model import CatalogModel
from corral.core.errors import InvalidRequest, PromptTooLong
from corral.core.generation import ChatPrompt, Prompt, RawPrompt, TokenPrompt
from corral.core.llama2_prompts import Llama2Prompts, parse_llama2_prompt
from corral.deployments.deployment import Deployment
from corral.text.chat.encoder import PromptEncoder
from corral.text.chat.runs import Run

LLAMA2: Final = "llama-2"
_LONG_PROMPT_CHARS: Final = 2000
"""From here on a prompt is encoded in a thread: encoding so many Chinese characters takes two milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedPrompt:
    """Token ids of a prompt, and what made them."""

    ids: tuple[int, ...]
    format: str
    """Name of the chat format, ``raw``, ``tokens``, or ``llama-2 → …``: parsed, and rendered in the other format."""


async def encode_prompt(prompt: Prompt, model: CatalogModel, deployment: Deployment) -> EncodedPrompt:
    """Encode a prompt for the deployment of *model*.

    Raises:
        InvalidRequest: it is no chat, not valid Unicode, or not in the format that the settings ask for.
        Unsupported: the deployment has no chat format.
        PromptTooLong: it cannot fit, whatever its exact number of tokens.
    """
    if isinstance(prompt, TokenPrompt):
        return EncodedPrompt(ids=prompt.ids, format="tokens")
    if _chars(prompt) < _LONG_PROMPT_CHARS:
        return _encode(prompt, model, deployment)
    return await asyncio.to_thread(_encode, prompt, model, deployment)


def _chars(prompt: ChatPrompt | RawPrompt) -> int:
    if isinstance(prompt, RawPrompt):
        return len(prompt.text)
    return sum(len(message.content) for message in prompt.messages)


def _encode(prompt: ChatPrompt | RawPrompt, model: CatalogModel, deployment: Deployment) -> EncodedPrompt:
    prompts, room_tokens = deployment.prompts, deployment.limits.room_tokens
    if isinstance(prompt, ChatPrompt):
        runs = prompts.chat_runs(prompt.messages)
        return EncodedPrompt(ids=_ids(runs, prompts, room_tokens, "messages"), format=prompts.format_name or "raw")
    if _is_read_as_llama2(prompt, model, deployment):
        if (messages := parse_llama2_prompt(prompt.text)) is not None:
            ids = _ids(prompts.chat_runs(messages), prompts, room_tokens, "prompt")
            return EncodedPrompt(ids=ids, format=f"{LLAMA2} → {prompts.format_name}")
        if deployment.llama2_prompts.refuses_others:
            raise InvalidRequest(
                f"The prompt of {model.id} must be in Llama 2's chat format, [INST] … [/INST]; it is rendered in the "
                f"model's own format, {prompts.format_name}. Or send messages.",
                param="prompt",
            )
    return EncodedPrompt(ids=_ids(prompts.raw_runs(prompt.text), prompts, room_tokens, "prompt"), format="raw")


def _is_read_as_llama2(prompt: RawPrompt, model: CatalogModel, deployment: Deployment) -> bool:
    """Whether a raw prompt is parsed: its model is known to be prompted so, or the API wrote it so, or by setting."""
    if deployment.prompts.format_name in {None, LLAMA2}:
        return False
    match deployment.llama2_prompts:
        case Llama2Prompts(read="never"):
            return False
        case Llama2Prompts(read="always"):
            return True
        case _:
            return prompt.is_llama2 or model.chat_format == LLAMA2


def _ids(runs: Sequence[Run], prompts: PromptEncoder, room_tokens: int, param: str) -> tuple[int, ...]:
    # Before it is encoded: that would take seconds for megabytes.
    if (least_tokens := prompts.least_tokens(runs)) >= room_tokens:
        raise PromptTooLong(prompt_tokens=least_tokens, context_tokens=room_tokens, param=param, is_estimate=True)
    return tuple(prompts.encode(runs, param=param))
