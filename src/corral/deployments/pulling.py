"""Download a model from the Hub, atomically and with checked checksums.

Files are downloaded to ``<commit>.unfinished``, each as ``<name>.part`` until its checksum is verified. The directory
is renamed when all files are complete. An interrupted pull is resumed by the next one.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from corral.catalog.hub_files import HubFile, Listing, PullFailed, check_size, describing_files, weight_files
from corral.catalog.hub_gguf import gguf_files, holds_only_gguf
from corral.catalog.local import snapshot_directory
from corral.checkpoints.weight_files import INDEX
from corral.core.errors import CheckpointRefused
from corral.engines.stepper import Progress, Report

if TYPE_CHECKING:
    from corral.catalog.hub import Hub

_UNFINISHED: Final = ".unfinished"
_PART: Final = ".part"
_SPARE_BYTES: Final = 64 * 2**20
_CHUNK_BYTES: Final = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """What a download placed in the model's folder; see ``snapshot_directory``."""

    commit: str
    file: str | None
    """Name of the GGUF file or of its first part; None for a checkpoint directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull:
    """One download of a model. The caller must have locked the folder."""

    hub: "Hub"
    repository: str
    revision: str | None
    file: str | None
    """The GGUF file to download; None for the weights in the Transformers format, or the only GGUF model."""
    folder: Path
    """Folder with a directory per commit."""
    check_description: Callable[[Path], None]
    """Checks configuration and tokenizer before the weights are downloaded."""
    report: Report

    def run(self) -> Pulled:
        """Download the missing files.

        Raises:
            PullFailed: the Hub, the network or the disk failed, or a file does not match its checksum.
            CheckpointRefused: the model cannot be served.
        """
        self.report(Progress(stage=f"Asking the Hub for {self.repository}", done=0, total=0))
        listing = self.hub.list_files(self.repository, self.revision)
        parts = gguf_files(listing, self.file) if self.file is not None or holds_only_gguf(listing) else []
        pulled = Pulled(commit=listing.commit, file=parts[0].local_name if parts else None)
        try:
            self._place(snapshot_directory(self.folder, pulled.commit, pulled.file), listing, parts)
        except OSError as error:
            raise PullFailed(f"{self.folder} cannot be written: {error.strerror}.") from error
        return pulled

    def _place(self, target: Path, listing: Listing, parts: Sequence[HubFile]) -> None:
        if not target.is_dir():
            staging = target.with_name(target.name + _UNFINISHED)
            for directory in (self.folder, staging):
                directory.mkdir(mode=0o700, exist_ok=True)
            if parts:
                self._fetch_weights(parts, staging, listing)
            else:
                self._fill(staging, listing)
            _sync(staging)
            staging.rename(target)
            _sync(self.folder, files=False)
        for outdated in self.folder.glob("*" + _UNFINISHED):  # interrupted downloads of other commits or files
            shutil.rmtree(outdated)

    def _fill(self, staging: Path, listing: Listing) -> None:
        describing = describing_files(listing)
        self._fetch(describing, staging, listing)
        try:
            self.check_description(staging)
        except CheckpointRefused:
            shutil.rmtree(staging)
            raise
        index = (staging / INDEX).read_bytes() if INDEX in listing.files else None
        self._fetch_weights(weight_files(listing, index), staging, listing)

    def _fetch_weights(self, files: Sequence[HubFile], staging: Path, listing: Listing) -> None:
        check_size(listing, files)
        self._fetch(files, staging, listing)

    def _fetch(self, files: Sequence[HubFile], staging: Path, listing: Listing) -> None:
        """Download and verify the missing files."""
        missing = [file for file in files if not (staging / file.local_name).is_file()]
        total = sum(file.size_bytes for file in missing)
        done = sum(_kept_bytes(_part(staging, file), file) for file in missing)
        self._check_space(staging, total - done)
        what = missing[0].name if len(missing) == 1 else f"{len(missing)} files"
        stage = f"Fetching {what} of {self.repository} ({shown_size(total)})"

        def advance(count: int) -> None:
            nonlocal done
            done += count
            self.report(Progress(stage=stage, done=done, total=total))

        for file in missing:
            part = _part(staging, file)
            self.hub.fetch(listing, file, part, advance)
            self._check(file, part)
            part.rename(staging / file.local_name)

    def _check_space(self, directory: Path, needed_bytes: int) -> None:
        free_bytes = shutil.disk_usage(directory).free
        if free_bytes < needed_bytes + _SPARE_BYTES:
            raise PullFailed(
                f"{self.repository} needs {shown_size(needed_bytes)} more in {directory.parent}, where "
                f"{shown_size(free_bytes)} are free."
            )

    def _check(self, file: HubFile, part: Path) -> None:
        """Verify the checksum that the Hub lists.

        Raises:
            PullFailed: the checksum differs; the file was deleted.
        """
        if file.sha256 is None:
            # Git's blob id: https://git-scm.com/book/en/v2/Git-Internals-Git-Objects
            digest, wanted = hashlib.sha1(usedforsecurity=False), file.git_sha1
            digest.update(b"blob %d\0" % file.size_bytes)
        else:
            digest, wanted = hashlib.sha256(), file.sha256
        stage = f"Checking {file.name}"
        done = 0
        with part.open("rb") as content:
            while chunk := content.read(_CHUNK_BYTES):
                digest.update(chunk)
                done += len(chunk)
                self.report(Progress(stage=stage, done=done, total=file.size_bytes))
        if digest.hexdigest() != wanted:
            part.unlink()
            raise PullFailed(
                f"{file.name} has the checksum {digest.hexdigest()}; the Hub lists {wanted}. It was deleted; "
                "pull again to download it again."
            )


def shown_size(size_bytes: int) -> str:
    """Format a size: ``13.5 GB``."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size_bytes >= unit:
            return f"{size_bytes / unit:.1f} {name}"
    return f"{size_bytes} bytes"


def _part(staging: Path, file: HubFile) -> Path:
    return staging / (file.local_name + _PART)


def _kept_bytes(part: Path, file: HubFile) -> int:
    """Get the downloaded size of a file; delete it if it is too long."""
    size_bytes = part.stat().st_size if part.exists() else 0
    if size_bytes <= file.size_bytes:
        return size_bytes
    part.unlink()
    return 0


def _sync(directory: Path, *, files: bool = True) -> None:
    for path in [*(directory.iterdir() if files else ()), directory]:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
