"""Read a GGUF model from one file, or from all parts of a model that llama.cpp has split into several files.

The first part has the metadata; each part has its own tensors, and says its number, the number of parts, and the number
of all tensors (``split.no``, ``split.count``, ``split.tensors.count``).
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Final, Self

from corral.checkpoints.config import as_written
from corral.checkpoints.directory_kinds import shown_names
from corral.checkpoints.gguf_names import MOST_PARTS, PartName, whole_of_piece
from corral.checkpoints.gguf_part import MOST_TENSORS, GgufPart, GgufTensor
from corral.checkpoints.gguf_types import READ_NAMES
from corral.checkpoints.gguf_values import Value
from corral.core.errors import CheckpointRefused

_NUMBER: Final = "split.no"
_COUNT: Final = "split.count"
_TENSORS: Final = "split.tensors.count"
_OTHER_KINDS: Final[Mapping[str, str]] = {
    "adapter": "a LoRA adapter, not a whole model. Merge it into its base model with llama.cpp's llama-export-lora, "
    "and give the merged file",
    "mmproj": "the image part of a model. Give the file of its text part",
    "imatrix": "an importance matrix for quantization, not a model. Give the model's file",
}
"""Values of ``general.type`` for files without a model."""


class GgufFile:
    """An open GGUF model, in one file or several, with its metadata and its table of tensors."""

    def __init__(self, path: Path) -> None:
        """Open the file and the other parts of its model, and check their headers.

        Raises:
            CheckpointRefused: a file is missing, truncated, malformed, or not the part that its name says.
        """
        self.path = path
        if whole := whole_of_piece(path.name):
            raise self.refused(
                f"is a piece of a file that was cut by size. Join all pieces in order to {whole}, for example with "
                "`cat`, and give that file"
            )
        with ExitStack() as opening:
            first = opening.enter_context(GgufPart(path))
            self._parts = [first, *(opening.enter_context(GgufPart(other)) for other in _other_paths(first))]
            self._starts = list(accumulate((part.size_bytes for part in self._parts), initial=0))
            self.tensors: Mapping[str, GgufTensor] = self._collect_tensors()
            self.metadata: Mapping[str, Value] = {
                key: value for key, value in first.metadata.items() if key not in (_NUMBER, _COUNT, _TENSORS)
            }
            self._closing = opening.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all files; they cannot be read afterwards."""
        self._closing.close()

    @property
    def paths(self) -> Sequence[Path]:
        """Files of the model, in order."""
        return [part.path for part in self._parts]

    def read(self, offset: int, size_bytes: int) -> bytearray:
        """Read bytes of a tensor. Offsets are those of ``tensors``, as if the files were joined.

        Raises:
            CheckpointRefused: a file was truncated since it was opened.
        """
        part = bisect_right(self._starts, offset) - 1
        return self._parts[part].read(offset - self._starts[part], size_bytes)

    def check_supported(self) -> None:
        """Check that it is a model, and that all its tensors are of types that are read.

        Raises:
            CheckpointRefused: the message names the tensor, its type, and the nearest that is read.
        """
        kind = self.metadata.get("general.type", "model")
        if isinstance(kind, str) and kind in _OTHER_KINDS:
            raise self.refused(f"is {_OTHER_KINDS[kind]}")
        for name, tensor in self.tensors.items():
            if (nearest := tensor.type.nearest) is not None:
                raise self.refused(
                    f"holds tensor {name[:100]} as {tensor.type.name}; only {READ_NAMES} are read. Choose a file of "
                    f"{nearest}, the nearest that is read"
                )

    def refused(self, what: str) -> CheckpointRefused:
        """Create an error with the name of the first file."""
        return CheckpointRefused(f"{self.path.name} {what}.")

    def _collect_tensors(self) -> dict[str, GgufTensor]:
        """Join the tables of the parts, with offsets as if the files were joined; check that they are one model's."""
        first = self._parts[0]
        tensors: dict[str, GgufTensor] = {}
        for number, (part, start) in enumerate(zip(self._parts, self._starts, strict=False)):
            if number:
                _check_belongs(part, number, first)
            for name, tensor in part.tensors.items():
                if name in tensors:
                    raise part.refused(f"holds the tensor {name[:100]}, which an earlier part of the model holds too")
                tensors[name] = replace(tensor, offset=start + tensor.offset)
            if len(tensors) > MOST_TENSORS:
                raise first.refused(f"begins a model of more than {MOST_TENSORS} tensors")
        total = first.metadata.get(_TENSORS)
        if len(self._parts) > 1 and total is not None and total != len(tensors):
            raise first.refused(
                f"says that all parts hold {as_written(total)} tensors ({_TENSORS}); they hold {len(tensors)}. "
                "Download the parts again"
            )
        return tensors


def _other_paths(first: GgufPart) -> list[Path]:
    """Find the other parts of the model that *first* begins; none if it is whole."""
    count = _integer(first, _COUNT, default=1)
    number = _integer(first, _NUMBER, default=0)
    if count <= 1:
        return []
    if count > MOST_PARTS:
        raise first.refused(f"says that the model has {count} parts ({_COUNT}); at most {MOST_PARTS} are read")
    name = PartName.parse(first.path.name)
    if number:
        beginning = PartName(model="NAME", number=1, count=count) if name is None else name
        raise first.refused(f"is part {number + 1} of {count} of a model. Give the first part: {beginning.of(1)}")
    if name is None or (name.number, name.count) != (1, count):
        expected = PartName(model=first.path.stem if name is None else name.model, number=1, count=count)
        raise first.refused(
            f"is the first of {count} parts of a model, and the others are found by their names. Name it "
            f"{expected.of(1)}, and the others likewise"
        )
    others = [first.path.with_name(other) for other in name.names()[1:]]
    if missing := [path.name for path in others if not path.exists()]:
        raise CheckpointRefused(
            f"{first.path.name} is the first of {count} parts of a model; missing beside it: {shown_names(missing)}. "
            "Download them into the same directory."
        )
    return others


def _check_belongs(part: GgufPart, number: int, first: GgufPart) -> None:
    """Check that a file is part *number*, from 0, of the model that *first* begins."""
    expected: dict[str, Value] = {_NUMBER: number}
    if type(part.metadata.get(_NUMBER)) is not int:
        raise part.refused(f"is no part of a model: it has no {_NUMBER}. Download it again")
    for key, value in (first.metadata | expected).items():
        if key in part.metadata and part.metadata[key] != value:
            raise part.refused(
                f"is not a part of the model that {first.path.name} begins: its {key[:100]} is "
                f"{as_written(part.metadata[key])}, and should be {as_written(value)}. Download the parts again"
            )


def _integer(part: GgufPart, key: str, *, default: int) -> int:
    value = part.metadata.get(key, default)
    if type(value) is not int or value < 0:
        raise part.refused(f"has a {key} of {as_written(value)}, which is not a number of parts")
    return value
