"""Facts about the files of a checkpoint, from their headers alone, whether it is served or not."""

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from pathlib import Path

from corral.checkpoints.directory import find_weight_files
from corral.checkpoints.gguf import GgufFile
from corral.checkpoints.source import is_gguf
from corral.engines.openvino.safetensors import READABLE_DTYPES, SafetensorsFile
from corral.inspection.report import WeightsFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorTables:
    """What the headers of the weight files say."""

    facts: WeightsFacts
    elements: int | None
    """Numbers in all tensors; None if some are packed, so that their shapes do not say."""
    metadata: Mapping[str, object]
    """Of a GGUF file; empty for a directory."""


def read_tables(path: Path) -> TensorTables:
    """Read the headers of the weight files.

    Raises:
        CheckpointRefused: there are no weights that are read, or a header is damaged.
    """
    return _gguf_tables(path) if is_gguf(path) else _safetensors_tables(path)


def _gguf_tables(path: Path) -> TensorTables:
    with GgufFile(path) as file:
        tensors = file.tensors.values()
        parts = len(file.paths)
        facts = _facts(
            "GGUF" if parts == 1 else f"GGUF, {parts} parts",
            file.paths,
            ((tensor.type.name, tensor.size_bytes) for tensor in tensors),
        )
        elements = sum(prod(tensor.shape) for tensor in tensors)
        return TensorTables(facts=facts, elements=elements, metadata=file.metadata)


def _safetensors_tables(directory: Path) -> TensorTables:
    paths = find_weight_files(directory)
    with ExitStack() as opened:
        files = [opened.enter_context(SafetensorsFile(path)) for path in paths]
    entries = [entry for file in files for entry in file.entries.values()]
    is_plain = all(entry.dtype in READABLE_DTYPES for entry in entries)
    return TensorTables(
        facts=_facts("safetensors", paths, ((entry.dtype, entry.size_bytes) for entry in entries)),
        elements=sum(prod(entry.shape) for entry in entries) if is_plain else None,
        metadata={},
    )


def _facts(form: str, paths: Iterable[Path], sizes: Iterable[tuple[str, int]]) -> WeightsFacts:
    """Create the facts from the paths, and the data type and size of each tensor."""
    files = list(paths)
    bytes_by_type: Counter[str] = Counter()
    for kind, size_bytes in sizes:
        bytes_by_type[kind] += size_bytes
    return WeightsFacts(
        format=form,
        files=tuple(path.name for path in files),
        size_bytes=sum(path.stat().st_size for path in files),
        types=tuple(kind for kind, _ in bytes_by_type.most_common()),
    )
