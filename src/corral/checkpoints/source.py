"""A checkpoint on disk, in either of its formats: a directory in the Transformers format, or a GGUF file.

This is the one place that tells them apart. Tensors are the engine's own matter.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Protocol, cast

from corral.checkpoints.config import Config
from corral.checkpoints.gguf import GgufFile
from corral.checkpoints.gguf_config import gguf_config
from corral.checkpoints.gguf_vocabulary import gguf_vocabulary
from corral.checkpoints.vocabulary import Vocabulary, VocabularyKind
from corral.core.errors import CheckpointRefused

_MOST_JSON_BYTES: Final = 8 * 2**20
_MOST_TOKENIZER_BYTES: Final = 64 * 2**20
_TOKENIZERS: Final[Mapping[str, VocabularyKind]] = {
    "tokenizer.json": "tokenizer.json",
    "tokenizer.model": "sentencepiece",
}


class CheckpointSource(Protocol):
    """What a checkpoint says of itself. Nothing is read before it is asked for."""

    @property
    def name(self) -> str:
        """How people call it: the directory's name, the file's without its ending."""
        ...

    @property
    def modified_s(self) -> int:
        """When it was last changed, Unix time in seconds.

        Raises:
            CheckpointRefused: it is not there.
        """
        ...

    def read_config(self) -> Config:
        """The model's configuration.

        Raises:
            CheckpointRefused: it cannot be read; names the file.
        """
        ...

    def vocabularies(self) -> Iterator[Vocabulary]:
        """The tokenizers that come with it, the preferred one first.

        Raises:
            CheckpointRefused: one cannot be read; names the file.
        """
        ...


def is_gguf(path: Path) -> bool:
    """Whether a checkpoint is, or has to be, a GGUF file: whatever is no directory."""
    return not path.is_dir()


def open_source(path: Path) -> CheckpointSource:
    """The checkpoint at *path*."""
    return GgufSource(path) if is_gguf(path) else DirectorySource(path)


class DirectorySource:
    """``config.json``, and ``tokenizer.json`` or ``tokenizer.model``."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def name(self) -> str:
        """The directory's own name, however it was reached."""
        return self._path.resolve().name

    @property
    def modified_s(self) -> int:
        """When ``config.json`` was last changed."""
        return _modified_s(self._path / "config.json")

    def read_config(self) -> Config:
        """Everything in ``config.json``."""
        return Config(file="config.json", values=read_json(self._path / "config.json"))

    def vocabularies(self) -> Iterator[Vocabulary]:
        """``tokenizer.json``, then ``tokenizer.model``."""
        for name, kind in _TOKENIZERS.items():
            path = self._path / name
            if path.is_file():
                yield Vocabulary(file=name, kind=kind, content=_read_whole(path, _MOST_TOKENIZER_BYTES))


class GgufSource:
    """One file, which holds everything."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def name(self) -> str:
        """The file's name without its ending; of a link, the link's."""
        return self._path.stem

    @property
    def modified_s(self) -> int:
        """When the file was last changed."""
        return _modified_s(self._path)

    def read_config(self) -> Config:
        """The metadata, in the words of ``config.json``."""
        with GgufFile(self._path) as file:
            return gguf_config(file)

    def vocabularies(self) -> Iterator[Vocabulary]:
        """The one in the metadata."""
        with GgufFile(self._path) as file:
            vocabulary = gguf_vocabulary(file)
        yield vocabulary


def read_json(path: Path) -> dict[str, object]:
    """A JSON object in a file.

    Raises:
        CheckpointRefused: no regular file, too large, or something else than an object.
    """
    text = _read_whole(path, _MOST_JSON_BYTES)
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointRefused(f"{path.name} is not valid JSON.") from error
    if not isinstance(value, dict):
        raise CheckpointRefused(f"{path.name} is not a JSON object.")
    return cast("dict[str, object]", value)


def _read_whole(path: Path, most_bytes: int) -> bytes:
    if path.exists() and not path.is_file():
        raise CheckpointRefused(f"{path.name} is not a regular file.")
    try:
        with path.open("rb") as file:
            content = file.read(most_bytes + 1)
            size_bytes = path.stat().st_size
    except OSError as error:
        raise CheckpointRefused(f"{path} cannot be read: {error.strerror}.") from error
    if len(content) > most_bytes:
        raise CheckpointRefused(f"{path.name} has {size_bytes} bytes; at most {most_bytes} are read.")
    return content


def _modified_s(path: Path) -> int:
    try:
        return int(path.stat().st_mtime)
    except OSError as error:
        raise CheckpointRefused(f"{path} cannot be read: {error.strerror}.") from error
