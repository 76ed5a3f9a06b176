"""Registry of models pulled or added on this machine: a file in the data directory.

The file is written whole or not at all, under a lock, so commands may run at once. What it says is checked on reading:
a model that was pulled has no path in it, so that no edit of the file lets ``corral model remove`` delete another
directory.
"""

import fcntl
import os
import re
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec

from corral.catalog.cards import known_card
from corral.catalog.catalog import DEMO
from corral.checkpoints.gguf_names import model_name
from corral.core.errors import BadSetting

_FILE: Final = "registry.json"
_MOST_BYTES: Final = 4 * 2**20
_MOST_MODELS: Final = 1000
_MOST_PATH: Final = 4096
_PART: Final = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9])?"
_NAME: Final = re.compile(rf"(?!.*(?:--|\.\.)){_PART}/{_PART}")
"""As the Hub has them; "--" stands for the slash in names of folders."""
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_GGUF: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,149}\.gguf")

Quantization = Literal["int8", "int4", "bf16", "f32"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalModel:
    """A model whose weights are on this machine."""

    name: str
    """``owner/name``, unique whatever its case."""
    path: Path
    """The checkpoint; absolute."""
    revision: str | None
    """The Hub's commit, 40 hex digits, of what was pulled; None for files that the user brought."""
    file: str | None = None
    """Name of the GGUF file that was pulled, or of its first part; None for a directory, and for the user's files."""
    quantize: Quantization
    """How its weights were stored when it was converted, which is how it is served unless settings say otherwise."""


class _Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    name: str
    quantize: Quantization
    path: str | None = None
    revision: str | None = None
    file: str | None = None


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    version: Literal[1]
    models: list[_Entry]


class LocalModels:
    """The registry. Processes may share it."""

    def __init__(self, data_dir: Path) -> None:
        self._directory = data_dir.resolve() / "models"

    def models(self) -> tuple[LocalModel, ...]:
        """List the models in the order of registration.

        Raises:
            BadSetting: the registry cannot be read, or says what no command has written.
        """
        path = self._directory / _FILE
        try:
            with path.open("rb") as file:
                text = file.read(_MOST_BYTES + 1)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise BadSetting(f"data_dir: {path} cannot be read: {error.strerror}.") from error
        try:
            return self._parse(text)
        except (ValueError, msgspec.MsgspecError, RecursionError) as error:
            raise BadSetting(
                f"data_dir: {path} is damaged: {error}. Mend it, or delete it and pull or add the models again."
            ) from error

    def find(self, name: str) -> LocalModel | None:
        """Find a model by its name or an alias of the same known model, case-insensitively."""
        models = {model.name.lower(): model for model in self.models()}
        return next((models[alias.lower()] for alias in _aliases(name) if alias.lower() in models), None)

    def folder(self, name: str) -> Path:
        """Path of the folder for pulls of this name; the pull creates it."""
        return self._directory / check_name(name).replace("/", "--")

    def register(self, model: LocalModel) -> None:
        """Add the model, replacing one of the same name.

        Raises:
            BadSetting: the registry cannot be read or written.
        """
        with self._locked():
            others = [other for other in self.models() if other.name.lower() != model.name.lower()]
            self._write([*others, model])

    def unregister(self, name: str) -> None:
        """Remove the model of exactly this name.

        Raises:
            BadSetting: the registry cannot be read or written.
        """
        with self._locked():
            self._write([model for model in self.models() if model.name != name])

    def _parse(self, text: bytes) -> tuple[LocalModel, ...]:
        if len(text) > _MOST_BYTES:
            raise ValueError(f"it is larger than {_MOST_BYTES} bytes")
        models = tuple(map(self._model, msgspec.json.decode(text, type=_File).models))
        if len(models) > _MOST_MODELS:
            raise ValueError(f"it has more than {_MOST_MODELS} models")
        if len({model.name.lower() for model in models}) < len(models):
            raise ValueError("a name is in it twice")
        return models

    def _model(self, entry: _Entry) -> LocalModel:
        name = entry.name
        if _NAME.fullmatch(name) is None or name.lower() == DEMO:
            raise ValueError("it holds a name that no model may have")
        match entry:
            case _Entry(path=None, revision=str(revision), file=None) if _COMMIT.fullmatch(revision):
                path = snapshot_directory(self.folder(name), revision, None)
            case _Entry(path=None, revision=str(revision), file=str(file)) if _COMMIT.fullmatch(
                revision
            ) and _GGUF.fullmatch(file):
                path = snapshot_directory(self.folder(name), revision, file) / file
            case _Entry(path=str(given), revision=None, file=None) if len(given) <= _MOST_PATH and "\0" not in given:
                path = Path(given)
            case _:
                raise ValueError(f"{name} has neither a revision nor a path")
        if not path.is_absolute():
            raise ValueError(f"the path of {name} is not absolute")
        return LocalModel(name=name, path=path, revision=entry.revision, file=entry.file, quantize=entry.quantize)

    def _write(self, models: Iterable[LocalModel]) -> None:
        entries = [
            _Entry(
                name=model.name,
                quantize=model.quantize,
                path=None if model.revision else str(model.path),
                revision=model.revision,
                file=model.file,
            )
            for model in models
        ]
        if len(entries) > _MOST_MODELS:
            raise BadSetting(f"data_dir: there are {_MOST_MODELS} models already; remove one first.")
        text = msgspec.json.format(msgspec.json.encode(_File(version=1, models=entries)), indent=1)
        draft = self._directory / f"{_FILE}.tmp"
        try:
            with open(draft, "wb", opener=_open_privately) as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._directory / _FILE)
        except OSError as error:
            raise BadSetting(f"data_dir: {self._directory} cannot be written: {error.strerror}.") from error

    @contextmanager
    def _locked(self) -> Generator[None]:
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise BadSetting(f"data_dir: {self._directory} cannot be written: {error.strerror}.") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def snapshot_directory(folder: Path, commit: str, file: str | None) -> Path:
    """Return the directory of what was pulled: one for each commit, and for each GGUF model of a commit.

    Args:
        folder: of the model's name.
        commit: 40 hex digits.
        file: name of the GGUF file or of its first part; None for a checkpoint directory.
    """
    return folder / (commit if file is None else f"{commit}.{model_name(Path(file))}")


def check_name(name: str) -> str:
    """Validate the name of a local model; return it.

    Raises:
        BadSetting: it is not ``owner/name``, or is the demo model's.
    """
    if _NAME.fullmatch(name) is None:
        raise BadSetting(
            f"{name[:200]!r} cannot be a model's name: it must be owner/name, of letters, digits, '-', '_' and '.'."
        )
    if name.lower() == DEMO:
        raise BadSetting(f"{DEMO} is the model that is shipped; give another name.")
    return name


def hub_name(name: str) -> str:
    """Return the Hub repository of a name: that of the known model with this name, else the name itself."""
    card = known_card(name)
    return name if card is None else card.hub or name


def _aliases(name: str) -> tuple[str, ...]:
    """The name, and the others of the known model that has it."""
    card = known_card(name)
    return (name,) if card is None else (name, *card.names)


def _open_privately(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
