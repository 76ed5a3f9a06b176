"""The registry of active runs."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Final

from corral.core.errors import ServerStopping
from corral.core.prediction import StoppedBy
from corral.deployments.registry import Deployments
from corral.service.runs.run import ActiveRun

STOPPING: Final = "The server is being stopped. Send the request again in a few seconds."


class ActiveRuns:
    """Runs of this process by prediction id, with the tasks that compute them."""

    def __init__(self, deployments: Deployments) -> None:
        self._deployments = deployments
        self._runs: dict[str, ActiveRun] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._stopping = False

    def __iter__(self) -> Iterator[ActiveRun]:
        """A copy, so that runs may start and end meanwhile."""
        return iter(list(self._runs.values()))

    def __contains__(self, prediction_id: str) -> bool:
        return prediction_id in self._runs

    def get(self, prediction_id: str) -> ActiveRun | None:
        """Get the run of a prediction, or None if this process does not run it."""
        return self._runs.get(prediction_id)

    @property
    def is_stopping(self) -> bool:
        """Whether new runs are refused because the server is being stopped."""
        return self._stopping

    @property
    def is_open(self) -> bool:
        """Whether ``run`` is active; runs that end after it must not wait for the database to come back."""
        return self._tasks is not None

    def refuse_new(self) -> None:
        """Refuse new runs from now on; active ones continue."""
        self._stopping = True

    def start(self, active: ActiveRun, work: Coroutine[None, None, None]) -> None:
        """Add a run and begin *work*, which calls ``end`` when it is done.

        Raises:
            ServerStopping: no run may start any more.
        """
        if self._tasks is None or self._stopping:
            work.close()
            raise ServerStopping(STOPPING)
        self._runs[active.id] = active
        self._deployments.hold(active.run.prepared.deployment)
        self._tasks.create_task(work)

    def request_load(self, active: ActiveRun) -> None:
        """Begin to load the deployment of a run, unless it is loaded."""
        self._deployments.request_load(active.run.prepared.deployment)

    def end(self, active: ActiveRun) -> None:
        """Remove a run that is settled, or left for the next start of the server."""
        del self._runs[active.id]
        self._deployments.release(active.run.prepared.deployment)
        active.settled.set()

    async def stop_all(self) -> None:
        """Stop every run for a restart of the server; return when all have ended. Refuses new ones."""
        self._stopping = True
        stopped = list(self)
        for active in stopped:
            active.stop.set(StoppedBy.RESTART)
        for active in stopped:
            await active.settled.wait()

    @asynccontextmanager
    async def run(self) -> AsyncGenerator[None]:
        """Accept runs while the block is active; stop them all when it is left."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                yield
            finally:
                self._tasks = None
                await self.stop_all()
