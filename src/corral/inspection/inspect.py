"""Inspect a checkpoint: everything that can be found out, and every reason why it cannot be served."""

from collections.abc import Mapping
from pathlib import Path

from corral.checkpoints.architectures.registry import read_shape
from corral.checkpoints.architectures.shape import ModelShape
from corral.checkpoints.source import open_source
from corral.engines.openvino.checkpoint import open_checkpoint
from corral.engines.openvino.tensors import HeldForm
from corral.inspection.findings import Findings
from corral.inspection.model import describe_model
from corral.inspection.prompts import PromptReading
from corral.inspection.report import CheckpointReport, StorageFacts
from corral.inspection.storage import plan_storage
from corral.inspection.weights import read_tables


def inspect_checkpoint(path: Path, *, chat_format: str = "", suggested: str = "") -> CheckpointReport:
    """Inspect a checkpoint. Headers are read, and no tensor.

    Each part is looked at as serving does it, on its own, so that a refused part does not hide the others.

    Args:
        path: of the checkpoint, which exists.
        chat_format: the operator's choice; empty recognises it.
        suggested: chat format of the known model that the checkpoint is by the operator's word; empty if there is none.

    Raises:
        BadSetting: there is no format *chat_format*, or the vocabulary cannot have it.
    """
    findings = Findings()
    config = findings.attempt(open_source(path).read_config)
    shape = None if config is None else findings.attempt(lambda: read_shape(config))
    if shape is not None and shape.context_note is not None:
        findings.warn(shape.context_note)
    tables = findings.attempt(lambda: read_tables(path))
    storage = _storage(path, shape, findings)
    reading = PromptReading(path=path, chat_format=chat_format, suggested=suggested)
    prompts = reading.describe(config, findings)
    return CheckpointReport(
        path=str(path),
        weights=None if tables is None else tables.facts,
        model=describe_model(path, shape, tables),
        tokenizer=prompts.tokenizer,
        end_tokens=prompts.end_tokens,
        chat=prompts.chat,
        storage=storage,
        warnings=findings.warnings,
        refusals=findings.refusals,
    )


def _storage(path: Path, shape: ModelShape | None, findings: Findings) -> tuple[StorageFacts, ...]:
    """Check all tensors, and plan how they would be stored; without them, plan by the sizes alone."""
    held = findings.attempt(lambda: _held_forms(path))
    return () if shape is None else plan_storage(shape, held or {})


def _held_forms(path: Path) -> Mapping[str, HeldForm]:
    with open_checkpoint(path) as checkpoint:
        return checkpoint.held
