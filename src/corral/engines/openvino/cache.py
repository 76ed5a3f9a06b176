"""Cache of converted models on disk, keyed by content digest and written atomically.

A model's directory is renamed to its final name after all its files are synced. Leftovers of interrupted conversions
are deleted at the next start.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from corral.core.errors import CheckpointRefused
from corral.engines.stepper import Progress, Report

_INDEX = "digests.json"
_UNFINISHED = ".unfinished"
_SOURCE = "source.json"
_DIGEST_CHUNK_BYTES = 16 * 2**20

Stamp = tuple[int, int, int, int]
"""Size, modification time, change time (ns) and inode of a file; equal if the file is unchanged."""


class ModelCache:
    """The cache directory ``models``, made when something is first put into it. Several processes may share it."""

    def __init__(self, directory: Path) -> None:
        self._models = directory / "models"

    def obtain(self, key: str, convert: Callable[[Path], None], report: Report) -> Path:
        """Get the directory of a converted model; convert it first if it is not cached.

        Args:
            key: digest of everything that the model depends on, as a file name.
            convert: fills an empty directory; if it raises, the directory is deleted.
            report: called when another process is converting.
        """
        target = self._models / key
        if target.is_dir():
            self._sweep_unless_busy()
            return target
        with self._locked(report):
            self._sweep()
            if not target.is_dir():
                self._make(target, convert)
        return target

    def forget(self, source: Path, report: Report) -> None:
        """Delete all models converted from *source*, which may not exist any more. Processes that use one keep it."""
        with self._locked(report):
            for marker in self._models.glob(f"*/{_SOURCE}"):
                if _read_source(marker) == str(source):
                    shutil.rmtree(marker.parent)

    def has(self, key: str) -> bool:
        """Whether the converted model *key* is there."""
        return (self._models / key).is_dir()

    def recall_files(self, paths: Sequence[Path]) -> str | None:
        """What ``digest_files`` would return, without reading contents; None if a file was never read as it is now."""
        remembered = self._read_index()
        known = {path.name: _recall(remembered, path, stamp_file(path)) for path in paths}
        return None if None in known.values() else digest_fields(known)

    def digest_files(self, paths: Sequence[Path], report: Report) -> str:
        """Compute a digest of the files' names and contents; digests of unchanged files are cached.

        Raises:
            CheckpointRefused: a file changed while it was read.
        """
        remembered = self._read_index()
        stamps = {path: stamp_file(path) for path in paths}
        known = {path: _recall(remembered, path, stamp) for path, stamp in stamps.items()}
        unknown = {path: stamps[path] for path, digest in known.items() if digest is None}
        total, done = sum(stamp[0] for stamp in unknown.values()), 0
        for path, stamp in unknown.items():

            def advance(count: int) -> None:
                nonlocal done
                done += count
                report(Progress(stage="Reading the checkpoint", done=done, total=total))

            known[path] = _digest_file(path, size_bytes=stamp[0], advance=advance)
            check_untouched(path, stamp)
            remembered[str(path.resolve())] = [*stamp, known[path]]
        if unknown:
            self._write_index(remembered)
        return digest_fields({path.name: known[path] for path in paths})

    def _make(self, target: Path, convert: Callable[[Path], None]) -> None:
        unfinished = target.with_name(target.name + _UNFINISHED)
        unfinished.mkdir(mode=0o700)
        try:
            convert(unfinished)
            for path in unfinished.iterdir():
                _sync(path)
            _sync(unfinished)
            unfinished.rename(target)
            _sync(self._models)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise

    def _sweep(self) -> None:
        """Delete leftovers of interrupted conversions. The caller must hold the lock."""
        for left in self._models.glob("*" + _UNFINISHED):
            shutil.rmtree(left)

    def _sweep_unless_busy(self) -> None:
        if next(self._models.glob("*" + _UNFINISHED), None) is None:
            return
        descriptor = self._open_lock()
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._sweep()
        except BlockingIOError:
            return  # another process is converting
        finally:
            os.close(descriptor)

    @contextmanager
    def _locked(self, report: Report) -> Generator[None]:
        """Lock the cache: only one conversion at a time, to limit memory and avoid duplicate work."""
        descriptor = self._open_lock()
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                report(Progress(stage="Waiting for another process that converts a model", done=0, total=0))
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _open_lock(self) -> int:
        self._make_directory()
        return os.open(self._models / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _read_index(self) -> dict[str, object]:
        """Read the cached digests; if the index is missing or damaged, the files are read again."""
        try:
            index: object = json.loads((self._models / _INDEX).read_bytes())
        except (OSError, ValueError):
            return {}
        return cast("dict[str, object]", index) if isinstance(index, dict) else {}

    def _make_directory(self) -> None:
        self._models.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _write_index(self, index: dict[str, object]) -> None:
        self._make_directory()
        temporary = self._models / f"{_INDEX}.{os.getpid()}"
        present = {path: entry for path, entry in index.items() if os.path.exists(path)}
        temporary.write_text(json.dumps(present))
        temporary.replace(self._models / _INDEX)


def note_source(directory: Path, source: Path) -> None:
    """Store the path of the checkpoint in a converted model, for ``ModelCache.forget``."""
    (directory / _SOURCE).write_text(json.dumps({"checkpoint": str(source)}))


def _digest_file(path: Path, *, size_bytes: int, advance: Callable[[int], None]) -> str:
    """Compute the SHA-256 of the SHA-256 digests of 16 MiB chunks, which are hashed in parallel.

    Args:
        path: a regular file.
        size_bytes: number of bytes to read.
        advance: called with the size of each finished chunk.
    """
    starts = range(0, size_bytes, _DIGEST_CHUNK_BYTES)

    def digest_chunk(start: int) -> bytes:
        with path.open("rb") as file:
            file.seek(start)
            return hashlib.sha256(file.read(min(_DIGEST_CHUNK_BYTES, size_bytes - start))).digest()

    whole = hashlib.sha256(size_bytes.to_bytes(8, "little"))
    with ThreadPoolExecutor(2, thread_name_prefix="digest") as pool:
        for start, chunk in zip(starts, pool.map(digest_chunk, starts), strict=True):
            whole.update(chunk)
            advance(min(_DIGEST_CHUNK_BYTES, size_bytes - start))
    return whole.hexdigest()


def digest_fields(fields: Mapping[str, object]) -> str:
    """Compute a digest of named values, independent of their order."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def stamp_file(path: Path) -> Stamp:
    """Get the stamp of a file, to detect changes."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def check_untouched(path: Path, stamp: Stamp) -> None:
    """Compare a file with an earlier stamp.

    Raises:
        CheckpointRefused: the file has changed.
    """
    if stamp_file(path) != stamp:
        raise CheckpointRefused(f"{path.name} changed while it was being read.")


def _recall(index: dict[str, object], path: Path, stamp: Stamp) -> str | None:
    entry = index.get(str(path.resolve()))
    if not isinstance(entry, list) or not entry:
        return None
    *seen, digest = cast("list[object]", entry)
    return digest if seen == list(stamp) and isinstance(digest, str) else None


def _read_source(marker: Path) -> object:
    try:
        document: object = json.loads(marker.read_bytes())
    except (OSError, ValueError):
        return None
    return cast("dict[str, object]", document).get("checkpoint") if isinstance(document, dict) else None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
