"""Load GenAI's pipeline and convert requests to its configuration.

Values that GenAI refuses, misreads or truncates are converted here.
"""

import hashlib
from pathlib import Path

import openvino_genai as genai

from corral.core.generation import Constraint
from corral.engines.base import EngineRequest
from corral.engines.openvino.grammar import pattern_grammar, schema_grammar
from corral.engines.openvino.options import KvPrecision

_GREEDY_BELOW = 1e-4
"""Below this, dividing logits by the temperature overflows float32; sampling is effectively greedy anyway."""
_LEAST_TOP_P = 1e-9
_MOST_MIN_P = 1 - 1e-6
"""Beyond these, float32 rounds to a value that the pipeline refuses; both leave only one token already."""
_MOST_SEQUENCES = 256


def load_pipeline(
    directory: Path,
    *,
    blocks: int,
    precision: KvPrecision,
    activation_group: int,
    max_batched_tokens: int,
    prefix_caching: bool,
) -> genai.ContinuousBatchingPipeline:
    """Load a converted model.

    Args:
        directory: directory of the converted model.
        blocks: number of KV blocks; all can be used for requests.
        precision: storage format of the KV cache.
        activation_group: group size of dynamic quantization; 0 disables it.
        max_batched_tokens: most tokens in one step.
        prefix_caching: keep blocks of finished prompts until they are needed. Does not change the tokens.
    """
    scheduler = genai.SchedulerConfig()
    scheduler.num_kv_blocks = blocks
    scheduler.max_num_batched_tokens = max_batched_tokens
    scheduler.max_num_seqs = min(_MOST_SEQUENCES, max_batched_tokens)
    scheduler.dynamic_split_fuse = True
    scheduler.enable_prefix_caching = prefix_caching
    properties = {
        # As fast as bf16 with integer weights, and more exact.
        "INFERENCE_PRECISION_HINT": "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": activation_group,
        "KV_CACHE_PRECISION": precision.value,
    }
    return genai.ContinuousBatchingPipeline(directory, scheduler, "CPU", properties)


def make_config(request: EngineRequest) -> genai.GenerationConfig:
    """Convert a request to GenAI's configuration. Stop strings are not passed, because they break the pipeline."""
    sampling = request.sampling
    config = genai.GenerationConfig()
    config.max_new_tokens = request.max_new_tokens
    if request.stop_ids:
        config.min_new_tokens = request.min_new_tokens
        config.eos_token_id = min(request.stop_ids)
        config.stop_token_ids = set(request.stop_ids)
        config.ignore_eos = request.ignore_eos
    else:
        ignore_stop_tokens(config)
    config.logprobs = 1
    if request.constraint is not None:
        config.structured_output_config = make_structure(request.constraint)
    config.repetition_penalty = sampling.repetition_penalty
    config.presence_penalty = sampling.presence_penalty
    config.frequency_penalty = sampling.frequency_penalty
    if sampling.temperature < _GREEDY_BELOW:
        config.do_sample = False
        return config
    config.do_sample = True
    config.temperature = sampling.temperature
    config.top_p = max(sampling.top_p, _LEAST_TOP_P)
    config.top_k = sampling.top_k
    config.min_p = min(sampling.min_p, _MOST_MIN_P)
    config.rng_seed = reduce_seed(request.seed)
    return config


def ignore_stop_tokens(config: genai.GenerationConfig) -> None:
    """Let only the limit end the answer. The pipeline requires an end token, which it then ignores."""
    config.eos_token_id = 0
    config.stop_token_ids = {0}
    config.ignore_eos = True


def make_structure(constraint: Constraint) -> genai.StructuredOutputConfig:
    """Convert a constraint to GenAI's configuration. If it does not compile, ``step`` raises and breaks it."""
    structure = genai.StructuredOutputConfig()
    match constraint.kind:
        case "json_schema":
            structure.grammar = schema_grammar(constraint.source)
        case "regex":
            structure.grammar = pattern_grammar(constraint.source)
    return structure


def reduce_seed(seed: int) -> int:
    """Reduce a 64-bit seed to the pipeline's 32 bits: four-byte BLAKE2b of its little-endian bytes.

    The pipeline would drop the upper half, so that 0 and 2**32 would give the same text.
    """
    return int.from_bytes(hashlib.blake2b(seed.to_bytes(8, "little"), digest_size=4).digest(), "little")
