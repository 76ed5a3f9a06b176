"""Converted graphs without the pipeline around them, and how far their distributions are from the exact ones."""

from pathlib import Path

import numpy as np
import openvino as ov

from corral.engines.openvino.cache import ModelCache
from corral.engines.openvino.checkpoint import open_checkpoint
from corral.engines.openvino.convert import obtain_model
from corral.engines.openvino.options import WeightsFormat
from corral.engines.openvino.quantize import activation_group, plan_tensors
from tests.oracle.batches import silent
from tests.oracle.llama import Floats


def logits_of_graph(checkpoint: Path, weights: WeightsFormat, ids: list[int], directory: Path) -> Floats:
    """Logits ``(tokens, vocab)`` of the converted graph in its stateful form, read in two parts."""
    with open_checkpoint(checkpoint) as opened:
        plan = plan_tensors(opened.shape, weights, opened.held)
        converted, _ = obtain_model(opened, weights, plan, ModelCache(directory), silent)
    properties = {
        "INFERENCE_PRECISION_HINT": "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": activation_group(plan),
        "KV_CACHE_PRECISION": "f32",
    }
    compiled = ov.Core().compile_model(converted / "openvino_model.xml", "CPU", properties)
    inference = compiled.create_infer_request()
    parts: list[Floats] = []
    for start, stop in ((0, 100), (100, len(ids))):
        inputs = {
            "input_ids": np.array([ids[start:stop]], np.int64),
            "attention_mask": np.ones((1, stop), np.int64),
            "position_ids": np.arange(start, stop, dtype=np.int64)[None],
            "beam_idx": np.zeros(1, np.int32),
        }
        parts.append(inference.infer(inputs)["logits"][0].astype(np.float64))
    return np.concatenate(parts)


def divergence(exact: Floats, stored: Floats) -> float:
    """Mean Kullback-Leibler divergence of probabilities ``(tokens, vocab)``, in nats."""
    return float((exact * np.log(exact / stored)).sum(axis=-1).mean())
