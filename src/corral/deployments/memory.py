"""Central memory reservation, so that two deployments cannot use the same bytes."""

from corral.core.errors import InsufficientMemory


class MemoryBudget:
    """Memory that all deployments share."""

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self._reserved: dict[str, int] = {}

    @property
    def available_bytes(self) -> int:
        """Bytes that are not reserved."""
        return self.total_bytes - sum(self._reserved.values())

    def reserved_bytes(self, name: str) -> int:
        """What one deployment has reserved."""
        return self._reserved.get(name, 0)

    def reserve(self, name: str, size_bytes: int) -> None:
        """Reserve memory for a deployment, replacing its previous reservation.

        Raises:
            InsufficientMemory: not enough is available; nothing has changed.
        """
        available_bytes = self.available_bytes + self.reserved_bytes(name)
        if size_bytes > available_bytes:
            raise InsufficientMemory(name, needed_bytes=size_bytes, available_bytes=available_bytes)
        self._reserved[name] = size_bytes

    def release(self, name: str) -> None:
        """Release the memory of a deployment."""
        self._reserved.pop(name, None)
