"""Limit the memory of this process, so that a reader which allocates what a damaged file claims fails."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def little_memory(spare_bytes: int) -> Iterator[None]:
    """While the block is active, whatever allocates more than *spare_bytes* gets a MemoryError."""
    limits = resource.getrlimit(resource.RLIMIT_DATA)
    status = Path("/proc/self/status").read_text()
    used_bytes = int(status.partition("VmData:")[2].split()[0]) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (used_bytes + spare_bytes, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_DATA, limits)
