"""Interface of checkpoints of either format."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from corral.checkpoints.architectures.shape import ModelShape
from corral.checkpoints.vocabulary import Vocabulary
from corral.engines.openvino.options import WeightsFormat

Rows = NDArray[np.float32]
Stored = NDArray[np.float32] | NDArray[np.uint16] | NDArray[np.int8] | NDArray[np.uint8]
"""Values of a converted model; int4 has two values per byte, the first in the low half."""
Scales = NDArray[np.float16]
Zeros = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """Rows as a converted model stores them: each value is ``(stored - zero) * scale``, of its group of columns."""

    values: Stored
    scales: Scales | None = None
    """``(rows, columns / group)``; None for floats."""
    zeros: Zeros | None = None
    """``(rows, columns / group)``; None: all zero."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldForm:
    """Storage format for a matrix that is integers in the checkpoint."""

    kind: str
    """Type in the checkpoint: ``Q4_K``, …"""
    format: WeightsFormat
    group: int
    """Columns that share a scale."""
    exact: bool
    """Whether ``read_encoded`` returns this format; otherwise it is quantized from floats, with a small loss."""
    has_zeros: bool = False
    """Whether ``read_encoded`` returns zero points; the values are then unsigned."""


class TensorSource(Protocol):
    """Reads row ranges of weights by their Transformers names, in Transformers' row order."""

    @property
    def held(self) -> Mapping[str, HeldForm]:
        """Matrices that are integers in the checkpoint."""
        ...

    def read_rows(self, name: str, start: int, stop: int) -> Rows:
        """Read rows ``[start, stop)`` as float32 ``(rows, columns)``; a vector is one row."""
        ...

    def read_encoded(self, name: str, start: int, stop: int) -> Encoded:
        """Read rows ``[start, stop)`` of an exactly stored matrix."""
        ...


class Checkpoint(TensorSource, Protocol):
    """An open checkpoint, checked to have all tensors with the right shapes."""

    @property
    def shape(self) -> ModelShape:
        """Sizes of the model."""
        ...

    @property
    def path(self) -> Path:
        """Path of the checkpoint."""
        ...

    @property
    def files(self) -> Sequence[Path]:
        """Files with tensors."""
        ...

    def vocabulary(self) -> Vocabulary | None:
        """Get the preferred vocabulary; None if there is none."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...
