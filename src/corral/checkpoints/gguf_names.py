"""File names of GGUF models that are split into several files by llama.cpp: ``NAME-00001-of-00003.gguf``."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

SUFFIX: Final = ".gguf"
MOST_PARTS: Final = 256
_PART: Final = re.compile(r"(?P<model>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)
_PIECE: Final = re.compile(r"(?P<whole>.+\.gguf)[.-](split|part|piece)[-_.]?[a-z0-9]+", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartName:
    """The name of a part."""

    model: str
    """What comes before the numbers."""
    number: int
    """From 1."""
    count: int

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """Read a file name; None if it is not that of a part."""
        found = _PART.fullmatch(name)
        if found is None:
            return None
        number, count = int(found["number"]), int(found["count"])
        return cls(model=found["model"], number=number, count=count) if 1 <= number <= count else None

    def names(self) -> list[str]:
        """List the file names of all parts. The caller must have checked their number."""
        return [self.of(number) for number in range(1, self.count + 1)]

    def of(self, number: int) -> str:
        """Return the file name of a part."""
        return f"{self.model}-{number:05}-of-{self.count:05}{SUFFIX}"


def model_name(path: Path) -> str:
    """Return the name of a GGUF model: of its file, without the number of a part and the extension."""
    part = PartName.parse(path.name)
    return path.stem if part is None else part.model


def part_paths(path: Path) -> list[Path]:
    """List the files of a GGUF model that exist: the file itself, or all parts if it is named as the first one."""
    part = PartName.parse(path.name)
    if part is None or part.number != 1 or part.count > MOST_PARTS:
        return [path]
    return [path, *(other for name in part.names()[1:] if (other := path.with_name(name)).is_file())]


def first_names(names: Collection[str]) -> list[str]:
    """Select from the names of a directory those of GGUF models: whole files, and the first part of split ones."""
    found = [name for name in names if name.endswith(SUFFIX)]
    return sorted(name for name in found if (part := PartName.parse(name)) is None or part.number == 1)


def whole_of_piece(name: str) -> str | None:
    """Return the name of the whole file if *name* is that of a piece that was cut by size; else None."""
    found = _PIECE.fullmatch(name)
    return found["whole"] if found else None
