"""The prompt template: two fields and doubled braces, and nothing else of Python's format strings. Pure.

What callers write is never handed to ``str.format``, whose fields reach into objects and whose widths fill memory.
"""

import re
from collections.abc import Mapping
from typing import Final

from corral.api.doors.replicate.faults import ModelRefusal

FIELDS: Final = ("prompt", "system_prompt")
_TOKEN: Final = re.compile(r"\{\{|\}\}|\{[^{}]*\}|[{}]")


def fill(template: str, *, prompt: str, system_prompt: str) -> str:
    """The template with both fields filled in; an empty one is the prompt alone.

    Raises:
        ModelRefusal: E1003, the prompt has no place in the template; E1004, a brace or field that means nothing;
            E1001, nothing is left to send.
    """
    values = {"prompt": prompt, "system_prompt": system_prompt}
    used: set[str] = set()
    filled = _TOKEN.sub(lambda match: _value(match[0], values, used, template), template) if template else prompt
    if template and prompt and "prompt" not in used:
        raise ModelRefusal(
            "E1003 BadPromptTemplate: The prompt template has no {prompt}, so the prompt would not be sent. "
            "Write {prompt} where it belongs."
        )
    if not filled:
        raise ModelRefusal("E1001 PromptRequired: A prompt is required, and the formatted prompt is empty.")
    return filled


def _value(token: str, values: Mapping[str, str], used: set[str], template: str) -> str:
    if token in ("{{", "}}"):
        return token[0]
    name = token[1:-1]
    if len(token) == 1 or name not in FIELDS:
        hint = " Perhaps the prompt was sent as the template." if len(template) > len(values["prompt"]) else ""
        raise ModelRefusal(
            "E1004 PromptTemplateError: The prompt template may have {prompt} and {system_prompt} in braces and no "
            f"other; a brace that is meant as such is written twice.{hint}"
        )
    used.add(name)
    return values[name]
