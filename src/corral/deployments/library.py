"""The models of this machine: fetched from the Hub, or brought by the user; converted, registered, removed again."""

import fcntl
import os
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from corral.catalog.hub_files import PullFailed
from corral.catalog.local import LocalModel, LocalModels, Quantization, check_name, hub_name
from corral.core.errors import BadSetting, CheckpointRefused
from corral.deployments.pulling import Pull
from corral.engines.stepper import Progress, Report

if TYPE_CHECKING:
    from corral.catalog.hub import Hub


class Checkpoints(Protocol):
    """What the library has done to checkpoints; every method raises ``CheckpointRefused`` for what cannot be served."""

    def accept(self, given: str) -> Path:
        """The absolute path of a checkpoint that a user names by a path; ``BadSetting`` if there is none."""
        ...

    def check_description(self, directory: Path) -> None:
        """Look at configuration and tokenizer alone."""
        ...

    def convert(self, path: Path, quantize: Quantization, report: Report) -> None:
        """Check the whole checkpoint and convert it as its first start would."""
        ...

    def forget(self, path: Path, report: Report) -> None:
        """Delete what was converted from the checkpoint, which may be gone itself."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """What removing a model would do."""

    name: str
    registered: LocalModel | None
    """None for a pull that has not come to its end."""
    folder: Path | None
    """What pulling has fetched; None if there is nothing."""


class Library:
    """Commands may use it at once, on the same model too."""

    def __init__(self, local: LocalModels, checkpoints: Checkpoints, open_hub: "Callable[[], Hub]") -> None:
        self._local = local
        self._checkpoints = checkpoints
        self._open_hub = open_hub

    def pull(self, name: str, *, revision: str | None, quantize: Quantization, report: Report) -> LocalModel:
        """Fetch, convert and register a model.

        Args:
            name: a repository on the Hub, or another name of a known model that is there.
            revision: branch, tag or commit; None is the main branch.
            quantize: how its weights are stored.
            report: told how far it is.

        Raises:
            PullFailed: it could not be fetched; a later pull goes on with what has come.
            CheckpointRefused: it cannot be served; nothing of it is kept.
            BadSetting: the name is none, or stands for files that the user brought.
        """
        name = hub_name(check_name(name))
        registered = self._exactly(name)
        if registered is not None and registered.revision is None:
            raise BadSetting(
                f"{name} was added from {registered.path}; `corral model remove {name}` makes place for another."
            )
        folder = self._local.folder(name)
        with self._locked(folder, report), self._open_hub() as hub:
            commit = Pull(
                hub=hub,
                repository=name,
                revision=revision,
                folder=folder,
                check_description=self._checkpoints.check_description,
                report=report,
            ).run()
            path = folder / commit
            try:
                self._checkpoints.convert(path, quantize, report)
            except CheckpointRefused:
                shutil.rmtree(path)
                raise
            model = LocalModel(name=name, path=path, revision=commit, quantize=quantize)
            self._local.register(model)
        return model

    def add(self, given: str, name: str | None, *, quantize: Quantization, report: Report) -> LocalModel:
        """Check, convert and register a checkpoint that stays where it is.

        Args:
            given: its path.
            name: ``owner/name``; None makes one of the path.
            quantize: how its weights are stored.
            report: told how far it is.

        Raises:
            CheckpointRefused: it cannot be served.
            BadSetting: there is no such path, or the name is none or taken by a model that was pulled.
        """
        path = self._checkpoints.accept(given)
        name = check_name(f"local/{path.stem if path.is_file() else path.name}" if name is None else name)
        registered = self._exactly(name)
        if registered is not None and registered.revision is not None:
            raise BadSetting(f"{name} was pulled; `corral model remove {name}` makes place for another.")
        self._checkpoints.convert(path, quantize, report)
        model = LocalModel(name=name, path=path, revision=None, quantize=quantize)
        self._local.register(model)
        return model

    def plan_removal(self, name: str) -> Removal:
        """What there is to remove under a name.

        Raises:
            BadSetting: nothing.
        """
        registered = self._local.find(name)
        name = hub_name(check_name(name)) if registered is None else registered.name
        folder = self._local.folder(name)
        if registered is None and not folder.is_dir():
            names = ", ".join(model.name for model in self._local.models()) or "none"
            raise BadSetting(f"{name} was neither pulled nor added on this machine; there is: {names}.")
        return Removal(name=name, registered=registered, folder=folder if folder.is_dir() else None)

    def remove(self, removal: Removal, report: Report) -> None:
        """Unregister a model and delete what pulling fetched and what was converted; never what the user brought.

        Raises:
            PullFailed: it is being pulled at this moment.
            BadSetting: the registry cannot be written.
        """
        with self._locked(self._local.folder(removal.name)):
            if removal.registered is not None:
                self._local.unregister(removal.name)
                self._checkpoints.forget(removal.registered.path, report)
            if removal.folder is not None:
                for path in sorted(removal.folder.iterdir()):
                    self._checkpoints.forget(path, report)
                shutil.rmtree(removal.folder)

    def _exactly(self, name: str) -> LocalModel | None:
        return next((model for model in self._local.models() if model.name.lower() == name.lower()), None)

    @contextmanager
    def _locked(self, folder: Path, report: Report | None = None) -> Generator[None]:
        """One command at a time on a folder; without *report* a second one is refused instead of waiting."""
        try:
            folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Beside the folder: a lock in it would go with it, and two commands could each hold one.
            descriptor = os.open(folder.with_name(folder.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise BadSetting(f"data_dir: {folder.parent} cannot be written: {error.strerror}.") from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if report is None:
                    raise PullFailed("Another command is pulling this model right now; end that first.") from None
                report(Progress(stage="Waiting for another command that pulls this model", done=0, total=0))
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
