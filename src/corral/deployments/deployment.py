"""A deployment: one set of weights under a name, on one engine, with its tokenizer."""

from dataclasses import dataclass

from corral.core.errors import CorralError
from corral.engines.base import Engine
from corral.engines.stats import EnginePhase
from corral.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """Weights that can be computed with. One or more models of the catalog answer with them."""

    name: str
    """Unique on this server."""
    engine: Engine
    tokenizer: Tokenizer

    @property
    def ready(self) -> bool:
        """Whether its model is loaded and a worker is alive."""
        try:
            self.engine.info  # noqa: B018 - raises while there is none
        except CorralError:
            return False
        return self.engine.stats().state.phase is EnginePhase.READY
