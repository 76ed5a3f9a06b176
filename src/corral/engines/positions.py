"""Tells waiting sequences their positions in the queue, a few times a second."""

import asyncio
from typing import Final

from corral.engines.admission import Admission

POSITIONS_EVERY_S: Final = 0.25


class Positions:
    """Timer that updates the positions of waiting sequences."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._timer: asyncio.TimerHandle | None = None

    def schedule(self) -> None:
        """Update the positions soon, if any sequence waits.

        Not at every change: each update is O(waiting), and so is what all who wait then send to their callers.
        """
        if self._admission.waiting and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(POSITIONS_EVERY_S, self._update)

    def _update(self) -> None:
        self._timer = None
        is_recovering = self._admission.only_suspects
        for position, sequence in enumerate(self._admission.in_order(), start=1):
            if not sequence.deaths:
                sequence.place(position, recovering=is_recovering)
