"""The running batch: GenAI's continuous batching behind the ``Stepper`` protocol.

Works around known problems of the pipeline, each of which has a test: ids that it accepts and should not, requests
that it ignores in silence, steps that never return after one that raised. The
caller keeps the sum of all requests' blocks within ``info.kv_blocks``.

Alone or in a batch, greedy tokens are the same and seeded tokens nearly always: kernels for fewer than four rows sum in
another order, which moves logits by about 1e-5, and now and then a draw lands between the two. At temperature 1 over a
flat random vocabulary of 32,000 that was one token in 260 to 740; at temperature 0.7 and top_p 0.95, one in 7,700.
"""

from collections.abc import Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path

import msgspec
import numpy as np
import openvino as ov
import openvino_genai as genai
from openvino_genai.py_openvino_genai import GenerationFinishReason, GenerationHandle, GenerationStatus

from corral.checkpoints.architectures.shape import ModelShape
from corral.core.errors import InvalidRequest
from corral.core.generation import Sampling
from corral.engines.base import EndReason, EngineInfo, EngineRequest, check_request
from corral.engines.openvino.cache import ModelCache
from corral.engines.openvino.checker_model import checker_shape, limit_memory, plan_checker_model
from corral.engines.openvino.checkpoint import open_checkpoint
from corral.engines.openvino.convert import obtain_checker_model, obtain_model
from corral.engines.openvino.detokenizer import DETOKENIZER
from corral.engines.openvino.echo import PromptScore, PromptScorer
from corral.engines.openvino.memory import BLOCK_TOKENS, available_bytes, choose_blocks, choose_precision
from corral.engines.openvino.options import OpenVinoOptions
from corral.engines.openvino.pipeline import load_pipeline, make_config
from corral.engines.openvino.quantize import StoredTensor, activation_group, describe_storage, plan_tensors
from corral.engines.openvino.tensors import Checkpoint
from corral.engines.stepper import Progress, Report, SequenceOutput


class OpenVinoStepper:
    """A batch on the CPU. Not thread-safe; an exception from ``step`` means the pipeline is lost."""

    def __init__(
        self, pipeline: genai.ContinuousBatchingPipeline, info: EngineInfo, *, has_vocabulary: bool = False
    ) -> None:
        self._pipeline = pipeline
        self._info = info
        self._has_vocabulary = has_vocabulary
        self._handles: dict[int, GenerationHandle] = {}
        self._pipeline_ids = count()
        self._scorer = PromptScorer(self._add, info.vocab_size)
        self._scores: dict[int, tuple[PromptScore, EngineRequest]] = {}
        """Prompts that are read for their log probabilities before their answers begin."""
        self._unread: list[SequenceOutput] = []

    @property
    def info(self) -> EngineInfo:
        """What is loaded."""
        return self._info

    def add(self, key: int, request: EngineRequest) -> None:
        """Add a request to the batch at the next step. Keys are unique for the life of the process and only grow.

        Raises:
            InvalidRequest: the request could not run to its end; the others are unaffected.
            ValueError: the key is in the batch already.
        """
        if key in self._handles or key in self._scores:
            raise ValueError(f"key {key} is in the batch already")
        check_request(request, self._info)
        if request.constraint is not None and not self._has_vocabulary:
            raise InvalidRequest(
                "This model has no tokenizer, so no answer can be constrained.", param="response_format"
            )
        config = self._configure(request)
        if request.echo and len(request.prompt_ids) > 1:
            self._scores[key] = (self._scorer.start(request), request)
        else:
            self._begin(key, request, config)

    def _configure(self, request: EngineRequest) -> genai.GenerationConfig:
        config = make_config(request)
        try:
            if request.max_new_tokens:
                config.validate()
        except RuntimeError as error:
            raise InvalidRequest("The engine refuses this request's sampling values.") from error
        return config

    def _begin(self, key: int, request: EngineRequest, config: genai.GenerationConfig) -> None:
        if request.max_new_tokens == 0:
            self._unread.append(SequenceOutput(key=key, ids=(), logprobs=(), end=EndReason.LENGTH, prompt_logprobs=()))
            return
        ids = ov.Tensor(np.array([request.prompt_ids], np.int64))  # (1, tokens); other ranks are misread silently
        self._handles[key] = self._add(ids, config)
        if request.echo:
            self._unread.append(SequenceOutput(key=key, ids=(), logprobs=(), end=None, prompt_logprobs=()))

    def _add(self, ids: ov.Tensor, config: genai.GenerationConfig) -> GenerationHandle:
        # Two requests with one id would break each other, so the pipeline's ids are drawn here.
        return self._pipeline.add_request(next(self._pipeline_ids), ids, config)

    def cancel(self, key: int) -> None:
        """Remove a sequence from the batch; the next step frees its blocks. Unknown or finished keys are ignored."""
        handle = self._handles.pop(key, None)
        if handle is not None:
            handle.cancel()
        score, _ = self._scores.pop(key, (None, None))
        if score is not None:
            score.cancel()
        self._unread = [output for output in self._unread if output.key != key]

    def step(self) -> list[SequenceOutput]:
        """Advance every sequence once; return those with new tokens or an end.

        Raises:
            RuntimeError: the pipeline failed, or dropped a request that it should have been able to finish.
        """
        self._pipeline.step()
        outputs = [_read(key, handle) for key, handle in self._handles.items()]
        for output in outputs:
            if output.end is not None:
                del self._handles[output.key]
        unread, self._unread = self._unread, []
        return [
            *unread,
            *self._read_scores(),
            *(output for output in outputs if output.ids or output.end is not None),
        ]

    def _read_scores(self) -> list[SequenceOutput]:
        """Score prompts; their answers start with the next step."""
        outputs: list[SequenceOutput] = []
        for key, (score, request) in list(self._scores.items()):
            logprobs = score.read()
            if logprobs is None:
                continue
            del self._scores[key]
            end = None if request.max_new_tokens else EndReason.LENGTH
            outputs.append(SequenceOutput(key=key, ids=(), logprobs=(), end=end, prompt_logprobs=logprobs))
            if end is None:
                self._begin(key, replace(request, echo=False), self._configure(request))
        return outputs

    def sequences(self) -> int:
        """Sequences in the batch, those not yet prefilled included."""
        return len(self._handles) + len(self._scores) + len(self._unread)

    def kv_usage_percent(self) -> float:
        """Share of the KV cache in use, as the pipeline reports it; it includes blocks freed by the last step."""
        return self._pipeline.get_metrics().cache_usage


def _read(key: int, handle: GenerationHandle) -> SequenceOutput:
    # The status first: a request that finishes between the two reads would lose its last tokens.
    status = handle.get_status()
    ids: list[int] = []
    logprobs: list[float] = []
    reason = GenerationFinishReason.NONE
    while handle.can_read():
        for output in handle.read().values():
            ids.extend(output.generated_ids)
            logprobs.extend(output.generated_log_probs)
            reason = output.finish_reason
    match status:
        case GenerationStatus.RUNNING:
            end = None
        case GenerationStatus.FINISHED:
            end = EndReason.EOS if reason == GenerationFinishReason.STOP else EndReason.LENGTH
        case _:
            raise RuntimeError(f"the pipeline ended sequence {key} with status {status.name}")
    return SequenceOutput(key=key, ids=tuple(ids), logprobs=tuple(logprobs), end=end)


def build(options: Mapping[str, object], report: Report) -> OpenVinoStepper:
    """Convert the checkpoint if needed, load it, warm it up. The first real request is then as fast as any.

    Args:
        options: the fields of ``OpenVinoOptions`` as they crossed the process border.
        report: called with the progress of the start.

    Raises:
        CheckpointRefused: the weights cannot be served.
        EngineUnavailable: there is not enough disk space to convert them.
    """
    return build_stepper(msgspec.convert(options, OpenVinoOptions), report)


def convert_ahead(options: OpenVinoOptions, report: Report) -> None:
    """Convert the checkpoint if needed, as ``build`` would, and load nothing.

    Raises:
        CheckpointRefused: the weights cannot be served.
        EngineUnavailable: there is not enough disk space to convert them.
    """
    with open_checkpoint(Path(options.checkpoint)) as checkpoint:
        _obtain(checkpoint, options, report)


def build_stepper(options: OpenVinoOptions, report: Report) -> OpenVinoStepper:
    """``build`` for callers in the same process."""
    with open_checkpoint(Path(options.checkpoint)) as checkpoint:
        shape, plan, directory, weights_id = _obtain(checkpoint, options, report)
    context_tokens = min(options.context_tokens or shape.context_tokens, shape.context_tokens)
    precision = options.kv_precision or choose_precision(shape, context_tokens)
    blocks = options.kv_blocks or choose_blocks(shape, context_tokens, precision, available_bytes())
    info = EngineInfo(
        engine="openvino",
        weights=describe_storage(plan, options.weights),
        weights_id=weights_id,
        vocab_size=shape.vocab_size,
        context_tokens=context_tokens,
        kv_block_tokens=BLOCK_TOKENS,
        kv_blocks=blocks,
    )
    report(Progress(stage="Loading the model", done=0, total=0))
    pipeline = load_pipeline(
        directory,
        blocks=blocks,
        precision=precision,
        activation_group=activation_group(plan),
        max_batched_tokens=options.max_batched_tokens,
        prefix_caching=options.prefix_caching,
    )
    stepper = OpenVinoStepper(pipeline, info, has_vocabulary=(directory / DETOKENIZER).is_file())
    report(Progress(stage="Warming up", done=0, total=0))
    _warm_up(stepper)
    return stepper


def _obtain(
    checkpoint: Checkpoint, options: OpenVinoOptions, report: Report
) -> tuple[ModelShape, list[StoredTensor], Path, str]:
    cache = ModelCache(Path(options.cache_dir))
    if options.checker_model:
        limit_memory()
        shape = checker_shape(checkpoint.shape)
        return shape, plan_checker_model(shape), obtain_checker_model(checkpoint, cache, report), "checker"
    plan = plan_tensors(checkpoint.shape, options.weights, checkpoint.held)
    directory, weights_id = obtain_model(checkpoint, options.weights, plan, cache, report)
    return checkpoint.shape, plan, directory, weights_id


def _warm_up(stepper: OpenVinoStepper) -> None:
    """Read a prompt and generate: the first inference repacks all weights (seconds for 7B) and compiles kernels."""
    info = stepper.info
    prompt_tokens = min(8, info.context_tokens - 1)
    stepper.add(
        0,
        EngineRequest(
            prompt_ids=(0,) * prompt_tokens,
            max_new_tokens=min(3, info.context_tokens - prompt_tokens),
            min_new_tokens=0,
            seed=0,
            sampling=Sampling(temperature=1.0),
            stop_ids=frozenset(),
        ),
    )
    while stepper.sequences():
        stepper.step()
