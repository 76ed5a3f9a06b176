"""Input table of predictions."""

from typing import Final

from corral.api.inputs import InputTable

INPUTS: Final = InputTable("replicate")
