"""Order of waiting sequences: flows take turns by the tokens they ask for.

Flows share by start-time fair queueing (Goyal, Vin, Cheng, 1996): the flow whose next sequence has the least start tag
is served; a tag is the cost of what the flow was served before, and a new flow starts where the others are.
"""

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from corral.engines.sequences import QueuedSequence


@dataclass(slots=True)
class _Flow:
    tag: int
    """Start tag of the next sequence, in tokens."""
    waiting: deque[QueuedSequence] = field(default_factory=deque[QueuedSequence])


class FairQueue:
    """Waiting sequences by flow."""

    def __init__(self) -> None:
        self._flows: dict[str, _Flow] = {}
        """Flows with waiting sequences, and those that were served more than ``_served_tag``."""
        self._served_tag = 0
        self._waiting = 0
        self._arrivals = 0

    def __len__(self) -> int:
        """Waiting sequences."""
        return self._waiting

    def waiting_of(self, flow: str) -> int:
        """Waiting sequences of one flow."""
        return len(self._flows[flow].waiting) if flow in self._flows else 0

    def append(self, sequence: QueuedSequence) -> None:
        """Add a sequence at the end of its flow."""
        flow = self._flows.setdefault(sequence.request.flow, _Flow(self._served_tag))
        if not flow.waiting:
            flow.tag = max(flow.tag, self._served_tag)
        self._arrivals += 1
        sequence.arrival = self._arrivals
        flow.waiting.append(sequence)
        self._waiting += 1

    def __iter__(self) -> Iterator[QueuedSequence]:
        """Sequences in the order in which they would be served if each fitted and none came or left."""
        heads = [(flow.tag, flow.waiting[0].arrival, 0, tuple(flow.waiting)) for flow in self._backlogged()]
        heapq.heapify(heads)
        while heads:
            tag, _, index, sequences = heads[0]
            yield sequences[index]
            if index + 1 == len(sequences):
                heapq.heappop(heads)
            else:
                head = (tag + sequences[index].cost_tokens, sequences[index + 1].arrival, index + 1, sequences)
                heapq.heapreplace(heads, head)

    def heads(self) -> list[QueuedSequence]:
        """First sequence of each flow, in the order of service."""
        flows = sorted(self._backlogged(), key=lambda flow: (flow.tag, flow.waiting[0].arrival))
        return [flow.waiting[0] for flow in flows]

    def take(self, sequence: QueuedSequence) -> None:
        """Remove the first sequence of a flow because it is served: its cost counts for the flow."""
        flow = self._flows[sequence.request.flow]
        flow.waiting.popleft()
        self._waiting -= 1
        if flow.tag > self._served_tag:
            self._served_tag = flow.tag
            self._flows = {
                name: one
                for name, one in self._flows.items()
                if one.waiting or one is flow or one.tag > self._served_tag
            }
        flow.tag += sequence.cost_tokens

    def put_back(self, sequence: QueuedSequence) -> None:
        """Return a sequence that was served to the front of its flow, and its cost to the flow."""
        flow = self._flows.setdefault(sequence.request.flow, _Flow(self._served_tag))
        flow.tag -= sequence.cost_tokens
        flow.waiting.appendleft(sequence)
        self._waiting += 1

    def remove(self, sequence: QueuedSequence) -> None:
        """Remove a sequence that no longer wants to be served, if it is here."""
        flow = self._flows.get(sequence.request.flow)
        if flow is not None and sequence in flow.waiting:
            flow.waiting.remove(sequence)
            self._waiting -= 1

    def clear(self) -> list[QueuedSequence]:
        """Remove all sequences and forget all flows; returns them in the order of service."""
        sequences = list(self)
        self._flows.clear()
        self._waiting = 0
        return sequences

    def _backlogged(self) -> Iterator[_Flow]:
        return (flow for flow in self._flows.values() if flow.waiting)
