"""Whether an engine has been loaded, or why not."""

import asyncio

from corral.core.errors import CheckpointRefused, CorralError, EngineUnavailable


class LoadOutcome:
    """Result of an engine's load, awaited by ``Engine.ready``."""

    def __init__(self) -> None:
        self._settled = asyncio.Event()
        self.failure: CorralError | None = None
        """Why no worker can be had; the message may name files. None while loading, and once loaded."""

    @property
    def is_pending(self) -> bool:
        """Whether the load has neither succeeded nor failed."""
        return not self._settled.is_set()

    async def wait(self) -> None:
        """Return when the engine is loaded.

        Raises:
            CorralError: the load failed.
        """
        await self._settled.wait()
        if self.failure is not None:
            raise self.failure

    def settle(self, failure: CorralError | None) -> None:
        """Wake whoever waits."""
        self.failure = failure
        self._settled.set()

    def reset(self) -> None:
        """Wait for another load."""
        self.failure = None
        self._settled.clear()

    def check(self) -> None:
        """Refuse a new request if the load has failed.

        Raises:
            EngineUnavailable: with a message that names no file.
        """
        if self.failure is not None:
            raise EngineUnavailable(str(public(self.failure)))


def public(failure: CorralError) -> CorralError:
    """The error of a failed load as callers may see it: without paths."""
    if isinstance(failure, CheckpointRefused):
        return CheckpointRefused("The model could not be loaded; see the server's log.")
    return failure
