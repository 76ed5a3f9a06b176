"""Open a checkpoint in either format: a directory in the Transformers format, or a GGUF file or its first part.

Engines read the tensors themselves.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol, cast

from corral.checkpoints.config import Config
from corral.checkpoints.directory import CONFIG, check_described, list_names
from corral.checkpoints.gguf import GgufFile
from corral.checkpoints.gguf_config import gguf_config
from corral.checkpoints.gguf_names import model_name, part_paths
from corral.checkpoints.gguf_vocabulary import gguf_vocabulary
from corral.checkpoints.quantization import check_unquantized
from corral.checkpoints.regular_file import read_whole
from corral.checkpoints.tokenizers.declared import TOKENIZER_CONFIG, read_declared
from corral.checkpoints.vocabulary import Declared, Vocabulary, VocabularyKind
from corral.core.errors import CheckpointRefused

_MOST_JSON_BYTES: Final = 8 * 2**20
_MOST_TOKENIZER_BYTES: Final = 64 * 2**20
_MOST_TEMPLATE_BYTES: Final = 2**20
_TOKENIZERS: Final[Mapping[str, VocabularyKind]] = {
    "tokenizer.json": "tokenizer.json",
    "tokenizer.model": "sentencepiece",
}


class CheckpointSource(Protocol):
    """Metadata of a checkpoint, read on demand."""

    @property
    def name(self) -> str:
        """Name of the directory, or of the file without its extension."""
        ...

    @property
    def modified_s(self) -> int:
        """Time of the last change, Unix time in seconds.

        Raises:
            CheckpointRefused: the checkpoint does not exist.
        """
        ...

    def read_config(self) -> Config:
        """Read the model's configuration.

        Raises:
            CheckpointRefused: the configuration cannot be read; the message names the file.
        """
        ...

    def read_generation_config(self) -> Config | None:
        """Read the fields that only concern generation, or None if the checkpoint has none of its own for them.

        Raises:
            CheckpointRefused: they cannot be read; the message names the file.
        """
        ...

    def vocabulary_files(self) -> Sequence[str]:
        """List the files with a vocabulary, the preferred one first; see ``choose_vocabulary``."""
        ...

    def read_vocabulary(self, file: str) -> Vocabulary:
        """Read the vocabulary in one of ``vocabulary_files``.

        Raises:
            CheckpointRefused: it cannot be read; the message names the file.
        """
        ...

    def chat_template(self) -> str | None:
        """Read the chat template, a Jinja text, to be recognised and never run; None if there is none.

        Raises:
            CheckpointRefused: it cannot be read; the message names the file.
        """
        ...


def is_gguf(path: Path) -> bool:
    """Return whether a checkpoint is read as a GGUF file: everything that is not a directory."""
    return not path.is_dir()


def open_source(path: Path) -> CheckpointSource:
    """Open the checkpoint at *path*."""
    return GgufSource(path) if is_gguf(path) else DirectorySource(path)


class DirectorySource:
    """A directory with ``config.json``, and ``tokenizer.json`` or ``tokenizer.model``."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def name(self) -> str:
        """Name of the directory, with links resolved."""
        return self._path.resolve().name

    @property
    def modified_s(self) -> int:
        """Time of the last change of ``config.json``."""
        return _modified_s(self._path / CONFIG)

    def read_config(self) -> Config:
        """Read ``config.json``."""
        check_described(self._path, list_names(self._path))
        config = Config(file=CONFIG, values=read_json(self._path / CONFIG))
        check_unquantized(config)
        return config

    def read_generation_config(self) -> Config | None:
        """Read ``generation_config.json``; None if there is none."""
        path = self._path / "generation_config.json"
        return Config(file=path.name, values=read_json(path)) if path.exists() else None

    def chat_template(self) -> str | None:
        """Read ``chat_template.jinja``, else the default template of ``tokenizer_config.json``."""
        path = self._path / "chat_template.jinja"
        if path.exists():
            return read_whole(path, _MOST_TEMPLATE_BYTES).decode(errors="replace")
        config = self._path / "tokenizer_config.json"
        return _default_template(read_json(config).get("chat_template")) if config.exists() else None

    def vocabulary_files(self) -> Sequence[str]:
        """List ``tokenizer.json`` and ``tokenizer.model``, those that are there."""
        return [name for name in _TOKENIZERS if (self._path / name).is_file()]

    def read_vocabulary(self, file: str) -> Vocabulary:
        """Read one of the files, and what ``tokenizer_config.json`` says beside it."""
        config = self._path / TOKENIZER_CONFIG
        return Vocabulary(
            file=file,
            kind=_TOKENIZERS[file],
            content=read_whole(self._path / file, _MOST_TOKENIZER_BYTES),
            declared=read_declared(read_json(config)) if config.exists() else Declared(),
        )


class GgufSource:
    """A GGUF file, or all parts of a split one, which contains configuration and vocabulary."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def name(self) -> str:
        """Name of the file, or of the link to it, without its extension and the number of a part."""
        return model_name(self._path)

    @property
    def modified_s(self) -> int:
        """Time of the last change of the file, or of a part."""
        return max(map(_modified_s, part_paths(self._path)))

    def read_config(self) -> Config:
        """Convert the metadata to the fields of ``config.json``."""
        with GgufFile(self._path) as file:
            file.check_supported()
            return gguf_config(file)

    def read_generation_config(self) -> Config | None:
        """Return None: the metadata is one configuration."""
        return None

    def vocabulary_files(self) -> Sequence[str]:
        """List the file itself: its metadata contains the vocabulary."""
        return [self._path.name]

    def read_vocabulary(self, file: str) -> Vocabulary:  # noqa: ARG002 - there is only one
        """Convert the vocabulary in the metadata."""
        with GgufFile(self._path) as opened:
            return gguf_vocabulary(opened)

    def chat_template(self) -> str | None:
        """Read ``tokenizer.chat_template`` in the metadata."""
        with GgufFile(self._path) as file:
            template = file.metadata.get("tokenizer.chat_template")
        if template is None or isinstance(template, str):
            return template
        raise CheckpointRefused(f"{self._path.name}: tokenizer.chat_template is {template!r:.100}; a string is read.")


def read_json(path: Path) -> dict[str, object]:
    """Read a JSON object from a file.

    Raises:
        CheckpointRefused: the file is not a regular file, too large, or does not contain an object.
    """
    text = read_whole(path, _MOST_JSON_BYTES)
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointRefused(f"{path.name} is not valid JSON.") from error
    if not isinstance(value, dict):
        raise CheckpointRefused(f"{path.name} is not a JSON object.")
    return cast("dict[str, object]", value)


def _default_template(field: object) -> str | None:
    """Get the template of ``tokenizer_config.json``: one string, or a list of named templates."""
    if field is None or isinstance(field, str):
        return field
    if isinstance(field, list):
        for entry in cast("list[object]", field):
            match entry:
                case {"name": "default", "template": str(template)}:
                    return template
                case _:
                    continue
        return None
    raise CheckpointRefused(
        f"tokenizer_config.json: chat_template is {json.dumps(field)[:100]}; a string or a list of templates is read."
    )


def _modified_s(path: Path) -> int:
    try:
        return int(path.stat().st_mtime)
    except OSError as error:
        raise CheckpointRefused(f"{path} cannot be read: {error.strerror}.") from error
