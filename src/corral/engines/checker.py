"""Makes the engine on which constraints are tried."""

from typing import Final

from corral.engines.base import Capabilities, EngineLimits
from corral.engines.constraint_check import TRIAL_TOKENS, ConstraintChecker
from corral.engines.policy import CHECKER_POLICY
from corral.engines.queued import QueuedEngine
from corral.engines.worker import Worker

CHECKER_STEP_TIMEOUT_S: Final = 5.0
CHECKER_LOAD_TIMEOUT_S: Final = 120.0
_CAPABILITIES: Final = Capabilities(
    echo=False, logprobs=False, top_logprobs=0, constraints=True, deterministic_replay=False, prompt_logprobs=False
)


def make_checker(worker: Worker, *, vocab_size: int) -> ConstraintChecker:
    """Make a checker that tries constraints on *worker*, one at a time.

    Args:
        worker: serves a tiny model. Its step timeout is the time in which a constraint must compile.
        vocab_size: of the model whose answers are constrained.
    """
    room_tokens = TRIAL_TOKENS + 1
    limits = EngineLimits(vocab_size=vocab_size, context_tokens=room_tokens, room_tokens=room_tokens, max_sequences=1)
    return ConstraintChecker(QueuedEngine([worker], limits=limits, capabilities=_CAPABILITIES, policy=CHECKER_POLICY))
