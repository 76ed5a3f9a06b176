"""Limits of an engine's queue, and how often failures are retried."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePolicy:
    """Limits of waiting, and of retries after workers died."""

    max_waiting: int = 1024
    """Most waiting sequences of each priority. A flow may have as many as it leaves places for others: alone half."""
    max_queue_wait_s: float = 60.0
    """A request is refused if it is expected to wait longer for its turn, or for the load of the model. Requests of low
    priority wait for any time."""
    max_deaths: int = 3
    """A sequence fails after this many workers died on it without progress; after twice as many with progress."""
    max_recovery_s: float = 30.0
    """Sequences that may have crashed workers are computed alone for so long together, then beside others again."""
    max_failed_starts: int = 3
    """After this many failed starts in a row a worker counts as failed; starts go on, ever more slowly."""
    max_restart_delay_s: float = 30.0
    accepts_while_unloaded: bool = True
    """Queue requests while ``run`` is not entered. Otherwise they fail, and waiting ones do when ``run`` is left."""
    takes_unchecked: bool = False
    """Pass constraints to workers without a check: for the engine that checks them."""


CHECKER_POLICY: Final = QueuePolicy(max_deaths=1, max_waiting=64, accepts_while_unloaded=False, takes_unchecked=True)
"""For the engine on which ``constraint_check`` tries constraints."""
