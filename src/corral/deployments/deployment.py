"""A deployment: one set of weights under a name, on one engine, with its tokenizer."""

from dataclasses import dataclass
from enum import StrEnum

from corral.engines.base import Engine
from corral.text.tokenizer import Tokenizer


class LoadPolicy(StrEnum):
    """When a deployment is loaded."""

    START = "start"
    """With the server."""
    ON_DEMAND = "on-demand"
    """At its first request, or when an operator says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """Weights that can be computed with. One or more models of the catalog answer with them."""

    name: str
    """Unique on this server."""
    engine: Engine
    tokenizer: Tokenizer
    kind: str = "openvino"
    """Kind of engine, as the settings name it."""
    load: LoadPolicy = LoadPolicy.START
    idle_unload_s: float | None = None
    """Seconds without a run after which it is unloaded; None keeps it loaded."""
    memory_bytes: int = 0
    """Estimate of what it needs while it is loaded: weights, KV cache, and the process that checks constraints."""
