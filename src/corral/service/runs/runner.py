"""Create, compute, cancel and settle predictions.

Every request through any door comes through here. A run does not belong to the connection that asked for it: its task
is owned by ``ActiveRuns``, and its end with all consequences is one transaction.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import structlog

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
from corral.service.deployments import check_not_failed
from corral.service.ports import Ask, Estimate
from corral.service.runs.active import ActiveRuns
from corral.service.runs.driver import RunDriver
from corral.service.runs.health import ServerHealth
from corral.service.runs.journal import Journal, new_prediction_id
from corral.service.runs.prepare import Prepared, Preparer
from corral.service.runs.reading import LogReader, PredictionReader, error_of
from corral.service.runs.recovery import Recovery
from corral.service.runs.run import ActiveRun, Outcome, Run
from corral.service.runs.settlement_mapping import refused_claim_of
from corral.service.runs.settler import Settler
from corral.service.webhooks.webhooks import check_webhook
from corral.store.databases.failures import StoreFailed
from corral.store.runs import claims, settlements

_log = structlog.get_logger(__name__)

CLAIM_AGAIN_S: Final = 0.5
"""Delay before a claim that the database did not answer is retried once."""
STOPPED: Final = "The server was stopped before the answer was complete. Send the request again in a few seconds."


class PredictionRunner:
    """Starts runs, drives each to its end and settles it."""

    def __init__(
        self,
        *,
        preparer: Preparer,
        runs: ActiveRuns,
        journal: Journal,
        settler: Settler,
        reader: PredictionReader,
        recovery: Recovery,
        health: ServerHealth,
        max_outage_s: float,
    ) -> None:
        """*max_outage_s* is the longest wait of background runs for an engine that cannot be started."""
        self._preparer = preparer
        self._runs = runs
        self._journal = journal
        self._settler = settler
        self._reader = reader
        self._recovery = recovery
        self._health = health
        self._max_outage_s = max_outage_s

    @asynccontextmanager
    async def open(self, ask: Ask) -> AsyncGenerator[LogReader]:
        """Hold the most it can cost, start the run, and read it; see ``ports.Predictions.open``."""
        prepared = await self._prepare(ask)
        now_ms = self._journal.now_ms()
        price = prepared.model.price_at(now_ms / 1000)
        run = Run(id=new_prediction_id(), ask=ask, prepared=prepared, price=price, created_at_ms=now_ms)
        active = ActiveRun.new(run)
        self._runs.start(active, self._claim_and_drive(active))
        try:
            earlier_id = await active.opened.wait()
            if earlier_id is None:
                yield LogReader.of(active)
            else:
                yield await self._reader.open_log(run.account_id, earlier_id, attached=True)
        finally:
            if not ask.goes_on:
                active.stop.set(StoppedBy.DISCONNECT)

    async def estimate(self, ask: Ask) -> Estimate:
        """Price a request without running it."""
        prepared = await self._prepare(ask)
        price = prepared.model.price_at(self._journal.now_ms() / 1000)
        return Estimate(
            price=price,
            prompt_tokens=len(prepared.prompt_ids),
            max_completion_tokens=prepared.max_completion_tokens,
            prompt_nusd=price.cost_nusd(prompt_tokens=len(prepared.prompt_ids), completion_tokens=0),
            worst_case_nusd=prepared.worst_case_nusd(price),
        )

    async def fail(self, ask: Ask, reason: str) -> Prediction:
        """Create a prediction that has failed before anything was run; see ``ports.Predictions.fail``."""
        ask.caller.require(Scope.INFERENCE)
        ask.caller.require_model(ask.request.model)
        check_webhook(ask.webhook)
        model = self._preparer.catalog.get(ask.request.model)
        price = model.price_at(self._journal.now_ms() / 1000)
        claim = refused_claim_of(ask, model, price, prediction_id=new_prediction_id())
        return await self._reader.stored(ask.caller, await self._journal.refuse(claim, reason))

    async def cancel(self, caller: Caller, prediction_id: str) -> Prediction:
        """Stop a prediction if it is running; returns it settled."""
        caller.require(Scope.INFERENCE)
        stored = await self._reader.stored(caller, prediction_id)
        if (active := self._runs.get(prediction_id)) is not None:
            active.stop.set(StoppedBy.CALLER)
            await active.settled.wait()
        elif not await self._recovery.cancel(prediction_id):
            return stored
        return await self._reader.stored(caller, prediction_id)

    def resume(
        self, unfinished: settlements.Unfinished, ask: Ask, prepared: Prepared, events: list[GenerationEvent]
    ) -> None:
        """Start a run that an earlier process left unfinished, after its stored *events*.

        Raises:
            ServerStopping: no run may start any more.
        """
        stored = unfinished.prediction
        run = Run(id=stored.id, ask=ask, prepared=prepared, price=unfinished.price, created_at_ms=stored.created_at_ms)
        active = ActiveRun.resumed(run, events, engine_tokens=unfinished.engine_tokens)
        self._runs.start(active, self._drive(active))
        self._journal.resume(active)

    async def _prepare(self, ask: Ask) -> Prepared:
        if (reason := self._health.storage_failure) is not None:
            raise StorageUnavailable(reason)
        ask.caller.require(Scope.INFERENCE)
        ask.caller.require_model(ask.request.model)
        check_webhook(ask.webhook)
        model = self._preparer.catalog.get(ask.request.model)
        check_not_failed(self._health.deployment_of(model), ask.caller, model.id)
        return await self._preparer.prepare(ask.request, flow=ask.caller.account_id)

    async def _claim_and_drive(self, active: ActiveRun) -> None:
        # Not in the opener's task: if that went away during the claim, the hold would never be settled.
        try:
            claimed = await self._claim(active)
        except StorageUnavailable as error:
            active.opened.refuse(error)
            active.log.close(error)
            await self._settle_lost_claim(active, error)
        except Exception as error:  # noqa: BLE001 - raised to the request that opened the run
            active.opened.refuse(error)
            active.log.close(EngineUnavailable("The run was refused."))
        else:
            if isinstance(claimed, claims.Claimed):
                return await self._drive(active)
            active.opened.attach(claimed.prediction_id)
        self._end(active)
        return None

    async def _claim(self, active: ActiveRun) -> claims.Claimed | claims.Attached:
        """Claim; retry once if the database gave no answer, since the commit may have succeeded all the same."""
        try:
            return await self._journal.claim(active)
        except StorageUnavailable:
            await asyncio.sleep(CLAIM_AGAIN_S)
            return await self._journal.claim(active, again=True)

    async def _settle_lost_claim(self, active: ActiveRun, error: StorageUnavailable) -> None:
        """Release the hold of a claim that may be stored although its caller was answered with *error*."""
        outcome = Outcome(status=Status.FAILED, stopped_by=StoppedBy.NOT_ADMITTED, error=error)
        try:
            await self._settler.settle(active, outcome, [])
        except UnknownPrediction:
            return  # it was not stored
        except (CorralError, StoreFailed) as failure:
            _log.error("lost_claim_not_settled", prediction=active.id, reason=str(failure))

    async def _drive(self, active: ActiveRun) -> None:
        """Compute the run, settle it, and then end its log: readers see the end only once it is stored."""
        # Not before the claim: a caller without credit must not cause a load.
        self._runs.request_load(active)
        try:
            driver = RunDriver(active, now_ms=self._journal.now_ms, max_outage_s=self._max_outage_s)
            await self._finish(active, _admission_checked(active, await driver.generate()))
        except (Overloaded, StorageUnavailable) as error:  # the server stops, and the database cannot be written
            _log.warning("settlement_postponed", prediction=active.id, reason=str(error))
            active.log.close(ServerStopping(STOPPED))
        except Exception:  # noqa: BLE001 - a bug in one run must not end the server and all others
            incident = secrets.token_hex(8)
            _log.exception("run_failed", prediction=active.id, incident=incident)
            active.log.close(EngineFailed(f"Something went wrong here; incident {incident}."))
        finally:
            self._end(active)

    async def _finish(self, active: ActiveRun, outcome: Outcome) -> None:
        if outcome.stopped_by is StoppedBy.RESTART and active.run.ask.goes_on:
            await self._flush_for_restart(active)
            active.log.close(ServerStopping("The server is being restarted; the run goes on afterwards."))
            return
        last: list[GenerationEvent] = [Finished(usage=active.usage)] if outcome.status is Status.SUCCEEDED else []
        await self._settler.settle(active, outcome, last)
        active.log.append(last)
        stopping = ServerStopping(STOPPED) if outcome.stopped_by is StoppedBy.RESTART else None
        active.log.close(stopping or outcome.error or error_of(outcome.status, None))

    async def _flush_for_restart(self, active: ActiveRun) -> None:
        try:
            await self._journal.flush([active])
        except (CorralError, StoreFailed) as error:  # the next start continues after what is stored
            _log.warning("flush_failed", prediction=active.id, reason=str(error))

    def _end(self, active: ActiveRun) -> None:
        self._journal.forget(active.id)
        active.opened.refuse(EngineFailed("Something went wrong here."))
        self._runs.end(active)


def _admission_checked(active: ActiveRun, outcome: Outcome) -> Outcome:
    """Turn an outcome with an error into NOT_ADMITTED if the engine refused the run before computing anything."""
    if not active.never_admitted or (outcome.error is None and outcome.stopped_by is not StoppedBy.RESTART):
        return outcome
    error = outcome.error or EngineUnavailable("The server is being restarted.")
    return Outcome(status=Status.FAILED, stopped_by=StoppedBy.NOT_ADMITTED, error=error)
