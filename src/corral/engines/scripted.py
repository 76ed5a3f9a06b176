"""Stepper with predictable tokens: for tests of timing and errors, and for measuring Corral's own overhead.

Greedy tokens are a hash of the sequence so far, sampled ones of seed, prompt and position; so the same request gives
the same tokens alone, in a batch, and after a crash. Certain prompt ids provoke the faults that real engines have.
"""

import os
import time
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

import msgspec

from corral.core.errors import CheckpointRefused, InvalidRequest
from corral.engines.base import Capabilities, EndReason, EngineInfo, EngineRequest
from corral.engines.stepper import Progress, Report, SequenceOutput

SCRIPTED_CAPABILITIES: Final = Capabilities(
    echo=True, logprobs=True, top_logprobs=0, constraints=True, deterministic_replay=True, prompt_logprobs=True
)
_LOGPROB = -0.5
_FIRST_ORDINARY_ID = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedOptions:
    """Options of the script. Fault ids are off at -1; a prompt that contains one provokes the fault."""

    vocab_size: int = 512
    weights_id: str = "scripted"
    context_tokens: int = 4096
    kv_blocks: int = 256
    kv_block_tokens: int = 32
    load_s: float = 0.0
    step_s: float = 0.0
    eos_token_id: int = 2
    answer: tuple[int, ...] = ()
    """Generate these tokens, then ``eos_token_id``, instead of hashes without end. Taken to match any constraint."""
    refuse_load: bool = False
    no_start_file: str = ""
    """While this file exists, no worker starts."""
    refused_id: int = -1
    raise_id: int = -1
    hang_id: int = -1
    exit_id: int = -1


@dataclass(slots=True)
class _Sequence:
    request: EngineRequest
    ids: list[int] = field(default_factory=list[int])


class ScriptedStepper:
    """A batch of scripted sequences; see Stepper."""

    def __init__(self, options: ScriptedOptions) -> None:
        self._options = options
        self._sequences: dict[int, _Sequence] = {}

    @property
    def info(self) -> EngineInfo:
        """Description of the script as if it were a model."""
        return EngineInfo(
            weights_id=self._options.weights_id,
            engine="scripted",
            weights="none",
            vocab_size=self._options.vocab_size,
            context_tokens=self._options.context_tokens,
            kv_block_tokens=self._options.kv_block_tokens,
            kv_blocks=self._options.kv_blocks,
        )

    def add(self, key: int, request: EngineRequest) -> None:
        """Join the batch; refuses prompts with ``refused_id``, and constraints if there is no ``answer``."""
        if self._options.refused_id in request.prompt_ids:
            raise InvalidRequest("refused by the script")
        if request.constraint is not None and not self._options.answer:
            raise InvalidRequest("A script of hashes matches no constraint.", param="response_format")
        self._sequences[key] = _Sequence(request)

    def cancel(self, key: int) -> None:
        """Leave the batch."""
        self._sequences.pop(key, None)

    def step(self) -> list[SequenceOutput]:
        """Sleep ``step_s``, then generate one token for every sequence."""
        if self._options.step_s and self._sequences:
            time.sleep(self._options.step_s)
        for sequence in self._sequences.values():
            self._provoke(sequence.request.prompt_ids)
        if self.kv_usage_percent() > 100:
            raise MemoryError("more was admitted than the KV cache holds")
        outputs = [self._advance(key, sequence) for key, sequence in self._sequences.items()]
        for output in outputs:
            if output.end is not None:
                del self._sequences[output.key]
        return outputs

    def sequences(self) -> int:
        """Sequences in the batch."""
        return len(self._sequences)

    def kv_usage_percent(self) -> float:
        """Share of the blocks in use."""
        block_tokens = self._options.kv_block_tokens
        lengths = (len(s.request.prompt_ids) + len(s.ids) for s in self._sequences.values())
        return 100 * sum(-(-length // block_tokens) for length in lengths) / self._options.kv_blocks

    def _provoke(self, prompt_ids: tuple[int, ...]) -> None:
        if self._options.raise_id in prompt_ids:
            raise RuntimeError("raised by the script")
        if self._options.hang_id in prompt_ids:
            time.sleep(3600)
        if self._options.exit_id in prompt_ids:
            os._exit(139)

    def _advance(self, key: int, sequence: _Sequence) -> SequenceOutput:
        request = sequence.request
        prompt_logprobs = None
        if request.echo and not sequence.ids:
            prompt_logprobs = (_LOGPROB,) * (len(request.prompt_ids) - 1)
        if request.max_new_tokens == 0:
            return SequenceOutput(key=key, ids=(), logprobs=(), end=EndReason.LENGTH, prompt_logprobs=prompt_logprobs)
        token_id = self._next_id(sequence)
        sequence.ids.append(token_id)
        end = None
        if token_id in request.stop_ids and not request.ignore_eos:
            end = EndReason.EOS
        elif len(sequence.ids) == request.max_new_tokens:
            end = EndReason.LENGTH
        return SequenceOutput(key=key, ids=(token_id,), logprobs=(_LOGPROB,), end=end, prompt_logprobs=prompt_logprobs)

    def _next_id(self, sequence: _Sequence) -> int:
        request, position = sequence.request, len(sequence.ids)
        if self._options.answer:
            spoken = position < len(self._options.answer)
            if spoken or position >= request.min_new_tokens:
                return self._options.answer[position] if spoken else self._options.eos_token_id
        if request.sampling.greedy:
            source = repr((*request.prompt_ids, *sequence.ids))
        else:
            source = repr((request.seed, request.prompt_ids, position))
        number = int.from_bytes(blake2b(source.encode(), digest_size=8).digest(), "big")
        return _FIRST_ORDINARY_ID + number % (self._options.vocab_size - _FIRST_ORDINARY_ID)


def build(options: dict[str, Any], report: Report) -> ScriptedStepper:
    """Make a stepper from the options of the launch frame.

    Raises:
        CheckpointRefused: the script says so.
    """
    scripted = msgspec.convert(options, ScriptedOptions)
    report(Progress(stage="Reading the script", done=0, total=1))
    time.sleep(scripted.load_s)
    if scripted.no_start_file and os.path.exists(scripted.no_start_file):
        raise RuntimeError("not started by the script")
    if scripted.refuse_load:
        raise CheckpointRefused("refused by the script")
    report(Progress(stage="Reading the script", done=1, total=1))
    return ScriptedStepper(scripted)
