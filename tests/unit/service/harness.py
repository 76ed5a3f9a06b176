"""Test harness of the service: a scripted engine in a worker process, a SQLite file, an account with a key."""

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
    """HELLO with *max_tokens*."""
    return replace(HELLO, stopping=Stopping(max_tokens=max_tokens), **changes)


def once(key: str = "once", body: str = "body") -> Idempotency:
    """An idempotency key, with the digest of *body*."""
    return Idempotency(key=key, body_digest=hashlib.sha256(body.encode()).digest())


class Clock:
    """Unix time in seconds plus *ahead_s*."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


class ServiceHarness:
    """A running service with an account, and the store behind it."""

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
        """Create a key of *account* and use it for the next requests."""
        _, secret = await self.keys.create(account.id, KeyTerms(**{"name": "test", **terms}))
        caller = await self.keys.authenticate(secret)
        assert caller is not None
        self.caller, self.account_id = caller, account.id
        return caller

    async def add_credit(self, credit_nusd: int) -> None:
        """Add credit to the account."""
        await self.accounts.credit(self.account_id, credit_nusd)
        self.credited_nusd += credit_nusd

    def use_account_of(self, before: "ServiceHarness") -> None:
        """Use the account and key of *before*, the harness of an earlier server on the same database."""
        self.caller, self.account_id, self.credited_nusd = before.caller, before.account_id, before.credited_nusd

    def ask(self, request: GenerationRequest = HELLO, **terms: Any) -> Ask:
        """Build a request with the account's key."""
        return Ask(**{"caller": self.caller, "door": "openai", "request": request, **terms})

    async def answer(self, request: GenerationRequest = HELLO, **terms: Any) -> GenerationResult:
        """Run a request and return its whole result."""
        async with self.service.open(self.ask(request, **terms)) as run:
            return await collected(run)

    async def newest(self) -> Prediction:
        """Get the account's latest prediction."""
        return (await self.service.page(self.caller, PageRequest(limit=1)))[0]

    async def not_admitted(self) -> list[Prediction]:
        """Get the settled predictions of requests that the engine rejected, which are not listed. Waits for one."""
        wanted = select(predictions.c.id).where(predictions.c.stopped_by == StoppedBy.NOT_ADMITTED)
        async with asyncio.timeout(DEADLINE_S):
            while not (ids := await self.store.read(lambda c: list(c.execute(wanted).scalars()))):
                await asyncio.sleep(0.005)
        return [await self.service.get(self.caller, id_) for id_ in ids]

    async def settled(self, prediction_id: str) -> Prediction:
        """Wait until a prediction has ended; check its receipt and return it."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                stored = await self.service.get(self.caller, prediction_id)
                if stored.status.terminal:
                    assert stored.receipt is not None
                    assert verify(stored.receipt) == []
                    return stored
                await asyncio.sleep(0.005)

    async def account(self) -> Account:
        """Get the account."""
        return await self.accounts.get(self.account_id)

    async def balanced(self) -> None:
        """Wait until nothing runs, the books agree with the engine, and the account paid for its predictions.

        A claim may be committed after its caller disconnected, so everything is checked again until it holds.
        """
        async with asyncio.timeout(DEADLINE_S):
            while await self._differences():
                await asyncio.sleep(0.01)

    async def _differences(self) -> list[object]:
        await until_idle(self.engine)
        account, page = await self.account(), await self.service.page(self.caller)
        paid_nusd = sum(prediction.cost_nusd or 0 for prediction in page)
        unpaid_nusd = self.credited_nusd - account.available_nusd - paid_nusd
        running = [prediction.id for prediction in page if not prediction.status.terminal]
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
    """Run the service over an engine and a database (an SQLite file or a URL), as one server process does."""
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
    """Run a scripted engine and yield it when it is ready; *options* are those of ``ScriptedOptions``."""
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
    """Run a service whose engine answers *says*, or bytes without end. At the end the books must be balanced."""
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
    """Create the account Ann with credit and a key, and use it."""
    account = await harness.accounts.create("Ann", limits=limits)
    await harness.use_account(account, **terms)
    await harness.add_credit(credit_nusd)


def deployments_of(engine: Engine) -> Deployments:
    """Registry of one deployment, with the name that ``catalog`` uses."""
    return Deployments([Deployment(name="demo", engine=engine, prompts=encoder(ByteTokenizer()))])


def catalog(price: Price) -> Catalog:
    """Catalog of one model with this price."""
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
    """Read a run to its end and return the result."""
    return await collect(event async for _, event in run.events())


async def numbered(run: PredictionEvents, *, after: int = 0) -> list[tuple[int, GenerationEvent]]:
    """Read all events with a number above *after*; merged deltas are split by token."""
    return split_deltas([pair async for pair in run.events(after=after)])


def split_deltas(events: list[tuple[int, GenerationEvent]]) -> list[tuple[int, GenerationEvent]]:
    """Split merged deltas by token and drop their text, which ``text_of`` compares."""
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
    """Text of a choice."""
    return "".join(event.text for _, event in events if isinstance(event, Delta) and event.choice == choice)
