"""The whole service in few words: the scripted engine in its real worker, a real SQLite file, an account with a key."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from sqlalchemy import select

from corral.catalog.catalog import Catalog
from corral.catalog.model import CatalogModel
from corral.catalog.prices import DatedPrice
from corral.core.accounts import Account, Limits
from corral.core.caller import Caller
from corral.core.generation import (
    ChatPrompt,
    Delta,
    GenerationEvent,
    GenerationRequest,
    GenerationResult,
    Message,
    Role,
    Sampling,
    Stopping,
    collect,
)
from corral.core.prediction import Prediction, StoppedBy
from corral.core.pricing import Price, verify
from corral.deployments.deployment import Deployment
from corral.deployments.registry import Deployments
from corral.engines.base import Engine
from corral.engines.policy import QueuePolicy
from corral.engines.queued import QueuedEngine
from corral.service.accounts.api_keys import KeyTerms
from corral.service.accounts.services import AccountServices
from corral.service.ports import Ask, Idempotency, PageRequest, PredictionEvents
from corral.service.predictions import PredictionService
from corral.service.runs.prepare import Preparer
from corral.store.schema import predictions
from corral.store.store import Store
from tests.engines import DEADLINE_S, scripted_engine, until_idle
from tests.prompts import encoder

DOLLAR = 10**9
PRICE = Price(version="corral/demo@2026-01-01", input_nusd=650, output_nusd=2750)
FIRST_BYTE_ID = 3
SEED = 4711


class ByteTokenizer:
    """One token per byte, after ``<unk>``, ``<s>`` and ``</s>``."""

    vocab_size = FIRST_BYTE_ID + 256
    control_ids: ClassVar = {"<s>": 1, "</s>": 2}
    bos_token_id = 1
    end_ids = frozenset({2})
    adds_space = False
    longest_piece_chars = 1

    def encode(self, text: str) -> list[int]:
        return [FIRST_BYTE_ID + byte for byte in text.encode()]

    def piece_bytes(self, token_id: int) -> bytes:
        return bytes([token_id - FIRST_BYTE_ID]) if token_id >= FIRST_BYTE_ID else b""


HELLO = GenerationRequest(
    model="corral/demo",
    prompt=ChatPrompt((Message(role=Role.USER, content="Hi"),)),
    sampling=Sampling(temperature=0),
)
HELLO_TOKENS = 1 + len("[INST] Hi [/INST]")


def limited(max_tokens: int, **changes: Any) -> GenerationRequest:
    """HELLO with so many tokens at most."""
    return replace(HELLO, stopping=Stopping(max_tokens=max_tokens), **changes)


def once(key: str = "once", body: str = "body") -> Idempotency:
    """An idempotency key, and what it stands for."""
    return Idempotency(key=key, body_digest=hashlib.sha256(body.encode()).digest())


class Clock:
    """Unix time that a test can move on."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


class ServiceHarness:
    """One account's view of a running service, and of the books behind it."""

    def __init__(
        self, service: PredictionService, engine: QueuedEngine, store: Store, services: AccountServices, clock: Clock
    ) -> None:
        self.clock = clock
        self.service = service
        self.engine = engine
        self.store = store
        self.accounts = services.accounts
        self.keys = services.keys
        self.usage = services.usage
        self.caller: Caller
        self.account_id: str
        self.credited_nusd = 0

    async def use_account(self, account: Account, **terms: Any) -> Caller:
        """Make a key of *account*, and ask with it from now on."""
        _, secret = await self.keys.create(account.id, KeyTerms(**{"name": "test", **terms}))
        caller = await self.keys.authenticate(secret)
        assert caller is not None
        self.caller, self.account_id = caller, account.id
        return caller

    async def add_credit(self, credit_nusd: int) -> None:
        """Put credit on the account."""
        await self.accounts.credit(self.account_id, credit_nusd)
        self.credited_nusd += credit_nusd

    def use_account_of(self, before: "ServiceHarness") -> None:
        """Go on with the account of the harness *before*, which another process had."""
        self.caller, self.account_id, self.credited_nusd = before.caller, before.account_id, before.credited_nusd

    def ask(self, request: GenerationRequest = HELLO, **terms: Any) -> Ask:
        """A call of the account's key."""
        return Ask(**{"caller": self.caller, "door": "openai", "request": request, **terms})

    async def answer(self, request: GenerationRequest = HELLO, **terms: Any) -> GenerationResult:
        """The whole answer to a call."""
        async with self.service.open(self.ask(request, **terms)) as run:
            return await collected(run)

    async def newest(self) -> Prediction:
        """The account's latest prediction."""
        return (await self.service.page(self.caller, PageRequest(limit=1)))[0]

    async def not_admitted(self) -> list[Prediction]:
        """Settled predictions whose request was answered with an error; they are not listed. Waits for one."""
        wanted = select(predictions.c.id).where(predictions.c.stopped_by == StoppedBy.NOT_ADMITTED)
        async with asyncio.timeout(DEADLINE_S):
            while not (ids := await self.store.read(lambda c: list(c.execute(wanted).scalars()))):
                await asyncio.sleep(0.005)
        return [await self.service.get(self.caller, id_) for id_ in ids]

    async def settled(self, prediction_id: str) -> Prediction:
        """A prediction once it is over."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                stored = await self.service.get(self.caller, prediction_id)
                if stored.status.terminal:
                    assert stored.receipt is not None
                    assert verify(stored.receipt) == []
                    return stored
                await asyncio.sleep(0.005)

    async def account(self) -> Account:
        """As it stands."""
        return await self.accounts.get(self.account_id)

    async def balanced(self) -> None:
        """Return when nothing runs or is held, the books agree with the engine's own count, and Ann paid what she got.

        A claim may still be on its way when its caller is gone, so all of it is looked at until it holds.
        """
        async with asyncio.timeout(DEADLINE_S):
            while await self._differences():
                await asyncio.sleep(0.01)

    async def _differences(self) -> list[object]:
        await until_idle(self.engine)
        account, made = await self.account(), await self.service.page(self.caller)
        paid_nusd = sum(prediction.cost_nusd or 0 for prediction in made)
        unpaid_nusd = self.credited_nusd - account.available_nusd - paid_nusd
        running = [prediction.id for prediction in made if not prediction.status.terminal]
        return [*running, *([unpaid_nusd] if unpaid_nusd else []), *await self.usage.reconcile()]


@asynccontextmanager
async def serving(
    database: Path | str,
    engine: QueuedEngine,
    *,
    retention_s: int = 3600,
    clock: Clock | None = None,
    price: Price = PRICE,
    drawn_seed: int = SEED,
    on_webhook: Callable[[], None] = lambda: None,
    max_outage_s: float = 3600,
) -> AsyncIterator[ServiceHarness]:
    """A service over an engine and a database (SQLite's file, or a URL), as one process of the server has it."""
    clock = clock or Clock()
    store = Store.open(database if isinstance(database, str) else f"sqlite:///{database}")
    try:
        deployments = deployments_of(engine)
        service = PredictionService(
            store=store,
            deployments=deployments,
            preparer=Preparer(catalog=catalog(price), deployments=deployments, draw_seed=lambda: drawn_seed),
            clock=clock,
            retention_s=retention_s,
            on_webhook=on_webhook,
            max_outage_s=max_outage_s,
        )
        services = AccountServices.over(store, pepper=b"p" * 32, clock=clock)
        harness = ServiceHarness(service, engine, store, services, clock)
        async with service.lifecycle.run():
            yield harness
    finally:
        await store.close()


@asynccontextmanager
async def ready_engine(policy: QueuePolicy | None = None, **options: Any) -> AsyncIterator[QueuedEngine]:
    """A scripted engine that is ready; *options* as in ScriptedOptions."""
    engine = scripted_engine(policy, vocab_size=ByteTokenizer.vocab_size, **options)
    async with engine.run():
        await engine.ready()
        yield engine


@asynccontextmanager
async def open_harness(
    database: Path | str,
    says: str = "",
    *,
    credit_nusd: int = DOLLAR,
    limits: Limits | None = None,
    terms: dict[str, Any] | None = None,
    policy: QueuePolicy | None = None,
    **options: Any,
) -> AsyncIterator[ServiceHarness]:
    """A service whose engine says *says*, or bytes without end; Ann has a dollar. Leaves with the books balanced."""
    answer = tuple(ByteTokenizer().encode(says))
    async with ready_engine(policy, answer=answer, **options) as engine, serving(database, engine) as harness:
        await open_account(harness, credit_nusd=credit_nusd, limits=limits, **(terms or {}))
        assert harness.service.ready
        yield harness
        await harness.balanced()
        assert engine.stats().restarts == 0


async def open_account(
    harness: ServiceHarness, *, credit_nusd: int = DOLLAR, limits: Limits | None = None, **terms: Any
) -> None:
    """Make Ann's account with credit and a key, and ask with it."""
    account = await harness.accounts.create("Ann", limits=limits)
    await harness.use_account(account, **terms)
    await harness.add_credit(credit_nusd)


def deployments_of(engine: Engine) -> Deployments:
    """A registry of one deployment, named as in ``catalog``."""
    return Deployments([Deployment(name="demo", engine=engine, prompts=encoder(ByteTokenizer()))])


def catalog(price: Price) -> Catalog:
    """One model, of that price."""
    return Catalog(
        [
            CatalogModel(
                id="corral/demo",
                owner="corral",
                description="",
                context_tokens=4096,
                created=0,
                deployment="demo",
                weights="demo",
                stands_in=False,
                prices=(DatedPrice(since_s=0, price=price),),
            )
        ]
    )


async def collected(run: PredictionEvents) -> GenerationResult:
    """Everything a run gives."""
    return await collect(event async for _, event in run.events())


async def numbered(run: PredictionEvents, *, after: int = 0) -> list[tuple[int, GenerationEvent]]:
    """Every event after one, one by one: joined deltas are taken apart again."""
    return split_deltas([pair async for pair in run.events(after=after)])


def split_deltas(events: list[tuple[int, GenerationEvent]]) -> list[tuple[int, GenerationEvent]]:
    """Numbers and kinds without regard to how deltas were joined; text is compared by ``texts_of``."""
    taken: list[tuple[int, GenerationEvent]] = []
    for number, event in events:
        if not isinstance(event, Delta):
            taken.append((number, event))
            continue
        for index, token_id in enumerate(event.ids):
            back = len(event.ids) - 1 - index
            taken.append(
                (
                    number - back,
                    replace(
                        event,
                        text="",
                        ids=(token_id,),
                        logprobs=(event.logprobs[index],),
                        pieces=event.pieces[index : index + 1],
                        completion_tokens=event.completion_tokens - back,
                    ),
                )
            )
    return taken


def text_of(events: list[tuple[int, GenerationEvent]], *, choice: int = 0) -> str:
    """What a choice says."""
    return "".join(event.text for _, event in events if isinstance(event, Delta) and event.choice == choice)
