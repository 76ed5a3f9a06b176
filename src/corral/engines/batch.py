"""The sequences of one worker, and the room it has left: KV blocks and places in its batch.

A sequence holds, from the moment it is submitted, KV blocks for its prompt and its whole answer. So no engine ever ends
a sequence for lack of cache, and only sequences of low priority are ever taken off a worker: see ``preemption``.
"""

from collections.abc import Collection

from corral.engines.base import EngineInfo
from corral.engines.sequences import QueuedSequence


class WorkerBatch:
    """Submitted sequences of one worker by key. Only ``admission`` changes it."""

    def __init__(self, index: int, *, max_sequences: int) -> None:
        self.index = index
        """Number of the worker within its engine."""
        self.max_sequences = max_sequences
        self.info: EngineInfo | None = None
        """What the worker has loaded, or had loaded before it died; None before its first load."""
        self.is_ready = False
        """Whether the worker accepts sequences now."""
        self.is_lost = False
        """Whether it failed to start so often that nobody should wait for it."""
        self._submitted: dict[int, QueuedSequence] = {}
        self._leaving: dict[int, int] = {}

    @property
    def submitted(self) -> int:
        """Sequences in the batch, cancelled ones included until the worker confirms that they are gone."""
        return len(self._submitted) + len(self._leaving)

    @property
    def sequences(self) -> Collection[QueuedSequence]:
        """Submitted sequences that still have a reader."""
        return self._submitted.values()

    @property
    def computes_suspect(self) -> bool:
        """Whether a sequence is computed alone here."""
        return any(sequence.is_suspect for sequence in self._submitted.values())

    @property
    def kv_blocks_reserved(self) -> int:
        """Blocks that submitted and cancelled sequences hold together."""
        return sum(map(self.blocks_of, self._submitted.values())) + sum(self._leaving.values())

    @property
    def outstanding_tokens(self) -> int:
        """Most tokens that its sequences still need."""
        return sum(sequence.cost_tokens - len(sequence.emitted) for sequence in self._submitted.values())

    @property
    def low_priority(self) -> list[QueuedSequence]:
        """Submitted sequences of low priority that still have a reader, in the order of submission."""
        return [sequence for sequence in self._submitted.values() if sequence.request.low_priority]

    @property
    def leaving(self) -> int:
        """Cancelled sequences whose end the worker has not confirmed."""
        return len(self._leaving)

    @property
    def leaving_blocks(self) -> int:
        """Blocks that these still hold."""
        return sum(self._leaving.values())

    @property
    def missing_tokens(self) -> int:
        """Tokens reserved for normal priority minus all there is room for: negative while there is room.

        0 without KV blocks.
        """
        if self.info is None or self.info.kv_blocks is None or self.info.kv_block_tokens is None:
            return 0
        held_blocks = self.kv_blocks_reserved - sum(map(self.blocks_of, self.low_priority))
        return (held_blocks - self.info.kv_blocks) * self.info.kv_block_tokens

    @property
    def missing_places(self) -> int:
        """Sequences of normal priority minus the places in the batch: negative while there is one."""
        return self.submitted - len(self.low_priority) - self.max_sequences

    def blocks_of(self, sequence: QueuedSequence) -> int:
        """Blocks for the prompt and the whole answer, rounded up; 0 for an engine without KV blocks."""
        if self.info is None or self.info.kv_block_tokens is None:
            return 0
        return -(-sequence.cost_tokens // self.info.kv_block_tokens)

    def has_room(self, sequence: QueuedSequence) -> bool:
        """Whether the worker is ready and can take one more sequence of this size."""
        if not self.is_ready or self.info is None or self.submitted >= self.max_sequences:
            return False
        if self.info.kv_blocks is None:
            return sequence.cost_tokens <= self.info.room_tokens
        return self.blocks_of(sequence) <= self.info.kv_blocks - self.kv_blocks_reserved

    def add(self, key: int, sequence: QueuedSequence) -> None:
        """Reserve room for a sequence."""
        sequence.key = key
        self._submitted[key] = sequence

    def get(self, key: int) -> QueuedSequence | None:
        """The sequence of a key; None if it was cancelled."""
        return self._submitted.get(key)

    def cancel(self, key: int) -> bool:
        """Forget a sequence, but keep its blocks until ``remove``. Returns False if the key is not in the batch."""
        sequence = self._submitted.pop(key, None)
        if sequence is None:
            return False
        sequence.key = None
        self._leaving[key] = self.blocks_of(sequence)
        return True

    def remove(self, key: int) -> None:
        """Free the room of a sequence that the worker has finished or cancelled."""
        self._leaving.pop(key, None)
        sequence = self._submitted.pop(key, None)
        if sequence is not None:
            sequence.key = None

    def clear(self) -> list[QueuedSequence]:
        """Free all room, because the worker is gone. Returns the sequences in the order of submission."""
        sequences = [self._submitted[key] for key in sorted(self._submitted)]
        for sequence in sequences:
            sequence.key = None
        self._submitted.clear()
        self._leaving.clear()
        self.is_ready = False
        return sequences
