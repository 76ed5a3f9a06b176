"""Input table of predictions."""

from typing import Final

from corral.api.inputs import InputTable

INPUTS: Final = InputTable("replicate")
DEFAULT_TEMPLATE: Final[str] = next(field.default for field in INPUTS.fields if field.name == "prompt_template")
"""The API's own ``prompt_template``: Llama 2's chat format."""
