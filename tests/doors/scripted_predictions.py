"""A prediction service that plays a script and records the requests of an API.

It is strict with its caller: what the real service may rely on is checked here, and what breaks it is remembered.
"""

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from corral.catalog.catalog import Catalog
from corral.catalog.model import CatalogModel
from corral.catalog.prices import DatedPrice
from corral.catalog.versions import ModelVersion
from corral.core.accounts import Scope
from corral.core.caller import Caller
from corral.core.errors import IdempotencyConflict, UnknownPrediction
from corral.core.generation import (
    ChatPrompt,
    ChoiceEnded,
    Constraint,
    Delta,
    Echo,
    Finished,
    FinishReason,
    GenerationEvent,
    GenerationRequest,
    Started,
    TokenPrompt,
    Usage,
)
from corral.core.prediction import Prediction
from corral.core.pricing import Price
from corral.core.server_state import ServerState, ServerStatus
from corral.deployments.status import DeploymentStatus
from corral.engines.base import check_sampling
from corral.engines.openvino.options import OPENVINO_CAPABILITIES
from corral.engines.stats import EnginePhase, EngineState
from corral.service.deployments import check_not_failed
from corral.service.ports import NEWEST, Ask, Estimate, PageRequest, PredictionEvents
from corral.service.runs.capabilities import check_capabilities
from tests.doors.scripted_deployments import status

MODEL = "meta-llama/Llama-2-7b-chat-hf"
PROMPT_TOKENS = 10
CREATED = 1_700_000_000
EOS = b"</s>"
PRICE = Price(version=f"{MODEL}@2024-01-01", input_nusd=350, output_nusd=400)

Step = GenerationEvent | Exception | asyncio.Event


def catalog() -> Catalog:
    """Catalog with two models, both served by the demo model."""
    names = (MODEL, "meta/llama-2-7b-chat")
    return Catalog(
        CatalogModel(
            id=name,
            owner=name.partition("/")[0],
            description="A model for tests.",
            context_tokens=4096,
            created=1_689_638_400,
            deployment="demo",
            weights="demo",
            stands_in=True,
            versions=(ModelVersion(id=hashlib.sha256(name.encode()).hexdigest(), created_at_s=CREATED),),
            prices=(
                DatedPrice(since_s=0, price=Price(version=f"{name}@old", input_nusd=1, output_nusd=1)),
                DatedPrice(since_s=CREATED, price=replace(PRICE, version=f"{name}@2024-01-01")),
            ),
        )
        for name in names
    )


def delta(text: str, tokens: int, choice: int = 0, *, piece: bytes | None = None) -> Delta:
    """Create the delta of one token, with its bytes if pieces were requested."""
    return Delta(
        choice=choice,
        text=text,
        ids=(tokens + 100,),
        logprobs=(-0.25 * tokens,),
        pieces=(text.encode() if piece is None else piece,),
        completion_tokens=tokens,
    )


def answer(
    *texts: str, reason: FinishReason = FinishReason.STOP, choices: int = 1, echo: Echo | None = None
) -> list[Step]:
    """Script of a complete answer: one token per text and one for the end; choices interleaved."""
    steps: list[Step] = [Started(prompt_tokens=PROMPT_TOKENS, seed=1, echo=echo)]
    for tokens, text in enumerate(texts, 1):
        steps += [delta(text, tokens, choice) for choice in range(choices)]
    for choice in range(choices):
        steps += [delta("", len(texts) + 1, choice, piece=EOS), ChoiceEnded(choice=choice, reason=reason)]
    usage = Usage(prompt_tokens=PROMPT_TOKENS, completion_tokens=choices * (len(texts) + 1))
    return [*steps, Finished(usage=usage)]


class ScriptedPredictions:
    """Plays ``script`` for every run. Raises exceptions in it; waits for an ``asyncio.Event`` in it."""

    def __init__(self, script: Sequence[Step] | None = None) -> None:
        self.catalog = catalog()
        self.status = ServerStatus(state=ServerState.READY)
        self.states: dict[str, EngineState] = {}
        """Of deployments, by name; ready or loading, as ``ready`` says, where a test sets nothing else."""
        self.script: Sequence[Step] = answer(" Hello", "!") if script is None else script
        self.enter_error: Exception | None = None
        self.asks: list[Ask] = []
        self.violations: list[str] = []
        self.running = 0
        self.played = 0
        self.entered = asyncio.Event()
        self.left = asyncio.Event()
        self._claims: dict[tuple[str, str], tuple[bytes, str]] = {}

    @property
    def ready(self) -> bool:
        """Whether the script is played to callers at once; setting it changes ``status``."""
        return self.status.is_ready

    @ready.setter
    def ready(self, ready: bool) -> None:
        self.status = ServerStatus(state=ServerState.READY if ready else ServerState.STARTING)

    def deployments(self) -> tuple[DeploymentStatus, ...]:
        """One, for every model."""
        return (self.deployment_of(self.catalog.models()[0]),)

    def deployment_of(self, model: CatalogModel) -> DeploymentStatus:
        """The one of that name, in its state."""
        usual = EngineState(EnginePhase.READY if self.ready else EnginePhase.WAITING)
        return status(model.deployment, self.states.get(model.deployment, usual), model.id)

    @property
    def requests(self) -> list[GenerationRequest]:
        """What was asked for, in order."""
        return [ask.request for ask in self.asks]

    @asynccontextmanager
    async def open(self, ask: Ask) -> AsyncIterator[PredictionEvents]:
        """Count who is inside."""
        check_capabilities(ask.request, OPENVINO_CAPABILITIES)
        self._receive(ask)
        run = self._claim(ask)
        self.running += 1
        self.entered.set()
        try:
            yield run
        finally:
            run.closed = True
            self.running -= 1
            self.left.set()

    async def estimate(self, ask: Ask) -> Estimate:
        """512 tokens a choice unless the request says otherwise."""
        self._receive(ask)
        limit = ask.request.stopping.max_tokens
        completion_tokens = (512 if limit is None else limit) * ask.request.choices
        return Estimate(
            price=PRICE,
            prompt_tokens=PROMPT_TOKENS,
            max_completion_tokens=completion_tokens,
            prompt_nusd=PRICE.cost_nusd(prompt_tokens=PROMPT_TOKENS, completion_tokens=0),
            worst_case_nusd=PRICE.cost_nusd(prompt_tokens=PROMPT_TOKENS, completion_tokens=completion_tokens),
        )

    async def get(self, caller: Caller, prediction_id: str) -> Prediction:  # noqa: ARG002
        """There is none."""
        raise UnknownPrediction(f"Prediction '{prediction_id}' not found.")

    async def cancel(self, caller: Caller, prediction_id: str) -> Prediction:
        """There is none."""
        return await self.get(caller, prediction_id)

    async def attach(self, caller: Caller, prediction_id: str) -> PredictionEvents:  # noqa: ARG002
        """There is none."""
        raise UnknownPrediction(f"Prediction '{prediction_id}' not found.")

    async def page(self, caller: Caller, wanted: PageRequest = NEWEST) -> list[Prediction]:  # noqa: ARG002
        """There is none."""
        return []

    async def run_counts(self) -> Mapping[str, int]:
        """One model has run."""
        return {MODEL: 7}

    def _receive(self, ask: Ask) -> None:
        self.asks.append(ask)
        self.violations += contract_violations(ask)
        ask.caller.require_model(ask.request.model)
        model = self.catalog.get(ask.request.model)
        check_not_failed(self.deployment_of(model), ask.caller, model.id)
        if self.enter_error is not None:
            raise self.enter_error

    def _claim(self, ask: Ask) -> "_ScriptedRun":
        run_id = f"{len(self.asks):026d}"
        if ask.idempotency is None:
            return _ScriptedRun(self, ask.request, run_id, attached=False)
        claim = (ask.caller.account_id, ask.idempotency.key)
        digest, first_id = self._claims.setdefault(claim, (ask.idempotency.body_digest, run_id))
        if digest != ask.idempotency.body_digest:
            raise IdempotencyConflict("The idempotency key was used for another request.")
        return _ScriptedRun(self, ask.request, first_id, attached=first_id != run_id)


class _ScriptedRun:
    """A run for one reader. Readable once, inside its block."""

    def __init__(self, owner: ScriptedPredictions, request: GenerationRequest, run_id: str, *, attached: bool) -> None:
        self.id = run_id
        self.created_at_ms = CREATED * 1000 + 500
        self.price = PRICE
        self.attached = attached
        self.closed = False
        self._owner = owner
        self._request = request
        self._read = False

    async def events(self, *, after: int = 0) -> AsyncIterator[tuple[int, GenerationEvent]]:
        """The script, numbered from 1."""
        if self._read or self.closed or after:
            self._owner.violations.append("a run was read twice, from its middle, or outside its block")
        self._read = True
        for number, step in enumerate(_limit_choices(self._request.choices, self._owner.script), 1):
            match step:
                case asyncio.Event():
                    await step.wait()
                case Exception():
                    raise step
                case _:
                    if self.closed:
                        self._owner.violations.append("a run was read outside its block")
                    self._owner.played += 1
                    yield number, self._as_asked(step)
                    await asyncio.sleep(0)

    def digest(self, number: int) -> str | None:  # noqa: ARG002
        """The same everywhere."""
        return "00000000"

    def _as_asked(self, event: GenerationEvent) -> GenerationEvent:
        match event:
            case Delta() if not self._request.pieces:
                return replace(event, pieces=())
            case Started() if not self._request.echo:
                return replace(event, echo=None)
            case _:
                return event


def _limit_choices(count: int, script: Sequence[Step]) -> Iterator[Step]:
    """Remove choices beyond *count* from the script."""
    completion_tokens: dict[int, int] = {}
    for step in script:
        match step:
            case ChoiceEnded() | Delta() if step.choice >= count:
                continue
            case Delta():
                completion_tokens[step.choice] = step.completion_tokens
                yield step
            case Finished():
                usage = replace(step.usage, completion_tokens=sum(completion_tokens.values()))
                yield Finished(usage=usage)
            case _:
                yield step


def contract_violations(ask: Ask) -> list[str]:
    """Return the preconditions of the service that a request violates; a correct API violates none."""
    request = ask.request
    limit = request.stopping.max_tokens
    check_sampling(request.sampling)
    rules = {
        "the door names itself": ask.door in ("openai", "replicate", "deepinfra"),
        "the caller may run models": Scope.INFERENCE in ask.caller.scopes,
        "1 to 4 choices": 1 <= request.choices <= 4,
        "room for an answer": limit is None or limit >= (0 if request.echo else 1),
        "a seed of bounded size": request.seed is None or -(2**63) <= request.seed <= 2**64,
        "stop strings are not empty": all(request.stopping.stop) and len(request.stopping.stop) <= 16,
        "a chat has messages": not isinstance(request.prompt, ChatPrompt) or len(request.prompt.messages) > 0,
        "ids are ids": not isinstance(request.prompt, TokenPrompt)
        or (len(request.prompt.ids) > 0 and all(0 <= id_ < 2**31 for id_ in request.prompt.ids)),
        "a constraint has a source": request.constraint is None or _compiles(request.constraint),
        "a cap is whole nano-dollars": ask.max_cost_nusd is None
        or (type(ask.max_cost_nusd) is int and 0 <= ask.max_cost_nusd < 2**63),
        "an idempotency key is visible": ask.idempotency is None
        or (re.fullmatch(r"[!-~]{1,255}", ask.idempotency.key) and len(ask.idempotency.body_digest) == 32),
        "input can be stored": json.loads(json.dumps(dict(ask.shown_input), allow_nan=False)) == ask.shown_input,
    }
    return [rule for rule, holds in rules.items() if not holds]


def _compiles(constraint: Constraint) -> bool:
    match constraint.kind:
        case "json_schema":
            return isinstance(json.loads(constraint.source), dict)
        case "regex":
            return 0 < len(constraint.source) <= 4096
