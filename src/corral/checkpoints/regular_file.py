"""A file of a checkpoint, open for reading by position. Must not know of any format."""

import os
import stat
from pathlib import Path
from typing import Self

from corral.core.errors import CheckpointRefused


class RegularFile:
    """One open file. Reading is by position, so that threads may share it."""

    def __init__(self, path: Path) -> None:
        """Open.

        Raises:
            CheckpointRefused: it cannot be opened, or is no regular file.
        """
        self.path = path
        try:
            # Without O_NONBLOCK, opening a named pipe would wait for ever for its writer.
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
        """Bytes of the file. What they are for must have been checked against ``size_bytes`` before.

        Raises:
            CheckpointRefused: the file ends before; it was cut while we were reading.
        """
        buffer = bytearray(size_bytes)
        view, done = memoryview(buffer), 0
        while done < size_bytes:
            count = os.preadv(self._fd, [view[done:]], offset + done)
            if count == 0:
                raise self.refused(f"is truncated: it ends before byte {offset + size_bytes}")
            done += count
        return buffer

    def refused(self, what: str) -> CheckpointRefused:
        """The refusal of this file, by its name."""
        return CheckpointRefused(f"{self.path.name} {what}.")
