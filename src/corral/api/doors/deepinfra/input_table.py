"""Input table of native inference."""

from typing import Final

from corral.api.inputs import InputTable

INPUTS: Final = InputTable("deepinfra", own_names={"max_tokens": "max_new_tokens"})
