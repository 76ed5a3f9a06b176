"""Convert a checkpoint to a model directory for GenAI, using the cache."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import openvino as ov

from corral.checkpoints.architectures.shape import ModelShape
from corral.core.errors import CheckpointRefused, EngineUnavailable
from corral.engines.openvino.cache import ModelCache, check_untouched, digest_fields, note_source, stamp_file
from corral.engines.openvino.checker_model import checker_shape, plan_checker_model, write_checker_model
from corral.engines.openvino.content import (
    CONVERTER_VERSION,
    digest_vocabulary,
    model_key,
    weights_content,
    weights_id,
)
from corral.engines.openvino.detokenizer import read_pieces, save_detokenizer
from corral.engines.openvino.graph import BlobWeights, build_model
from corral.engines.openvino.options import WeightsFormat
from corral.engines.openvino.quantize import StoredTensor, describe_storage, write_tensors
from corral.engines.openvino.tensors import Checkpoint
from corral.engines.stepper import Progress, Report

_SPARE_BYTES = 64 * 2**20


def obtain_model(
    checkpoint: Checkpoint, weights: WeightsFormat, plan: list[StoredTensor], cache: ModelCache, report: Report
) -> tuple[Path, str]:
    """Get the converted model's directory, converting it if needed; with a vocabulary if the checkpoint has one.

    Returns it with the identity of the weights: see ``EngineInfo.weights_id``.

    Raises:
        CheckpointRefused: the weights or the vocabulary cannot be converted.
        EngineUnavailable: there is not enough space to convert.
    """
    stamps = {path: stamp_file(path) for path in checkpoint.files}
    vocabulary = checkpoint.vocabulary()
    content = weights_content(checkpoint, cache.digest_files(checkpoint.files, report))
    key = model_key(content, weights)

    def convert(directory: Path) -> None:
        _convert(checkpoint, weights, plan, directory, report)
        if vocabulary is not None:
            save_detokenizer(read_pieces(vocabulary, checkpoint.shape.vocab_size), directory)
        for path, stamp in stamps.items():
            check_untouched(path, stamp)
        note_source(directory, checkpoint.path)

    return cache.obtain(key, convert, report), weights_id(content, weights)


def obtain_checker_model(checkpoint: Checkpoint, cache: ModelCache, report: Report) -> Path:
    """Get the directory of a checkpoint's checker model, creating it if needed.

    Raises:
        CheckpointRefused: the checkpoint has no vocabulary, or it cannot be converted.
    """
    vocabulary = checkpoint.vocabulary()
    if vocabulary is None:
        raise CheckpointRefused("There is no tokenizer, without which nothing can be constrained.")
    shape = checker_shape(checkpoint.shape)
    fields = {"stand-in": CONVERTER_VERSION, "shape": asdict(shape), "vocabulary": digest_vocabulary(vocabulary)}
    key = digest_fields(fields)[:32]

    def convert(directory: Path) -> None:
        plan, blob = plan_checker_model(shape), directory / "weights.blob"
        write_checker_model(plan, blob)
        _save(shape, plan, blob, directory)
        blob.unlink()
        save_detokenizer(read_pieces(vocabulary, shape.vocab_size), directory)

    return cache.obtain(key, convert, report)


def _convert(
    checkpoint: Checkpoint, weights: WeightsFormat, plan: list[StoredTensor], directory: Path, report: Report
) -> None:
    total = plan[-1].end
    needed = 2 * total + _SPARE_BYTES
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise EngineUnavailable(f"Converting needs {needed} bytes free in {directory.parent}; there are {free}.")
    blob = directory / "weights.blob"
    write_tensors(
        checkpoint, plan, blob, _byte_counter(f"Storing weights as {describe_storage(plan, weights)}", total, report)
    )
    report(Progress(stage="Saving the converted model", done=0, total=0))
    _save(checkpoint.shape, plan, blob, directory)
    blob.unlink()


def _save(shape: ModelShape, plan: list[StoredTensor], blob: Path, directory: Path) -> None:
    weights = BlobWeights(blob, plan)
    model = build_model(shape, weights)
    # Compression to float16 is on by default; it would round f32 weights and norms.
    ov.save_model(model, directory / "openvino_model.xml", compress_to_fp16=False)
    (directory / "config.json").write_text(json.dumps({"model_type": shape.architecture}))
    # No end token here: it would also end requests without any. ``pipeline`` gives each request its own.
    (directory / "generation_config.json").write_text("{}")


def _byte_counter(stage: str, total: int, report: Report) -> Callable[[int], None]:
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        report(Progress(stage=stage, done=done, total=total))

    return advance
