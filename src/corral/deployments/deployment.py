"""A deployment: one set of weights under a name, on one engine, with its tokenizer."""

from dataclasses import dataclass, field
from enum import StrEnum

from corral.core.llama2_prompts import Llama2Prompts
from corral.engines.base import Capabilities, EngineLimits
from corral.engines.queued import QueuedEngine
from corral.text.chat.encoder import PromptEncoder
from corral.text.tokenizer import Tokenizer


class LoadPolicy(StrEnum):
    """When a deployment is loaded."""

    START = "start"
    """With the server."""
    ON_DEMAND = "on-demand"
    """At its first request, or when an operator says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """Weights on an engine. One or more models of the catalog are served with them."""

    name: str
    """Unique on this server."""
    engine: QueuedEngine
    prompts: PromptEncoder
    """Encodes prompts with its tokenizer, in its chat format."""
    llama2_prompts: Llama2Prompts = field(default_factory=Llama2Prompts)
    warnings: tuple[str, ...] = ()
    """Sentences for operators about the checkpoint's files."""
    kind: str = "openvino"
    """Kind of engine, as the settings name it."""
    load: LoadPolicy = LoadPolicy.START
    idle_unload_s: float | None = None
    """Seconds without a run after which it is unloaded; None keeps it loaded."""
    memory_bytes: int = 0
    """Estimate of what it needs while it is loaded: weights, KV cache, and the process that checks constraints."""
    load_bytes: int = 0
    """Estimate of the most that it needs while it loads: ``memory_bytes``, or the peak of a conversion."""
    known_weights_id: str | None = None
    """See ``weights_id``: what was known of it before the first load."""

    @property
    def tokenizer(self) -> Tokenizer:
        """Its tokenizer."""
        return self.prompts.tokenizer

    @property
    def limits(self) -> EngineLimits:
        """Limits of requests; known before the first load."""
        return self.engine.limits

    @property
    def capabilities(self) -> Capabilities:
        """Features of its engine."""
        return self.engine.capabilities

    @property
    def weights_id(self) -> str | None:
        """See ``EngineInfo.weights_id``; None before the first load of weights that nothing is known of."""
        loaded = self.engine.loaded
        return self.known_weights_id if loaded is None else loaded.weights_id
