"""Predictions: create, hold, run, read, cancel, settle, take up again after a restart.

Every call through any door comes through here. A run belongs to this service, not to the socket that asked for it; its
end and all that follows from it are one transaction. Knows no HTTP and no SQL.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Final

import structlog

from corral.catalog.catalog import Catalog
from corral.catalog.model import CatalogModel
from corral.core.accounts import Scope
from corral.core.caller import Caller
from corral.core.errors import (
    CorralError,
    EngineFailed,
    EngineUnavailable,
    Overloaded,
    ServerStopping,
    StorageUnavailable,
    UnknownPrediction,
)
from corral.core.generation import Finished, GenerationEvent
from corral.core.prediction import Prediction, Status, StoppedBy
from corral.core.pricing import Price
from corral.core.server_state import ServerState, ServerStatus
from corral.deployments.registry import Deployments
from corral.deployments.status import DeploymentStatus
from corral.service.deployments import check_not_failed
from corral.service.ports import Ask, Estimate
from corral.service.runs.journal import Journal, new_prediction_id
from corral.service.runs.live import LiveRun, Outcome
from corral.service.runs.prepare import Prepared, Preparer
from corral.service.runs.reading import ReadableRun, Readings, error_of, readable
from corral.service.runs.recovery import Recovery
from corral.service.runs.settlement_mapping import refused_claim_of
from corral.service.webhooks.webhooks import check_webhook
from corral.store import files
from corral.store.databases.failures import StoreFailed
from corral.store.runs import claims, predictions, settlements
from corral.store.store import Store

_log = structlog.get_logger(__name__)

FLUSH_INTERVAL_S: Final = 0.25
"""What a crash of the gateway can lose of a stream's log; a run that is taken up again computes it once more."""
RETENTION_INTERVAL_S: Final = 60.0
SETTLE_AGAIN_S: Final = 1.0
"""A settlement that the database could not write is tried again after this long."""
CLAIM_AGAIN_S: Final = 0.5
"""A claim that the database gave no answer to is tried once more after this long."""
STOPPING: Final = "The server is being stopped. Send the request again in a few seconds."
STOPPED: Final = "The server was stopped before the answer was complete. Send the request again in a few seconds."
_NONE_LOADED: Final = "No model could be loaded; `corral deployments list` shows the operator why."
_RECOVERING: Final = "Requests that were running at repeated crashes of the engine are tried one by one."


class PredictionService(Readings):
    """The use cases behind every door; see ``ports.Predictions``."""

    def __init__(
        self,
        *,
        store: Store,
        deployments: Deployments,
        preparer: Preparer,
        clock: Callable[[], float],
        retention_s: int,
        on_news: Callable[[], None],
        concurrent_per_model: int = 0,
        max_outage_s: float = 3600,
    ) -> None:
        """Put together; nothing happens before ``run``.

        Args:
            store: where everything is kept.
            deployments: what computes.
            preparer: turns requests into engine requests for them.
            clock: Unix time in seconds.
            retention_s: how long text is kept after a run's end; 0 is for ever.
            on_news: called when the outbox has something for callers who asked to be told.
            concurrent_per_model: runs that one account may have of one model at once; 0 is no limit.
            max_outage_s: how long runs that go on without a reader wait for an engine that cannot be started.
        """
        super().__init__(store, clock)
        self._journal = Journal(store, deployments, clock, on_news=on_news, concurrent_per_model=concurrent_per_model)
        self._deployments = deployments
        self._preparer = preparer
        self._retention_s = retention_s
        self._max_outage_s = max_outage_s
        self._recovery = Recovery(store=store, journal=self._journal, preparer=preparer, go_on=self._go_on)
        self._tasks: asyncio.TaskGroup | None = None
        """Owns every run; None while no new one may begin."""
        self._stopping = False
        self._unsettled: dict[str, str] = {}
        """Ids of runs that are over and that the database could not write yet, with the reason."""

    @property
    def catalog(self) -> Catalog:
        """The served models."""
        return self._preparer.catalog

    @property
    def status(self) -> ServerStatus:
        """State of the server: the first that holds of stopping, storage_failed, starting, recovering, ready."""
        if self._stopping:
            return ServerStatus(state=ServerState.STOPPING)
        if (reason := self._storage_failure) is not None:
            return ServerStatus(state=ServerState.STORAGE_FAILED, reason=reason)
        if not self._deployments.ready:
            reason = _NONE_LOADED if self._deployments.failed else None
            return ServerStatus(state=ServerState.STARTING, reason=reason)
        if self._deployments.recovering:
            return ServerStatus(state=ServerState.RECOVERING, reason=_RECOVERING)
        return ServerStatus(state=ServerState.READY)

    def deployments(self) -> tuple[DeploymentStatus, ...]:
        """Snapshot of each deployment, in the order of the settings."""
        return self._deployments.statuses()

    def deployment_of(self, model: CatalogModel) -> DeploymentStatus:
        """Snapshot of the deployment that computes for *model*."""
        return self._deployments.status_of(model)

    @property
    def _storage_failure(self) -> str | None:
        """Why the database cannot be written, as far as is known."""
        return self._store.failure or next(iter(self._unsettled.values()), None)

    @property
    def ready(self) -> bool:
        """Whether the next request would be answered at once."""
        return self.status.is_ready

    def refuse_new(self) -> None:
        """Refuse new runs from now on, as the server is being stopped; running ones go on until ``end_runs``."""
        self._stopping = True

    async def end_runs(self) -> None:
        """Stop every run for the server's restart, and return when all are settled or stored to go on afterwards."""
        self._stopping = True
        await self._leave_off()

    @asynccontextmanager
    async def run(self) -> AsyncGenerator[None]:
        """Own every run for as long as the block lasts. What is to go on is taken up again by the next start."""
        await self._recovery.find()
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            recovering = tasks.create_task(self._recovery.run())
            keeping = (tasks.create_task(self._keep_journal()), tasks.create_task(self._remove_what_is_past_its_time()))
            try:
                yield
            finally:
                self._tasks, self._stopping = None, True
                recovering.cancel()
                await self._leave_off()
                for task in keeping:
                    task.cancel()

    @asynccontextmanager
    async def open(self, ask: Ask) -> AsyncGenerator[ReadableRun]:
        """Hold the worst case, start the run, and read it; see ``ports.Predictions.open``."""
        prepared = await self._prepare(ask)
        price = prepared.model.price_at(self._clock())
        live = self._live_run(new_prediction_id(), self._journal.now_ms(), ask, prepared, price)
        self._start(live, self._claim_and_drive(live))
        try:
            earlier_id = await asyncio.shield(live.accepted)
            account_id = ask.caller.account_id
            yield readable(live) if earlier_id is None else await self._reopen(account_id, earlier_id, attached=True)
        finally:
            if not ask.goes_on:
                live.stop(StoppedBy.DISCONNECT)

    async def estimate(self, ask: Ask) -> Estimate:
        """Price a request without running it."""
        prepared = await self._prepare(ask)
        price = prepared.model.price_at(self._clock())
        return Estimate(
            price=price,
            prompt_tokens=len(prepared.prompt_ids),
            max_completion_tokens=prepared.max_completion_tokens,
            prompt_nusd=price.cost_nusd(prompt_tokens=len(prepared.prompt_ids), completion_tokens=0),
            worst_case_nusd=prepared.worst_case_nusd(price),
        )

    async def fail(self, ask: Ask, reason: str) -> Prediction:
        """A prediction that has failed before anything was run."""
        ask.caller.require(Scope.INFERENCE)
        ask.caller.require_model(ask.request.model)
        check_webhook(ask.webhook)
        model = self.catalog.get(ask.request.model)
        claim = refused_claim_of(ask, model, model.price_at(self._clock()), prediction_id=new_prediction_id())
        return await self._stored(ask.caller, await self._journal.refuse(claim, reason))

    async def cancel(self, caller: Caller, prediction_id: str) -> Prediction:
        """Stop it if it runs, and return it settled."""
        caller.require(Scope.INFERENCE)
        stored = await self._stored(caller, prediction_id)
        if (live := self._live.get(prediction_id)) is not None:
            live.stop(StoppedBy.CALLER)
            await live.settled.wait()
        elif not await self._recovery.cancel(prediction_id):
            return stored
        return await self._stored(caller, prediction_id)

    async def _prepare(self, ask: Ask) -> Prepared:
        if (reason := self._storage_failure) is not None:
            raise StorageUnavailable(reason)
        ask.caller.require(Scope.INFERENCE)
        ask.caller.require_model(ask.request.model)
        check_webhook(ask.webhook)
        model = self.catalog.get(ask.request.model)
        check_not_failed(self.deployment_of(model), ask.caller, model.id)
        return await self._preparer.prepare(ask.request, flow=ask.caller.account_id)

    def _live_run(self, prediction_id: str, created_at_ms: int, ask: Ask, prepared: Prepared, price: Price) -> LiveRun:
        return LiveRun(
            prediction_id,
            ask,
            prepared,
            price,
            created_at_ms=created_at_ms,
            now_ms=self._journal.now_ms,
            max_outage_s=self._max_outage_s,
        )

    def _start(self, live: LiveRun, work: Coroutine[None, None, None]) -> None:
        if self._tasks is None or self._stopping:
            work.close()
            raise ServerStopping(STOPPING)
        self._live[live.id] = live
        self._deployments.hold(live.prepared.deployment)
        self._tasks.create_task(work)

    async def _claim_and_drive(self, live: LiveRun) -> None:
        # Not in the opener's task: one that goes away during the claim would leave a hold that nobody settles.
        try:
            claimed = await self._claim(live)
        except StorageUnavailable as error:
            live.refuse(error)
            live.log.close(error)
            await self._settle_lost_claim(live, error)
        except Exception as error:  # noqa: BLE001 - handed on to whoever opens the run
            live.refuse(error)
            live.log.close(EngineUnavailable("The run was refused."))
        else:
            if isinstance(claimed, claims.Claimed):
                return await self._drive(live)
            live.accepted.set_result(claimed.prediction_id)
        self._end(live)
        return None

    async def _claim(self, live: LiveRun) -> claims.Claimed | claims.Attached:
        """Claim; once more where the database gave no answer, for the commit may have been done all the same."""
        try:
            return await self._journal.claim(live)
        except StorageUnavailable:
            await asyncio.sleep(CLAIM_AGAIN_S)
            return await self._journal.claim(live, again=True)

    async def _settle_lost_claim(self, live: LiveRun, error: StorageUnavailable) -> None:
        """Settle a claim that may stand although its caller was answered with *error*; else its hold would stay."""
        outcome = Outcome(status=Status.FAILED, stopped_by=StoppedBy.NOT_ADMITTED, error=error)
        try:
            await self._settle(live, outcome, [])
        except UnknownPrediction:
            return  # it does not stand
        except (CorralError, StoreFailed) as failure:
            _log.error("lost_claim_not_settled", prediction=live.id, reason=str(failure))

    async def _drive(self, live: LiveRun) -> None:
        """Run to the end, settle, and only then tell readers that it is over."""
        try:
            outcome = await live.generate()
            if live.never_admitted and (outcome.error is not None or outcome.stopped_by is StoppedBy.RESTART):
                error = outcome.error or EngineUnavailable("The server is being restarted.")
                outcome = Outcome(status=Status.FAILED, stopped_by=StoppedBy.NOT_ADMITTED, error=error)
            if outcome.stopped_by is StoppedBy.RESTART and live.ask.goes_on:
                await self._flush_for_restart(live)
                live.log.close(ServerStopping("The server is being restarted; the run goes on afterwards."))
                return
            last: list[GenerationEvent] = [Finished(usage=live.usage)] if outcome.status is Status.SUCCEEDED else []
            await self._settle(live, outcome, last)
            live.log.append(last)
            stopping = ServerStopping(STOPPED) if outcome.stopped_by is StoppedBy.RESTART else None
            live.log.close(stopping or outcome.error or error_of(outcome.status, None))
        except (Overloaded, StorageUnavailable) as error:  # the server stops, and the database cannot be written
            _log.warning("settlement_left_for_restart", prediction=live.id, reason=str(error))
            live.log.close(ServerStopping(STOPPED))
        except Exception:  # noqa: BLE001 - the edge of a run: a bug in one must not end the server and all others
            incident = secrets.token_hex(8)
            _log.exception("run_failed", prediction=live.id, incident=incident)
            live.log.close(EngineFailed(f"Something went wrong here; incident {incident}."))
        finally:
            self._end(live)

    async def _flush_for_restart(self, live: LiveRun) -> None:
        try:
            await self._journal.flush([live])
        except (CorralError, StoreFailed) as error:  # the next start computes from what is stored
            _log.warning("flush_failed", prediction=live.id, reason=str(error))

    async def _settle(self, live: LiveRun, outcome: Outcome, last: list[GenerationEvent]) -> None:
        """Settle as soon as the database writes; without its output if the database refuses that."""
        with_output, told = True, False
        try:
            while True:
                try:
                    return await self._journal.settle(live, outcome, last, with_output=with_output)
                except (Overloaded, StorageUnavailable) as error:
                    if self._tasks is None:
                        raise
                    if not told:
                        _log.warning("settlement_retry", prediction=live.id, reason=str(error))
                    told = True
                    if isinstance(error, StorageUnavailable):
                        self._unsettled[live.id] = str(error)
                except StoreFailed as error:
                    if not with_output:
                        raise
                    _log.error("settlement_refused", prediction=live.id, reason=str(error))
                    failure = EngineFailed("The result could not be stored.")
                    outcome = replace(outcome, status=Status.FAILED, stopped_by=StoppedBy.ENGINE, error=failure)
                    with_output = False
                await asyncio.sleep(SETTLE_AGAIN_S)
        finally:
            self._unsettled.pop(live.id, None)

    def _end(self, live: LiveRun) -> None:
        del self._live[live.id]
        self._deployments.release(live.prepared.deployment)
        self._journal.forget(live)
        live.refuse(EngineFailed("Something went wrong here."))
        live.settled.set()

    async def _keep_journal(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_INTERVAL_S)
            try:
                if self._store.failure is not None:
                    await self._journal.probe()
                if self._live:
                    # One that is being stored already is left for the next round, to hold up nobody else's.
                    await self._journal.flush([live for live in self._live.values() if not live.writing.locked()])
                else:
                    await self._journal.balance()
            except StorageUnavailable:
                continue  # logged by the store, and shown by ``status``
            except (CorralError, StoreFailed) as error:
                _log.warning("flush_failed", reason=str(error))

    async def _remove_what_is_past_its_time(self) -> None:
        while True:
            now_ms = self._journal.now_ms()
            works = [partial(files.purge_expired, now_ms=now_ms)]
            if self._retention_s:
                before_ms = now_ms - 1000 * self._retention_s
                works.append(partial(predictions.purge_data, before_ms=before_ms))
                works.append(partial(claims.purge_idempotency_keys, before_ms=before_ms))
            try:
                for work in works:
                    while await self._store.write(work):
                        pass
            except (CorralError, StoreFailed) as error:
                _log.warning("retention_waits", reason=str(error))
            await asyncio.sleep(RETENTION_INTERVAL_S)

    async def _leave_off(self) -> None:
        for live in list(self._live.values()):
            live.stop(StoppedBy.RESTART)
        for live in list(self._live.values()):
            await live.settled.wait()
        try:
            await self._journal.balance()
        except (CorralError, StoreFailed) as error:  # shows in reconcile; the server stops all the same
            _log.warning("engine_count_not_stored", reason=str(error))

    def _go_on(self, left: settlements.Unfinished, ask: Ask, prepared: Prepared, events: list[GenerationEvent]) -> None:
        stored = left.prediction
        live = self._live_run(stored.id, stored.created_at_ms, ask, prepared, left.price)
        live.take_up(events, engine_tokens=left.engine_tokens)
        self._start(live, self._drive(live))
