"""Sequential reader for the header of a binary file, with a size limit."""

import struct
from typing import Final

from corral.checkpoints.regular_file import RegularFile

_STEP_BYTES: Final = 2**20
_LENGTH: Final = struct.Struct("<Q")


class Cursor:
    """A position in a file, from which little-endian values are read."""

    def __init__(self, file: RegularFile, most_bytes: int) -> None:
        self.file = file
        self.position = 0
        self._end = min(file.size_bytes, most_bytes)
        self._seen = bytearray()

    @property
    def left(self) -> int:
        """Bytes that can still be read."""
        return self._end - self.position

    def take(self, size_bytes: int, what: str) -> bytes:
        """Read the next bytes.

        Args:
            size_bytes: number of bytes; not trusted.
            what: what they are, for error messages.

        Raises:
            CheckpointRefused: fewer bytes are left.
        """
        self._need(size_bytes, what)
        start = self.position
        self.position += size_bytes
        return bytes(memoryview(self._seen)[start : self.position])

    def integer(self, size_bytes: int, what: str) -> int:
        """Read the next unsigned integer."""
        return int.from_bytes(self.take(size_bytes, what), "little")

    def text(self, most_bytes: int, what: str) -> str:
        """Read the next string: a length of eight bytes, then UTF-8."""
        size_bytes = self.integer(8, what)
        if size_bytes > most_bytes:
            raise self.file.refused(f"claims {size_bytes} bytes for {what}")
        try:
            return self.take(size_bytes, what).decode()
        except UnicodeDecodeError:
            raise self.file.refused(f"has {what}, which is not UTF-8") from None

    def texts(self, count: int, what: str) -> list[str]:
        """Read the next *count* strings, each of any length that fits in the file."""
        if count * _LENGTH.size > self.left:
            raise self.file.refused(f"claims {count} strings for {what}")
        found: list[str] = []
        for _ in range(count):
            self._need(_LENGTH.size, what)
            (size_bytes,) = _LENGTH.unpack_from(self._seen, self.position)
            self._need(_LENGTH.size + size_bytes, what)
            start = self.position + _LENGTH.size
            self.position = start + size_bytes
            try:
                found.append(self._seen[start : self.position].decode())
            except UnicodeDecodeError:
                raise self.file.refused(f"has a string in {what} that is not UTF-8") from None
        return found

    def _need(self, size_bytes: int, what: str) -> None:
        end = self.position + size_bytes
        if end > self._end:
            bound = "is truncated" if self._end == self.file.size_bytes else f"has a header beyond {self._end} bytes"
            raise self.file.refused(f"{bound}: {what} would end at byte {end}")
        while len(self._seen) < end:
            seen = len(self._seen)
            self._seen += self.file.read(seen, min(_STEP_BYTES, self._end - seen))
