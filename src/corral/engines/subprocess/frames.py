"""Frames between gateway and child process: msgpack structs with a length prefix.

A frame is a 4-byte big-endian length and that many bytes of msgpack. Never pickle: decoding must not execute code.
"""

import socket
from collections.abc import Iterator
from typing import Any

import msgspec

from corral.engines.base import EngineInfo, EngineRequest
from corral.engines.stepper import Progress, SequenceOutput

MAX_FRAME_BYTES = 64 * 2**20
LENGTH_BYTES = 4


class Launch(msgspec.Struct, tag=True, frozen=True):
    """First frame to a new process: what to load."""

    engine: str
    options: dict[str, Any]


class Add(msgspec.Struct, tag=True, frozen=True):
    """Add a sequence to the batch."""

    key: int
    request: EngineRequest


class Cancel(msgspec.Struct, tag=True, frozen=True):
    """Remove a sequence; always acknowledged in ``Stepped.cancelled``."""

    key: int


class Loading(msgspec.Struct, tag=True, frozen=True):
    """Progress of the load."""

    progress: Progress


class Ready(msgspec.Struct, tag=True, frozen=True):
    """The process is loaded and warmed up."""

    info: EngineInfo


class Refused(msgspec.Struct, tag=True, frozen=True):
    """The engine does not accept a sequence."""

    key: int
    message: str


class Stepped(msgspec.Struct, tag=True, frozen=True):
    """Results of one step for all sequences."""

    outputs: list[SequenceOutput]
    cancelled: list[int]
    kv_usage_percent: float


class Died(msgspec.Struct, tag=True, frozen=True):
    """Last frame of a process that ends because of an error."""

    message: str
    checkpoint_refused: bool


ToWorker = Launch | Add | Cancel
FromWorker = Loading | Ready | Refused | Stepped | Died

_encoder = msgspec.msgpack.Encoder()
_to_worker = msgspec.msgpack.Decoder(ToWorker)
_from_worker = msgspec.msgpack.Decoder(FromWorker)


def encode(frame: ToWorker | FromWorker) -> bytes:
    """Encode a frame with its length prefix."""
    body = _encoder.encode(frame)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def decode_from_worker(body: bytes) -> FromWorker:
    """Decode the body of a frame from the child process.

    Raises:
        msgspec.DecodeError: not a frame of this protocol.
    """
    return _from_worker.decode(body)


class WorkerChannel:
    """Worker side of the socket. Blocks while no sequence is running; polls otherwise."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = bytearray()

    def send(self, frame: FromWorker) -> None:
        """Write one frame; blocks while the gateway does not read."""
        self._sock.sendall(encode(frame))

    def receive(self, *, wait: bool) -> list[ToWorker]:
        """Receive all frames that have arrived; with *wait*, at least one.

        Raises:
            EOFError: the gateway is gone.
        """
        frames = list(self._drain())
        while True:
            try:
                chunk = self._sock.recv(2**16, 0 if wait and not frames else socket.MSG_DONTWAIT)
            except BlockingIOError:
                return frames
            if not chunk:
                raise EOFError("the gateway closed the socket")
            self._buffer += chunk
            frames.extend(self._drain())

    def _drain(self) -> Iterator[ToWorker]:
        while len(self._buffer) >= LENGTH_BYTES:
            end = LENGTH_BYTES + int.from_bytes(self._buffer[:LENGTH_BYTES], "big")
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[LENGTH_BYTES:end])
            del self._buffer[:end]
            yield _to_worker.decode(body)
