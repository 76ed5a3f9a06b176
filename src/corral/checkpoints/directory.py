"""Check what a checkpoint directory holds, and find its weights."""

import os
from collections.abc import Collection
from itertools import islice
from pathlib import Path
from typing import Final

from corral.checkpoints.directory_kinds import foreign_kind, shown_names, without_weights
from corral.checkpoints.gguf_names import first_names
from corral.checkpoints.regular_file import read_whole
from corral.checkpoints.weight_files import INDEX, choose_weight_files, is_weight_file
from corral.core.errors import CheckpointRefused

CONFIG: Final = "config.json"
_MOST_NAMES: Final = 20_000
_MOST_INDEX_BYTES: Final = 8 * 2**20


def list_names(directory: Path) -> frozenset[str]:
    """List the names in a directory; those of directories end with a slash.

    Raises:
        CheckpointRefused: it cannot be read, or is too large.
    """
    try:
        with os.scandir(directory) as entries:
            names = frozenset(
                entry.name + ("/" if entry.is_dir() else "") for entry in islice(entries, _MOST_NAMES + 1)
            )
    except OSError as error:
        raise CheckpointRefused(f"{directory} cannot be read: {error.strerror}.") from error
    if len(names) > _MOST_NAMES:
        raise CheckpointRefused(f"{directory} holds more than {_MOST_NAMES} files; no checkpoint does.")
    return names


def check_described(directory: Path, names: Collection[str]) -> None:
    """Check that a directory describes a language model. Its weights may be missing.

    Raises:
        CheckpointRefused: it is something else, or has no ``config.json``; the message says what it is.
    """
    _check_native(directory, names)
    if CONFIG in names:
        return
    if not any(map(is_weight_file, names)):
        raise _without_weights(directory, names)
    raise CheckpointRefused(
        f"{directory} has no {CONFIG}, which describes the model. Download it from the repository of the weights."
    )


def find_weight_files(directory: Path) -> list[Path]:
    """Find the files with the weights of a directory.

    Raises:
        CheckpointRefused: there are none that are read, or one is missing; the message says what there is.
    """
    names = list_names(directory)
    _check_native(directory, names)
    index = read_whole(directory / INDEX, _MOST_INDEX_BYTES) if INDEX in names else None
    chosen = choose_weight_files(names, index)
    if not chosen:
        raise _without_weights(directory, names)
    return [directory / name for name in chosen]


def _check_native(directory: Path, names: Collection[str]) -> None:
    if (foreign := foreign_kind(names)) is not None:
        raise CheckpointRefused(foreign.of(str(directory)))


def _without_weights(directory: Path, names: Collection[str]) -> CheckpointRefused:
    files = first_names(names)
    if len(files) == 1:
        return CheckpointRefused(f"{directory} holds a GGUF file. Give the file itself: {directory / files[0]}")
    if files:
        return CheckpointRefused(f"{directory} holds {len(files)} GGUF models: {shown_names(files)}. Give one of them.")
    return CheckpointRefused(without_weights(names, str(directory)).of(str(directory)))
