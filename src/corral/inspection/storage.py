"""Memory that a model needs with its weights in each storage format."""

from collections.abc import Mapping

from corral.checkpoints.architectures.shape import ModelShape
from corral.engines.openvino.estimate import CHECKER_BYTES, WORKER_BYTES, conversion_bytes
from corral.engines.openvino.memory import BLOCK_TOKENS, block_bytes, choose_precision
from corral.engines.openvino.options import WeightsFormat
from corral.engines.openvino.quantize import describe_storage, plan_tensors
from corral.engines.openvino.tensors import HeldForm
from corral.inspection.report import StorageFacts

_FORMATS = (WeightsFormat.F32, WeightsFormat.BF16, WeightsFormat.INT8, WeightsFormat.INT4)


def plan_storage(shape: ModelShape, held: Mapping[str, HeldForm]) -> tuple[StorageFacts, ...]:
    """Plan the weights in each format, the largest first.

    Args:
        shape: sizes of the model.
        held: matrices that are integers in the checkpoint.
    """
    blocks = -(-shape.context_tokens // BLOCK_TOKENS)
    cache_bytes = blocks * block_bytes(shape, choose_precision(shape, shape.context_tokens))
    processes_bytes = WORKER_BYTES + CHECKER_BYTES
    planned: list[StorageFacts] = []
    for weights in _FORMATS:
        plan = plan_tensors(shape, weights, held)
        planned.append(
            StorageFacts(
                quantize=weights.value,
                stored_as=describe_storage(plan, weights),
                weights_bytes=plan[-1].end,
                loaded_bytes=plan[-1].end + cache_bytes + processes_bytes,
                conversion_bytes=conversion_bytes(plan) + processes_bytes,
            )
        )
    return tuple(planned)
