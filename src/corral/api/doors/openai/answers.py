"""Build response bodies: chat completions, completions, models, estimates."""

import orjson

from corral.api.answer_ids import hex_id
from corral.api.doors.openai.logprobs import LegacyTokens, chat_logprobs
from corral.api.doors.openai.wire_answers import (
    ChatChoice,
    ChatCompletion,
    Completion,
    CompletionChoice,
    CostEstimate,
    Model,
    ModelList,
    WireUsage,
)
from corral.catalog.model import CatalogModel
from corral.core.caller import Caller
from corral.core.generation import Choice, Echo, GenerationResult, Usage
from corral.core.pricing import Price, usd
from corral.deployments.status import DeploymentStatus, public_text
from corral.service.ports import Estimate, PredictionEvents, Predictions

_MILLION = 10**6


def answer_id(prefix: str, run: PredictionEvents) -> str:
    """Public id of a response; derived from the prediction, so it is stable."""
    return prefix + hex_id(run.id)


def created_s(run: PredictionEvents) -> int:
    """Unix time in seconds."""
    return run.created_at_ms // 1000


def from_chat(
    run: PredictionEvents, model: str, result: GenerationResult, *, top_logprobs: int | None
) -> ChatCompletion:
    """Build a chat completion.

    Args:
        run: whose answer it is.
        model: as the caller spelt it.
        result: what it gave.
        top_logprobs: how many log probabilities a token; None shows none at all.
    """
    return {
        "id": answer_id("chatcmpl-", run),
        "object": "chat.completion",
        "created": created_s(run),
        "model": model,
        "choices": [_chat_choice(index, choice, top_logprobs) for index, choice in enumerate(result.choices)],
        "usage": from_usage(result.usage, run.price),
    }


def _chat_choice(index: int, choice: Choice, top_logprobs: int | None) -> ChatChoice:
    answer: ChatChoice = {
        "index": index,
        "message": {"role": "assistant", "content": choice.text},
        "finish_reason": choice.reason.value,
    }
    if top_logprobs is not None:
        answer["logprobs"] = chat_logprobs(choice.pieces, choice.logprobs, top=top_logprobs)
    return answer


def from_completion(
    run: PredictionEvents, model: str, result: GenerationResult, *, top_logprobs: int | None
) -> Completion:
    """Build a completion; see ``from_chat``. With echo, each choice begins with the prompt."""
    return {
        "id": answer_id("cmpl-", run),
        "object": "text_completion",
        "created": created_s(run),
        "model": model,
        "choices": [
            _completion_choice(index, choice, result.echo, top_logprobs) for index, choice in enumerate(result.choices)
        ],
        "usage": from_usage(result.usage, run.price),
    }


def _completion_choice(index: int, choice: Choice, echo: Echo | None, top_logprobs: int | None) -> CompletionChoice:
    logprobs = None
    if top_logprobs is not None:
        pieces, values = ((), ()) if echo is None else (echo.pieces, echo.logprobs)
        logprobs = LegacyTokens(top=top_logprobs).feed((*pieces, *choice.pieces), (*values, *choice.logprobs))
    return {
        "index": index,
        "text": ("" if echo is None else echo.text) + choice.text,
        "logprobs": logprobs,
        "finish_reason": choice.reason.value,
    }


def from_usage(usage: Usage, price: Price) -> WireUsage:
    """Token counts and their cost."""
    cost_nusd = price.cost_nusd(prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens)
    return {
        "prompt_tokens": usage.prompt_tokens,
        "total_tokens": usage.total_tokens,
        "completion_tokens": usage.completion_tokens,
        "estimated_cost": dollars(cost_nusd),
    }


def dollars(nusd: int) -> orjson.Fragment:
    """Exact decimal dollars as a JSON number."""
    return orjson.Fragment(usd(nusd))


def from_model(model: CatalogModel, price: Price, deployment: DeploymentStatus) -> Model:
    """An entry of ``GET /v1/models``; ``metadata`` as DeepInfra has it, ``corral`` says what really answers."""
    return {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": model.owner,
        "root": model.id,
        "parent": None,
        "metadata": {
            "description": model.description,
            "context_length": model.context_tokens,
            "max_tokens": model.context_tokens,
            "pricing": {
                "input_tokens": dollars(price.input_nusd * _MILLION),
                "output_tokens": dollars(price.output_nusd * _MILLION),
            },
            "tags": [],
        },
        "corral": {"weights": model.weights, "stands_in": model.stands_in, "state": public_text(deployment.state)},
    }


def model_list(predictions: Predictions, caller: Caller, *, now_s: float) -> ModelList:
    """The body of ``GET /v1/models``: those that the caller's key may ask for."""
    served = [model for model in predictions.catalog.models() if caller.may_use(model.id)]
    return {
        "object": "list",
        "data": [from_model(model, model.price_at(now_s), predictions.deployment_of(model)) for model in served],
    }


def from_estimate(model: str, estimate: Estimate) -> CostEstimate:
    """Cost estimate of a request; *model* as the caller spelled it."""
    return {
        "model": model,
        "prompt_tokens": estimate.prompt_tokens,
        "max_completion_tokens": estimate.max_completion_tokens,
        "input_price": dollars(estimate.price.input_nusd * _MILLION),
        "output_price": dollars(estimate.price.output_nusd * _MILLION),
        "prompt_cost": dollars(estimate.prompt_nusd),
        "worst_case_cost": dollars(estimate.worst_case_nusd),
        "price_version": estimate.price.version,
    }
