"""Texts that ``deepctl model info`` prints.

Their layout is DeepInfra's of 2023, to the byte: a program may compare them.
"""

import json
from collections.abc import Iterable
from typing import Final

from corral.api.doors.deepinfra.wire import json_default
from corral.api.inputs import InputField

PROMPT: Final = "I have this dream"
_CONTINUATION: Final = (
    " about the day I got a job at a tech company. I just woke up on a plane. I sat down on the floor and started "
    "getting work done. After getting up around 6 p.m., I looked around and"
)
_NAME_WIDTH: Final = 10


def curl_invocation(model: str, base_url: str) -> str:
    """Example request with curl."""
    return (
        "curl -X POST \\\n"
        f"    -d '{json.dumps({'input': PROMPT})}'  \\\n"
        '    -H "Authorization: bearer $(deepctl auth token)"  \\\n'
        "    -H 'Content-Type: application/json'  \\\n"
        f"    '{base_url}/v1/inference/{model}'"
    )


def deepctl_invocation(model: str) -> str:
    """Example request with deepctl."""
    return f"deepctl infer \\\n    -m '{model}'  \\\n    -i 'input={PROMPT}'"


def parameters(fields: Iterable[InputField]) -> str:
    """List the inference parameters, one line each."""
    lines = [
        f"  {field.name:<{_NAME_WIDTH}}: {_default(field)}{field.type}. {field.description}"
        for field in fields
        if not field.hidden
    ]
    return "\n".join(
        [
            "parameters:",
            *lines,
            "",
            "send the parameters as EITHER:",
            "- JSON object (one key: value per parameter, binary as base64 or Data URL)",
            "- HTTP multipart (one part per parameter).",
            "",
        ]
    )


def output_example(*, full_text: bool) -> str:
    """Example response; *full_text* is whether texts begin with the prompt."""
    text = (PROMPT if full_text else "") + _CONTINUATION
    status = {"status": "unknown", "runtime_ms": 0, "cost": 0.0, "tokens_generated": 0, "tokens_input": 0}
    answer = {
        "results": [{"generated_text": text}],
        "num_tokens": 42,
        "num_input_tokens": 100,
        "request_id": None,
        "inference_status": status,
    }
    return json.dumps(answer, indent=2) + "\n"


def output_fields(*, full_text: bool) -> str:
    """Describe the fields of a response."""
    including = "including" if full_text else "excluding"
    return "\n".join(
        [
            "results: array[GeneratedText]. a list of generated texts",
            "GeneratedText fields:",
            f"    generated_text: string. generated text, {including} the prompt",
            "num_tokens: integer. number of generated tokens, excluding prompt",
            "num_input_tokens: integer. number of input tokens",
            "request_id: string. The request id",
            "inference_status: None. Object containing the status of the inference request",
            "",
        ]
    )


def _default(field: InputField) -> str:
    """Default value in Python syntax."""
    if not field.has_default:
        return ""
    return f"(Default: {json_default(field)!r}) "
