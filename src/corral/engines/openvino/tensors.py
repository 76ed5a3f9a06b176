"""What the engine asks of a checkpoint in either format. Knows neither."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from corral.checkpoints.vocabulary import Vocabulary
from corral.engines.openvino.options import WeightsFormat
from corral.engines.openvino.shape import LlamaShape

Rows = NDArray[np.float32]
Stored = NDArray[np.float32] | NDArray[np.uint16] | NDArray[np.int8] | NDArray[np.uint8]
"""Values as they lie in a converted model; int4 two to a byte, the first in the low half."""
Scales = NDArray[np.float16]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldForm:
    """How a matrix is best stored that its checkpoint holds as integers already."""

    kind: str
    """What its checkpoint calls it: ``Q4_K``, …"""
    format: WeightsFormat
    group: int
    """Columns that share a scale."""
    exact: bool
    """Whether ``read_encoded`` gives this form; otherwise it is made from the floats, which loses a little."""


class TensorSource(Protocol):
    """Weights by their Transformers names, in Transformers' row order, in row ranges."""

    @property
    def held(self) -> Mapping[str, HeldForm]:
        """The matrices that are integers already."""
        ...

    def read_rows(self, name: str, start: int, stop: int) -> Rows:
        """Rows ``[start, stop)`` as float32 ``(rows, columns)``; a vector is one row."""
        ...

    def read_encoded(self, name: str, start: int, stop: int) -> tuple[Stored, Scales]:
        """Rows ``[start, stop)`` of a matrix that is held exactly: values, and scales ``(rows, columns / group)``."""
        ...


class Checkpoint(TensorSource, Protocol):
    """An open, checked checkpoint: every tensor is there with the right shape, and nothing was read into memory."""

    @property
    def shape(self) -> LlamaShape:
        """The model's sizes."""
        ...

    @property
    def path(self) -> Path:
        """Where it is."""
        ...

    @property
    def files(self) -> Sequence[Path]:
        """The files that hold the tensors."""
        ...

    def vocabulary(self) -> Vocabulary | None:
        """The preferred tokenizer; None when there is none."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...
