"""Log probabilities of prompt tokens, computed by a separate request that generates nothing.

The pipeline returns no log probabilities for tokens in its prefix cache. The first token is therefore replaced by an
alias: an id beyond the vocabulary that the graph maps to the same token, so that no cached prefix matches. The log
probability of the first token is not needed.
"""

from collections.abc import Callable
from itertools import count

import numpy as np
import openvino as ov
import openvino_genai as genai
from openvino_genai.py_openvino_genai import GenerationHandle, GenerationStatus

from corral.engines.base import EngineRequest
from corral.engines.openvino.pipeline import ignore_stop_tokens

_MOST_ID = 2**24
"""Ids below this are exact in the graph in every data type."""
_MOST_TRIES = 8


class PromptScorer:
    """Creates scoring requests, each with its own alias of the first token."""

    def __init__(self, add: Callable[[ov.Tensor, genai.GenerationConfig], GenerationHandle], vocab_size: int) -> None:
        """Create a scorer.

        Args:
            add: adds a request to the pipeline.
            vocab_size: vocabulary size of the model.
        """
        self._add = add
        self._vocab_size = vocab_size
        self._names = count()

    def start(self, request: EngineRequest) -> "PromptScore":
        """Start scoring a prompt of two or more tokens."""
        return PromptScore(lambda: self._begin(request.prompt_ids), len(request.prompt_ids))

    def _begin(self, prompt_ids: tuple[int, ...]) -> GenerationHandle:
        first, *rest = prompt_ids
        others = max(1, _MOST_ID // self._vocab_size - 1)
        alias = first + self._vocab_size * (1 + next(self._names) % others)
        config = genai.GenerationConfig()
        config.echo = True
        config.max_new_tokens = 0
        config.logprobs = 1
        ignore_stop_tokens(config)
        return self._add(ov.Tensor(np.array([[alias, *rest]], np.int64)), config)


class PromptScore:
    """A prompt that is being scored."""

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
        """Cancel scoring; the next step frees its blocks."""
        self._handle.cancel()

    def read(self) -> tuple[float, ...] | None:
        """Get the log probabilities of all tokens but the first after a step; None while they are incomplete.

        Raises:
            RuntimeError: the pipeline dropped the request, or skipped part of the prompt in every attempt.
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
