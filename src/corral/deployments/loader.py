"""Loads and unloads deployments: reserves memory first, evicts idle deployments, one load at a time.

The load itself is the engine's: entering ``QueuedEngine.run`` starts it, and the gate lets one through at a time.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Final

import structlog

from corral.core.errors import CorralError, EngineUnavailable, InsufficientMemory
from corral.deployments.deployment import LoadPolicy
from corral.deployments.memory import MemoryBudget
from corral.deployments.slot import Residence, Slot

_log = structlog.get_logger(__name__)

PATIENCE_S: Final = 5.0
"""Waiting so long for memory, the least recently used deployment takes no new requests until it has been replaced.

It has been loaded for at least as long.
"""
_DRAIN_POLL_S: Final = 0.02


class Loader:
    """Decides which deployments are in memory."""

    def __init__(self, slots: Iterable[Slot], budget: MemoryBudget, *, patience_s: float = PATIENCE_S) -> None:
        """Manage *slots* within *budget*; ``keep`` does the work for each of them."""
        self._slots: Sequence[Slot] = tuple(slots)
        self._budget = budget
        self._patience_s = patience_s
        self._turn = asyncio.Lock()
        """Held by the deployment that is next to get memory, so that they get it in the order of asking."""
        self._changed = asyncio.Event()

    async def keep(self, slot: Slot) -> None:
        """Load one deployment when it is requested, and unload it when it must leave; runs until cancelled."""
        while True:
            await slot.wanted.wait()
            try:
                await self._reserve(slot)
            except InsufficientMemory as error:
                self._refuse(slot, error)
                continue
            try:
                await self._reside(slot)
            except Exception:  # noqa: BLE001 - a bug in one deployment must not end the others
                _log.exception("deployment_failed", deployment=slot.name)
            finally:
                self._vacate(slot)

    def _refuse(self, slot: Slot, error: InsufficientMemory) -> None:
        _log.error("deployment_load_refused", deployment=slot.name, reason=str(error))
        slot.failure = error
        slot.wanted.clear()
        slot.deployment.engine.fail_load(EngineUnavailable("The model cannot be loaded now; try again later."))

    async def _reserve(self, slot: Slot) -> None:
        """Wait until the memory for a load is reserved, evicting other deployments if needed.

        Raises:
            InsufficientMemory: it would not fit even if every deployment left that may.
        """
        needed_bytes = slot.deployment.load_bytes
        async with self._turn:
            waiting_since_s = asyncio.get_running_loop().time()
            while needed_bytes > self._budget.available_bytes:
                reachable_bytes = self._budget.available_bytes + sum(
                    self._budget.reserved_bytes(one.name) for one in self._slots if _may_leave(one, slot)
                )
                if needed_bytes > reachable_bytes:
                    raise InsufficientMemory(slot.name, needed_bytes=needed_bytes, available_bytes=reachable_bytes)
                await self._make_place(slot, waiting_since_s)
            self._budget.reserve(slot.name, needed_bytes)
            slot.residence = Residence.IN
            slot.left.clear()

    async def _make_place(self, slot: Slot, waiting_since_s: float) -> None:
        """Evict the least recently used idle deployment, or wait until something changes."""
        movable = sorted((one for one in self._slots if _may_leave(one, slot)), key=lambda one: one.used_at_s)
        if (victim := next((one for one in movable if one.is_idle), None)) is not None:
            _log.info("deployment_makes_place", deployment=victim.name, wanted=slot.name)
            self.tell_to_leave(victim)
            await victim.left.wait()
            return
        self._changed.clear()
        # One that loads stays until it has computed for a while: else two that are asked all the time only load.
        loaded = [one for one in movable if one.residence is Residence.IN and one.load_ended_s is not None]
        impatient_at_s = None
        if loaded:
            impatient_at_s = max(waiting_since_s, loaded[0].load_ended_s or 0.0) + self._patience_s
        try:
            async with asyncio.timeout_at(impatient_at_s):
                await self._changed.wait()
        except TimeoutError:
            await self.drain(loaded[0])

    async def _reside(self, slot: Slot) -> None:
        """Run the engine until the deployment must leave."""
        loop = asyncio.get_running_loop()
        slot.used_at_s = slot.load_began_s = loop.time()
        _log.log(_level(slot), "deployment_loading", deployment=slot.name, memory_bytes=slot.deployment.load_bytes)
        async with slot.deployment.engine.run(), asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(self._watch_load(slot))
            await slot.told_to_leave.wait()
            watching.cancel()
        _log.info("deployment_unloaded", deployment=slot.name)

    async def _watch_load(self, slot: Slot) -> None:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            await slot.deployment.engine.ready()
        except CorralError as error:
            # The start of a server with one deployment ends with the error itself.
            level = logging.ERROR if len(self._slots) > 1 else logging.DEBUG
            _log.log(level, "deployment_load_failed", deployment=slot.name, reason=str(error))
            if not isinstance(error, EngineUnavailable):  # it is not started again by itself, so it uses nothing
                self._budget.release(slot.name)
            return
        finally:
            slot.load_began_s, slot.load_ended_s = None, loop.time()
            self.changed()
        slot.load_took_s = loop.time() - began_s
        slot.used_at_s = loop.time()
        self._budget.reserve(slot.name, slot.deployment.memory_bytes)  # no more than before: the conversion is over
        _log.log(_level(slot), "deployment_loaded", deployment=slot.name, took_s=round(slot.load_took_s, 3))
        self.changed()
        self.watch_idleness(slot)

    def _vacate(self, slot: Slot) -> None:
        self._budget.release(slot.name)
        slot.residence = Residence.OUT
        slot.told_to_leave.clear()
        slot.load_began_s = slot.load_ended_s = None
        if not slot.uses:
            slot.wanted.clear()
        slot.left.set()
        self.changed()

    def tell_to_leave(self, slot: Slot) -> None:
        """Unload a deployment at once."""
        slot.residence = Residence.LEAVING
        slot.deployment.engine.pause_admission()
        slot.told_to_leave.set()

    async def drain(self, slot: Slot) -> None:
        """Unload a deployment when its last run is settled; new requests wait for its next load."""
        if slot.residence is Residence.OUT:
            return
        _log.info("deployment_draining", deployment=slot.name, runs=slot.uses)
        slot.residence = Residence.LEAVING
        slot.deployment.engine.pause_admission()
        while slot.residence is Residence.LEAVING and _is_at_work(slot):  # noqa: ASYNC110 - there is no such event
            await asyncio.sleep(_DRAIN_POLL_S)
        slot.told_to_leave.set()
        await slot.left.wait()

    def changed(self) -> None:
        """Check again which deployments can be evicted: a run has ended, or memory was released."""
        self._changed.set()

    def watch_idleness(self, slot: Slot) -> None:
        """Unload an on-demand deployment after its idle time, unless it is used until then."""
        idle_s = slot.deployment.idle_unload_s
        if idle_s is None or not slot.is_idle:
            return
        loop = asyncio.get_running_loop()

        def look() -> None:
            if slot.is_idle and slot.load_began_s is None and loop.time() >= slot.used_at_s + idle_s:
                _log.info("deployment_idle", deployment=slot.name, idle_s=idle_s)
                self.tell_to_leave(slot)

        loop.call_at(slot.used_at_s + idle_s, look)

    def expected_load_s(self, slot: Slot) -> float | None:
        """Seconds until a pending load of the deployment ends, by earlier loads; None if it was never loaded."""
        own_s = self._remaining_s(slot)
        if own_s is None:
            return None
        ahead = [one for one in self._slots if one is not slot and one.load_began_s is not None]
        return own_s + sum(self._remaining_s(one) or 0.0 for one in ahead)

    def _remaining_s(self, slot: Slot) -> float | None:
        if slot.load_took_s is None:
            return None
        began_s = slot.load_began_s
        elapsed_s = 0.0 if began_s is None else asyncio.get_running_loop().time() - began_s
        return max(0.0, slot.load_took_s - elapsed_s)


def _level(slot: Slot) -> int:
    """Log level of a load: at the start of a server the banner and the progress bar report it."""
    return logging.INFO if slot.deployment.load is LoadPolicy.ON_DEMAND else logging.DEBUG


def _may_leave(one: Slot, for_whom: Slot) -> bool:
    is_movable = one.deployment.load is LoadPolicy.ON_DEMAND and one.residence is not Residence.OUT
    return is_movable and one is not for_whom


def _is_at_work(slot: Slot) -> bool:
    """Whether a run computes, or is not settled yet: it would count as one that needs the next load."""
    engine = slot.deployment.engine
    return engine.is_computing or slot.uses > engine.stats().waiting
