"""Build response bodies and webhook payloads from results and predictions."""

from collections.abc import Mapping
from itertools import zip_longest
from typing import Any

import orjson

from corral.api.answer_ids import request_id
from corral.api.doors.deepinfra.wire_answers import InferenceAnswer
from corral.core.generation import Choice, GenerationResult, Usage
from corral.core.prediction import Prediction, Status
from corral.core.pricing import Price, usd
from corral.service.ports import PredictionEvents


def from_result(run: PredictionEvents, result: GenerationResult, *, before: str, runtime_ms: int) -> InferenceAnswer:
    """Build the response of a finished request.

    Args:
        run: whose answer it is.
        result: what it gave.
        before: what each text begins with: the prompt, where that is to be given back.
        runtime_ms: how long the caller waited.
    """
    texts = [before + generated_text(choice) for choice in result.choices]
    return _answer(run.id, texts, result.usage, cost_nusd=cost_nusd(result.usage, run.price), runtime_ms=runtime_ms)


def from_queued(prediction_id: str) -> InferenceAnswer:
    """Build the immediate response to a request with a webhook."""
    nothing = Usage(prompt_tokens=0, completion_tokens=0)
    answer = _answer(prediction_id, [], nothing, cost_nusd=0, runtime_ms=0)
    answer["inference_status"]["status"] = "queued"
    return answer


def from_prediction(prediction: Prediction) -> InferenceAnswer:
    """Build the webhook payload of a finished prediction; without texts that were removed."""
    succeeded = prediction.status is Status.SUCCEEDED
    texts = [] if prediction.input is None else _texts(prediction, prediction.input["request"])
    usage = Usage(prompt_tokens=prediction.prompt_tokens, completion_tokens=prediction.completion_tokens)
    ended_at_ms = prediction.completed_at_ms or prediction.created_at_ms
    answer = _answer(
        prediction.id,
        texts if succeeded else [],
        usage,
        cost_nusd=prediction.cost_nusd or 0,
        runtime_ms=ended_at_ms - prediction.created_at_ms,
    )
    answer["inference_status"]["status"] = "succeeded" if succeeded else "failed"
    return answer


def _texts(prediction: Prediction, request: Mapping[str, Any]) -> list[str]:
    before = request["prompt"]["raw"]["text"] if (prediction.notes or {}).get("full_text") else ""
    stop_strings: list[str] = request["stopping"]["stop"]
    ends = ["" if stop is None else stop_strings[stop] for stop in prediction.stops or []]
    return [before + text + end for text, end in zip_longest(prediction.texts or [], ends, fillvalue="")]


def generated_text(choice: Choice) -> str:
    """Text of a choice. Native responses include the stop string that ended it."""
    return choice.text + (choice.stop or "")


def cost_nusd(usage: Usage, price: Price) -> int:
    """Cost of *usage* in nano-dollars."""
    return price.cost_nusd(prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens)


def dollars(nusd: int) -> orjson.Fragment:
    """Exact decimal dollars as a JSON number."""
    return orjson.Fragment(usd(nusd))


def _answer(prediction_id: str, texts: list[str], usage: Usage, *, cost_nusd: int, runtime_ms: int) -> InferenceAnswer:
    return {
        "results": [{"generated_text": text} for text in texts],
        "num_tokens": usage.completion_tokens,
        "num_input_tokens": usage.prompt_tokens,
        "request_id": request_id(prediction_id),
        "inference_status": {
            "status": "succeeded",
            "runtime_ms": runtime_ms,
            "cost": dollars(cost_nusd),
            "tokens_generated": usage.completion_tokens,
            "tokens_input": usage.prompt_tokens,
        },
    }
