"""Random sequences of credits, claims, ends, retries and crashes leave a ledger that agrees with a simple model."""

import asyncio
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Connection, select

from corral.core.accounts import Account, ApiKey
from corral.core.errors import IdempotencyConflict, InsufficientCredit
from corral.core.prediction import Prediction, Status, StoppedBy
from corral.core.pricing import Price, verify
from corral.store.books import accounts, keys
from corral.store.books.counters import count_tokens
from corral.store.books.reconcile import reconcile
from corral.store.runs import predictions, streams
from corral.store.runs.claims import Attached, Claimed, claim
from corral.store.runs.settlements import record_start, unfinished
from corral.store.schema import ledger_entries, metadata
from corral.store.store import Store
from tests.contract.store.books import DAY, FREE, NOON, PRICE, ended, new_key, same, settle_counted, wanted

STEPS: Counter[str] = Counter()
"""Rules run, by database: hypothesis does not promise how many."""
RECONCILED_EACH = 5
"""Steps between two looks at everything; balances are looked at after each."""


@dataclass(kw_only=True)
class ExpectedAccount:
    """Expected balances of an account."""

    account: Account
    key: ApiKey
    credited_nusd: int = 0
    spent_nusd: int = 0
    held_nusd: int = 0

    @property
    def available_nusd(self) -> int:
        return self.credited_nusd - self.spent_nusd - self.held_nusd


@dataclass(kw_only=True)
class ExpectedRun:
    """Expected state of a prediction."""

    payer: ExpectedAccount
    prediction: Prediction
    price: Price
    bill: Prediction | None = None
    delivered: int = 0


class BooksMachine(RuleBasedStateMachine):
    """Runs against ``url``; each example starts with an empty database."""

    url = ""
    payers = Bundle("payers")
    runs = Bundle("runs")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.Runner()
        self.now_ms = NOON
        self.steps = 0
        self.all_payers: list[ExpectedAccount] = []
        self.all_runs: dict[str, ExpectedRun] = {}
        self.by_key: dict[tuple[str, str], tuple[bytes, str]] = {}
        self.begin()
        self.store = Store.open(self.url)

    def begin(self) -> None:
        """Empty the database."""
        raise NotImplementedError

    def teardown(self) -> None:
        """Settle the remaining runs and check the ledger again."""
        self.crash_and_settle_the_unfinished()
        assert self.running() == 0
        assert self.loop.run(self.store.read(reconcile)) == []
        self.books_agree()
        self.loop.run(self.store.close())
        self.loop.close()

    def write(self, work: Any) -> Any:
        return self.loop.run(self.store.write(work))

    @initialize(target=payers, credit_nusd=st.integers(0, 10**6))
    def first_payer(self, credit_nusd: int) -> ExpectedAccount:
        return self.make_payer(credit_nusd=credit_nusd, unlimited=False)

    @rule(target=payers, credit_nusd=st.integers(0, 10**6), unlimited=st.booleans())
    def new_payer(self, credit_nusd: int, unlimited: bool) -> ExpectedAccount:
        return self.make_payer(credit_nusd=credit_nusd, unlimited=unlimited)

    def make_payer(self, *, credit_nusd: int, unlimited: bool) -> ExpectedAccount:
        def make(connection: Connection) -> ExpectedAccount:
            account = accounts.create_account(
                connection, name=f"Ann {len(self.all_payers)}", unlimited=unlimited, now_ms=self.now_ms
            )
            key = keys.add_key(connection, new_key(account, account.id.encode()), now_ms=self.now_ms)
            if credit_nusd:
                accounts.credit(connection, account.id, credit_nusd, now_ms=self.now_ms)
            return ExpectedAccount(account=account, key=key, credited_nusd=credit_nusd)

        payer = self.write(make)
        self.all_payers.append(payer)
        return payer

    @rule(payer=payers, nusd=st.integers(-(10**6), 10**6).filter(bool))
    def credit(self, payer: ExpectedAccount, nusd: int) -> None:
        fits = nusd > 0 or payer.available_nusd + nusd >= 0
        try:
            self.write(lambda c: accounts.credit(c, payer.account.id, nusd, now_ms=self.now_ms))
        except InsufficientCredit:
            assert not fits
        else:
            assert fits
            payer.credited_nusd += nusd

    @rule(
        target=runs,
        payer=payers,
        prompt_tokens=st.integers(1, 300),
        new_tokens=st.integers(1, 300),
        price=st.sampled_from([PRICE, PRICE, FREE]),
        idempotency=st.none() | st.builds(same, st.sampled_from("abc"), st.sampled_from([b"x", b"y"])),
    )
    def claim(self, payer: ExpectedAccount, prompt_tokens: int, new_tokens: int, price: Price, idempotency: Any) -> Any:
        request = replace(
            wanted(payer.account, payer.key),
            prompt_tokens=prompt_tokens,
            max_completion_tokens=new_tokens,
            price=price,
            idempotency=idempotency,
        )
        name = (payer.account.id, idempotency.key if idempotency else "")
        known = self.by_key.get(name)
        fits = payer.account.unlimited or request.hold_nusd <= max(0, payer.available_nusd)
        try:
            outcome = self.write(lambda c: claim(c, request, now_ms=self.now_ms))
        except IdempotencyConflict:
            assert known is not None
            assert known[0] != idempotency.body_digest
            return multiple()
        except InsufficientCredit:
            assert known is None
            assert not fits
            return multiple()
        if isinstance(outcome, Attached):
            assert known == (idempotency.body_digest, outcome.prediction_id)
            return self.all_runs[outcome.prediction_id]
        assert isinstance(outcome, Claimed)
        assert known is None
        assert fits
        payer.held_nusd += request.hold_nusd
        run = ExpectedRun(payer=payer, prediction=outcome.prediction, price=price)
        self.all_runs[outcome.prediction.id] = run
        if idempotency:
            self.by_key[name] = (idempotency.body_digest, outcome.prediction.id)
        return run

    @rule(run=runs)
    def start(self, run: ExpectedRun) -> None:
        self.write(lambda c: record_start(c, run.prediction.id, now_ms=self.now_ms))

    @rule(run=runs, tokens=st.integers(1, 20))
    def log(self, run: ExpectedRun, tokens: int) -> None:
        if run.bill is not None or run.delivered + tokens > self.most(run):
            return
        row = streams.LogRow(first_seq=run.delivered + 1, last_seq=run.delivered + tokens, payload=b"text")

        def work(connection: Connection) -> None:
            streams.append(connection, run.prediction.id, [row], engine_tokens=run.delivered + tokens)
            count_tokens(connection, "gateway", delivered=tokens)

        self.write(work)
        run.delivered += tokens

    @rule(run=runs, more=st.integers(0, 300), unread=st.integers(0, 5), status=st.sampled_from(list(Status)[2:]))
    def settle(self, run: ExpectedRun, more: int, unread: int, status: Status) -> None:
        self.end(run, billed=min(run.delivered + more, self.most(run)), unread=unread, status=status)

    @rule(run=runs)
    def cancel(self, run: ExpectedRun) -> None:
        self.end(run, billed=run.delivered, unread=0, status=Status.CANCELED)

    @precondition(lambda self: self.running() > 1)
    @rule()
    def crash_and_settle_the_unfinished(self) -> None:
        self.loop.run(self.store.close())
        self.store = Store.open(self.url)
        left = self.loop.run(self.store.read(unfinished))
        assert {held.prediction.id for held in left} == {i for i, run in self.all_runs.items() if run.bill is None}
        for held in left:
            run = self.all_runs[held.prediction.id]
            assert (held.price, held.engine_tokens) == (run.price, run.delivered)
            self.end(run, billed=held.engine_tokens, unread=0, status=Status.FAILED)

    @rule(hours=st.integers(1, 100))
    def wait(self, hours: int) -> None:
        self.now_ms += hours * DAY // 24

    @rule()
    def purge_data(self) -> None:
        self.write(lambda c: predictions.purge_data(c, before_ms=self.now_ms))

    def end(self, run: ExpectedRun, *, billed: int, unread: int, status: Status) -> None:
        """Settle; the model is changed by the first time only."""
        settlement = ended(
            run.prediction,
            price=run.price,
            tokens=billed,
            at_ms=self.now_ms,
            status=status,
            engine_tokens=billed + unread,
        )
        settlement = replace(settlement, receipt=replace(settlement.receipt, stopped_by=StoppedBy.CALLER))
        after = self.write(lambda c: settle_counted(c, settlement, now_ms=self.now_ms))
        if run.bill is not None:
            assert (after.status, after.cost_nusd, after.receipt) == (
                run.bill.status,
                run.bill.cost_nusd,
                run.bill.receipt,
            )
            return
        assert after.cost_nusd == settlement.receipt.total_nusd
        assert verify(after.receipt) == []
        run.bill = after
        run.payer.held_nusd -= run.prediction.hold_nusd
        run.payer.spent_nusd += after.cost_nusd

    def running(self) -> int:
        """Predictions that are not settled."""
        return sum(run.bill is None for run in self.all_runs.values())

    @staticmethod
    def most(run: ExpectedRun) -> int:
        """Tokens that its hold covers."""
        if run.price is FREE:
            return 300
        return (run.prediction.hold_nusd - run.prediction.prompt_tokens * PRICE.input_nusd) // PRICE.output_nusd

    @invariant()
    def books_agree(self) -> None:
        STEPS[self.url.partition(":")[0]] += 1
        self.steps += 1
        everything = self.steps % RECONCILED_EACH == 0

        def look(connection: Connection) -> tuple[list[str], list[Account], int]:
            total = sum(connection.execute(select(ledger_entries.c.amount_nusd)).scalars())
            return reconcile(connection) if everything else [], accounts.list_accounts(connection), total

        differences, stored, total_nusd = self.loop.run(self.store.read(look))
        assert differences == []
        assert total_nusd == 0
        assert {a.id: (a.available_nusd, a.held_nusd) for a in stored} == {
            payer.account.id: (payer.available_nusd, payer.held_nusd) for payer in self.all_payers
        }
        assert all(a.available_nusd >= 0 for a in stored if not a.unlimited)


def hold_to_the_model(machine: type[BooksMachine], *, rules: int, examples: int, steps: int) -> None:
    """Run at least *rules* rules: examples may end early, and further rounds with other seeds make up for that."""
    database, rounds = machine.url.partition(":")[0], 0
    limits = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck)
    )
    while STEPS[database] < rules:
        run_state_machine_as_test(seed(rounds)(machine) if rounds else machine, settings=limits)
        rounds += 1


def test_books_agree_after_random_operations_on_sqlite(migrated_sqlite: Path) -> None:
    memory = Path("/dev/shm")  # syncing a disk shows nothing here, and takes most of the time
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as directory:
        path = Path(directory) / "corral.db"

        class OnSqlite(BooksMachine):
            url = f"sqlite:///{path}"

            def begin(self) -> None:
                for old in path.parent.iterdir():
                    old.unlink()
                shutil.copy(migrated_sqlite, path)

        hold_to_the_model(OnSqlite, rules=2000, examples=45, steps=50)
    assert STEPS["sqlite"] >= 2000


def test_books_agree_after_random_operations_on_postgresql(postgres_url: str) -> None:
    class OnPostgres(BooksMachine):
        url = postgres_url

        def begin(self) -> None:
            with psycopg.connect(postgres_url) as connection:
                connection.execute("SET session_replication_role = replica")
                for table in metadata.tables:
                    connection.execute(f'DELETE FROM "{table}"'.encode())

    hold_to_the_model(OnPostgres, rules=100, examples=5, steps=40)
    assert STEPS["postgresql"] >= 100
