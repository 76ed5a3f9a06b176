"""The prompt template: two fields and doubled braces of Python's format strings, and nothing else.

What callers write is never handed to ``str.format``, whose fields reach into objects and whose widths fill memory.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from corral.api.doors.replicate.faults import ModelErrorCode, ModelRefusal

TEMPLATE: Final = "prompt_template"
"""The input that holds it."""
FIELDS: Final = ("prompt", "system_prompt")
MAX_FILLED_CHARS: Final = 2**21
MAX_TOKENS: Final = 10_000
"""Most fields and doubled braces."""
_TOKEN: Final = re.compile(r"\{\{|\}\}|\{[^{}]*\}|[{}]")


def fill(template: str, *, prompt: str, system_prompt: str) -> str:
    """Fill both fields into the template; an empty template is the prompt alone.

    Raises:
        ModelRefusal: the template has no ``{prompt}`` (E1003), or a brace or field that means nothing (E1004); the
            result is empty (E1001) or longer than ``MAX_FILLED_CHARS`` (E1002).
    """
    values = {"prompt": prompt, "system_prompt": system_prompt}
    used: set[str] = set()
    filled = "".join(_parts(template, values, used)) if template else prompt
    if template and prompt and "prompt" not in used:
        raise ModelRefusal(
            ModelErrorCode.BAD_PROMPT_TEMPLATE,
            field=TEMPLATE,
            message="The prompt template has no {prompt}, so the prompt would not be sent. "
            "Write {prompt} where it belongs.",
        )
    if not filled:
        raise ModelRefusal(
            ModelErrorCode.PROMPT_REQUIRED,
            field="prompt",
            message="A prompt is required, and the formatted prompt is empty.",
        )
    return filled


def _parts(template: str, values: Mapping[str, str], used: set[str]) -> Iterator[str]:
    """Yield the parts of the filled template. A field may occur many times, so their total size is bounded on the
    way.
    """
    end, chars = 0, 0
    for number, match in enumerate(_TOKEN.finditer(template)):
        if number == MAX_TOKENS:
            raise ModelRefusal(
                ModelErrorCode.PROMPT_TEMPLATE_ERROR,
                field=TEMPLATE,
                message=f"The prompt template has more than {MAX_TOKENS} fields and doubled braces.",
            )
        value = _value(match[0], values, used, template)
        chars += match.start() - end + len(value)
        if chars > MAX_FILLED_CHARS:
            raise ModelRefusal(
                ModelErrorCode.PROMPT_TOO_LONG,
                field=TEMPLATE,
                message=f"The formatted prompt has more than {MAX_FILLED_CHARS} characters, which no "
                "context holds. Write {prompt} and {system_prompt} once.",
            )
        yield template[end : match.start()]
        yield value
        end = match.end()
    yield template[end:]


def _value(token: str, values: Mapping[str, str], used: set[str], template: str) -> str:
    if token in ("{{", "}}"):
        return token[0]
    name = token[1:-1]
    if len(token) == 1 or name not in FIELDS:
        hint = " Perhaps the prompt was sent as the template." if len(template) > len(values["prompt"]) else ""
        raise ModelRefusal(
            ModelErrorCode.PROMPT_TEMPLATE_ERROR,
            field=TEMPLATE,
            message="The prompt template may have {prompt} and {system_prompt} in braces and no "
            f"other; a brace that is meant as such is written twice.{hint}",
        )
    used.add(name)
    return values[name]
