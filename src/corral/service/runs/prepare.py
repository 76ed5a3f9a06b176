"""From what a door asks to what an engine runs: every open question is closed here, and nowhere else."""

import hashlib
import sys
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from corral.catalog.catalog import Catalog
from corral.catalog.model import CatalogModel
from corral.core.errors import InvalidRequest, PromptTooLong
from corral.core.generation import ChatPrompt, GenerationRequest
from corral.core.pricing import Price
from corral.deployments.deployment import Deployment
from corral.deployments.registry import Deployments
from corral.engines.base import EngineRequest, check_sampling
from corral.service.runs.capabilities import check_capabilities
from corral.service.runs.encode import encode_prompt
from corral.text.stop import StopFilter

MAX_CHOICES: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A request in which nothing is open any more."""

    model: CatalogModel
    deployment: Deployment
    seed: int
    """In [0, 2**64)."""
    weights_id: str | None
    """Which weights will compute it; see ``EngineInfo.weights_id``. None before their first load."""
    prompt_format: str
    """What made ``prompt_ids``; see ``EncodedPrompt.format``."""
    prompt_ids: tuple[int, ...]
    max_new_tokens: int
    """Of each choice; 0 only with echo."""
    engine_requests: tuple[EngineRequest, ...]
    """One per choice."""

    @property
    def max_completion_tokens(self) -> int:
        """All choices together."""
        return self.max_new_tokens * len(self.engine_requests)

    @property
    def computed_weights_id(self) -> str | None:
        """Which weights compute it, as far as is known by now."""
        return self.weights_id or self.deployment.weights_id

    @property
    def prompt_digest(self) -> bytes:
        """SHA-256 of the prompt's token ids, each in four bytes, little-endian."""
        ids = array("I", self.prompt_ids)
        if sys.byteorder == "big":
            ids.byteswap()
        return hashlib.sha256(ids).digest()

    def worst_case_nusd(self, price: Price) -> int:
        """What it costs when every choice runs to its limit."""
        return price.cost_nusd(prompt_tokens=len(self.prompt_ids), completion_tokens=self.max_completion_tokens)


class Preparer:
    """Turns requests into engine requests, with the tokenizer and the limits of the model's deployment."""

    def __init__(self, *, catalog: Catalog, deployments: Deployments, draw_seed: Callable[[], int]) -> None:
        self.catalog = catalog
        self._deployments = deployments
        self._draw_seed = draw_seed

    async def ready(self, model: str) -> None:
        """Load the deployment of *model*, if it is not, and return when it is.

        Raises:
            UnknownModel: no model of that name is served.
            CheckpointRefused, EngineUnavailable: the deployment cannot be loaded.
        """
        await self._deployments.loaded(self._deployments.serving(self.catalog.get(model)))

    async def prepare(self, request: GenerationRequest, *, flow: str) -> Prepared:
        """Close what is open: token ids made, limits clamped, seed drawn.

        Raises:
            UnknownModel, InvalidRequest, PromptTooLong
            Unsupported: the engine of the model's deployment cannot do what a field asks for.
        """
        model = self.catalog.get(request.model)
        StopFilter(request.stopping.stop)
        check_sampling(request.sampling)
        if not 1 <= request.choices <= MAX_CHOICES:
            raise InvalidRequest(f"The number of choices must be in [1, {MAX_CHOICES}].", param="n")
        deployment = self._deployments.serving(model)
        check_capabilities(request, deployment.capabilities)
        context_tokens = deployment.limits.room_tokens
        encoded = await encode_prompt(request.prompt, model, deployment)
        max_new_tokens = _max_new_tokens(request, context_tokens, prompt_tokens=len(encoded.ids))
        seed = (self._draw_seed() if request.seed is None else request.seed) % 2**64
        engine_requests = tuple(
            EngineRequest(
                prompt_ids=encoded.ids,
                max_new_tokens=max_new_tokens,
                min_new_tokens=max(0, min(request.stopping.min_tokens, max_new_tokens)),
                seed=(seed + choice) % 2**64,
                sampling=request.sampling,
                stop_ids=deployment.prompts.end_ids,
                constraint=request.constraint,
                echo=request.echo and choice == 0,
                flow=flow,
            )
            for choice in range(request.choices)
        )
        return Prepared(
            model=model,
            deployment=deployment,
            seed=seed,
            weights_id=deployment.weights_id,
            prompt_format=encoded.format,
            prompt_ids=encoded.ids,
            max_new_tokens=max_new_tokens,
            engine_requests=engine_requests,
        )


def _max_new_tokens(request: GenerationRequest, context_tokens: int, *, prompt_tokens: int) -> int:
    room_tokens = context_tokens - prompt_tokens
    if room_tokens < 1:
        param = "messages" if isinstance(request.prompt, ChatPrompt) else "prompt"
        raise PromptTooLong(prompt_tokens=prompt_tokens, context_tokens=context_tokens, param=param)
    asked = request.stopping.max_tokens
    if asked is not None and asked < (0 if request.echo else 1):
        raise InvalidRequest("max_tokens must be at least 1.", param="max_tokens")
    return room_tokens if asked is None else min(asked, room_tokens)
