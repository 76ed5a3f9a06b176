"""Read a file of a checkpoint by position."""

import os
import stat
from pathlib import Path
from typing import Self

from corral.checkpoints.file_kinds import START_BYTES, is_lfs_pointer, lfs_refusal, recognize_start
from corral.core.errors import CheckpointRefused


class RegularFile:
    """An open regular file. Threads may share it, because reads are by position."""

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            CheckpointRefused: the file cannot be opened, or is not a regular file.
        """
        self.path = path
        try:
            # Without O_NONBLOCK, opening a named pipe would block until a writer opens it.
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise CheckpointRefused(f"{path.name} cannot be opened: {error.strerror}.") from error
        status = os.fstat(self._fd)
        self.size_bytes = status.st_size
        if not stat.S_ISREG(status.st_mode):
            self.close()
            raise self.refused("is not a regular file")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; it cannot be read afterwards."""
        os.close(self._fd)

    def read(self, offset: int, size_bytes: int) -> bytearray:
        """Read bytes of the file. The caller must have checked the range against ``size_bytes``.

        Raises:
            CheckpointRefused: the file ends earlier, because it was truncated since it was opened.
        """
        buffer = bytearray(size_bytes)
        view, done = memoryview(buffer), 0
        while done < size_bytes:
            count = os.preadv(self._fd, [view[done:]], offset + done)
            if count == 0:
                raise self.refused(f"is truncated: it ends before byte {offset + size_bytes}")
            done += count
        return buffer

    def check_kind(self, expected: str) -> None:
        """Refuse the file if its first bytes show that it is of another kind than *expected*: ``a GGUF file``.

        Raises:
            CheckpointRefused: the message says what it is.
        """
        start = bytes(self.read(0, min(START_BYTES, self.size_bytes)))
        if is_lfs_pointer(start):
            raise CheckpointRefused(lfs_refusal(self.path.name))
        if (kind := recognize_start(start)) is not None:
            raise CheckpointRefused(kind.in_place_of(expected, self.path.name))

    def refused(self, what: str) -> CheckpointRefused:
        """Create an error with the name of this file."""
        return CheckpointRefused(f"{self.path.name} {what}.")


def read_whole(path: Path, most_bytes: int) -> bytes:
    """Read a small file.

    Raises:
        CheckpointRefused: it cannot be read, is not a regular file, too large, or a Git LFS pointer.
    """
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
    if is_lfs_pointer(content):
        raise CheckpointRefused(lfs_refusal(path.name))
    return content
