"""Log probabilities of a prompt's tokens: a request of its own that reads the prompt and generates nothing.

The pipeline skips what it finds in its prefix cache, and with it the log probabilities. So the first token goes under
another name, an id beyond the vocabulary that the graph takes for the same token; no cached prompt begins with it, and
only the first token's own probability is never asked for.
"""

from collections.abc import Callable
from itertools import count

import numpy as np
import openvino as ov
import openvino_genai as genai
from openvino_genai.py_openvino_genai import GenerationHandle, GenerationStatus

from corral.engines.base import EngineRequest

_MOST_ID = 2**24
"""Ids stay exact in the graph below this, whatever type it computes with."""
_MOST_TRIES = 8


class PromptScorer:
    """Makes scoring requests, each under names of its own."""

    def __init__(self, add: Callable[[ov.Tensor, genai.GenerationConfig], GenerationHandle], vocab_size: int) -> None:
        """Score on a pipeline.

        Args:
            add: adds a request to the pipeline.
            vocab_size: of the model.
        """
        self._add = add
        self._vocab_size = vocab_size
        self._names = count()

    def start(self, request: EngineRequest) -> "PromptScore":
        """Begin to score a request's prompt of two tokens or more."""
        return PromptScore(lambda: self._begin(request.prompt_ids), len(request.prompt_ids))

    def _begin(self, prompt_ids: tuple[int, ...]) -> GenerationHandle:
        first, *rest = prompt_ids
        others = max(1, _MOST_ID // self._vocab_size - 1)
        alias = first + self._vocab_size * (1 + next(self._names) % others)
        config = genai.GenerationConfig()
        config.echo = True
        config.max_new_tokens = 0
        config.logprobs = 1
        return self._add(ov.Tensor(np.array([[alias, *rest]], np.int64)), config)


class PromptScore:
    """One prompt being scored."""

    def __init__(self, begin: Callable[[], GenerationHandle], prompt_tokens: int) -> None:
        self._begin = begin
        self._prompt_tokens = prompt_tokens
        self._tries = 0
        self._again()

    def _again(self) -> None:
        self._handle = self._begin()
        self._logprobs: list[float] = []
        self._tries += 1

    def cancel(self) -> None:
        """Stop; the next step frees its blocks."""
        self._handle.cancel()

    def read(self) -> tuple[float, ...] | None:
        """After a step: one log probability for each token after the first, or None while there is more to come.

        Raises:
            RuntimeError: the pipeline gave the prompt up, or skipped part of it time and again.
        """
        status = self._handle.get_status()
        while self._handle.can_read():
            for output in self._handle.read().values():
                self._logprobs.extend(output.generated_log_probs)
        if status == GenerationStatus.RUNNING:
            return None
        if status == GenerationStatus.FINISHED and len(self._logprobs) == self._prompt_tokens:
            return tuple(self._logprobs[1:])  # the first is a placeholder
        if status != GenerationStatus.FINISHED or self._tries == _MOST_TRIES:
            raise RuntimeError(f"the pipeline did not score a prompt: {status.name} after {self._tries} tries")
        self._again()
        return None
