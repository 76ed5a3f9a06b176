"""Translate an inference request into the core's request."""

from corral.api.doors.deepinfra.errors import wrong_field
from corral.api.doors.deepinfra.wire import InferenceInput
from corral.api.response_format import to_constraint
from corral.core.generation import GenerationRequest, RawPrompt, Sampling, Stopping


def to_core(asked: InferenceInput, *, model: str) -> GenerationRequest:
    """Build the core's request. The prompt is raw: callers write ``[INST]`` themselves.

    Raises:
        ValidationError: fields that cannot go together.
        InvalidRequest: the format has no schema or expression, or a too large one.
    """
    if asked.stream and asked.num_responses > 1:
        raise wrong_field("num_responses", "Several responses are incompatible with streaming")
    if asked.stream and asked.webhook is not None:
        raise wrong_field("webhook", "A webhook is incompatible with streaming")
    return GenerationRequest(
        model=model,
        prompt=RawPrompt(asked.input),
        sampling=_sampling(asked),
        stopping=Stopping(max_tokens=asked.max_new_tokens, stop=asked.stop),
        seed=asked.seed,
        choices=asked.num_responses,
        constraint=to_constraint(asked.response_format),
        pieces=asked.stream,
    )


def _sampling(asked: InferenceInput) -> Sampling:
    # A min_p of 1 keeps only the most likely token; the core's range is [0, 1).
    only_best = asked.min_p == 1
    return Sampling(
        temperature=asked.temperature,
        top_p=asked.top_p,
        top_k=1 if only_best else asked.top_k,
        min_p=0.0 if only_best else asked.min_p,
        repetition_penalty=asked.repetition_penalty,
        presence_penalty=asked.presence_penalty,
        frequency_penalty=asked.frequency_penalty,
    )
