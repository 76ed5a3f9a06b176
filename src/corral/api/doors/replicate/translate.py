"""Translate validated inputs into the core's request."""

from collections.abc import Mapping
from typing import Any, Final

from corral.api.doors.replicate.chunks import LEAD
from corral.api.doors.replicate.dialogue import as_reference
from corral.api.doors.replicate.faults import ModelErrorCode, ModelRefusal
from corral.api.doors.replicate.input_table import DEFAULT_TEMPLATE
from corral.api.doors.replicate.inputs import stops
from corral.api.doors.replicate.template import fill
from corral.core.generation import GenerationRequest, RawPrompt, Sampling, Stopping

DEFAULT_MAX_TOKENS: Final = 512
"""A ``max_tokens`` of this value counts as unset if ``max_new_tokens`` is sent."""
_UNSET: Final = -1


def to_core(model: str, values: Mapping[str, Any], *, default_template: str) -> GenerationRequest:
    """Build the core's request from *values*.

    Args:
        model: its id in the catalog.
        values: as ``read_input`` gives them.
        default_template: of the model; a dialogue is recognised only where it is not overridden.

    Raises:
        ModelRefusal: E1001 to E1004 of the template, E1101 and E1102 of limits that contradict each other.
    """
    max_tokens, min_tokens = _max_tokens(values), _min_tokens(values)
    return GenerationRequest(
        model=model,
        prompt=RawPrompt(
            formatted(values, default_template=default_template),
            is_llama2=values["prompt_template"] == default_template == DEFAULT_TEMPLATE,
        ),
        sampling=_sampling(values),
        stopping=Stopping(max_tokens=max_tokens, min_tokens=min_tokens, stop=stops(values), hidden_lead=LEAD),
        seed=values["seed"] or None,  # 0 draws one, as it does there
    )


def unformatted(model: str, values: Mapping[str, Any]) -> GenerationRequest:
    """Request that stands for one that the model refused: its prompt as sent."""
    return GenerationRequest(model=model, prompt=RawPrompt(values["prompt"]))


def text_chars(values: Mapping[str, Any]) -> int:
    """Characters of text that ``to_core`` processes."""
    return sum(len(value) for value in values.values() if isinstance(value, str))


def formatted(values: Mapping[str, Any], *, default_template: str) -> str:
    """Format the prompt as the model reads it, control tokens spelled out.

    Raises:
        ModelRefusal: E1001 to E1004.
    """
    prompt, system_prompt, template = (values[name] or "" for name in ("prompt", "system_prompt", "prompt_template"))
    if template == default_template:
        dialogue = as_reference(prompt, system_prompt=system_prompt)
        if dialogue is not None:
            return dialogue
    return fill(template, prompt=prompt, system_prompt=system_prompt)


def _sampling(values: Mapping[str, Any]) -> Sampling:
    # A top_p of 0 keeps only the most likely token.
    greedy = values["temperature"] == 0 or values["top_p"] == 0
    return Sampling(
        temperature=0.0 if greedy else float(values["temperature"]),
        top_p=1.0 if greedy else float(values["top_p"]),
        top_k=_top_k(values["top_k"]),
        repetition_penalty=float(values["repetition_penalty"] or 1),
        presence_penalty=float(values["presence_penalty"] or 0),
        frequency_penalty=float(values["frequency_penalty"] or 0),
    )


def _top_k(value: int | None) -> int:
    """Values of 0 or less, and those beyond any vocabulary, turn it off."""
    return value if value is not None and 0 < value < 2**31 else 0


def _max_tokens(values: Mapping[str, Any]) -> int:
    given, alias = values["max_tokens"], values["max_new_tokens"]
    if alias is None:
        return given
    if given not in (DEFAULT_MAX_TOKENS, alias):
        raise ModelRefusal(
            ModelErrorCode.INVALID_MAX_TOKENS,
            field="max_new_tokens",
            message=f"max_tokens is {given} and max_new_tokens, its older name, is {alias}. Send one of them.",
        )
    return alias


def _min_tokens(values: Mapping[str, Any]) -> int:
    given, alias = values["min_tokens"], values["min_new_tokens"]
    unset = given in (None, _UNSET)
    if alias in (None, _UNSET, 0):
        return 0 if unset else given
    if not unset and given != alias:
        raise ModelRefusal(
            ModelErrorCode.INVALID_MIN_TOKENS,
            field="min_new_tokens",
            message=f"min_tokens is {given} and min_new_tokens, its older name, is {alias}. Send one of them.",
        )
    return alias
