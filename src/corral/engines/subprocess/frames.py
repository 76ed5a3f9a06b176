"""What may cross the socket between gateway and worker: these structs, as msgpack, and nothing else.

A frame is a 4-byte big-endian length and that many bytes of msgpack. Never pickle: a frame is data, whatever wrote it.
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
    """First word to a new worker: what to load."""

    engine: str
    options: dict[str, Any]


class Add(msgspec.Struct, tag=True, frozen=True):
    """A request joins."""

    key: int
    request: EngineRequest


class Cancel(msgspec.Struct, tag=True, frozen=True):
    """A request leaves; always acknowledged in ``Stepped.cancelled``."""

    key: int


class Loading(msgspec.Struct, tag=True, frozen=True):
    """Start-up goes on."""

    progress: Progress


class Ready(msgspec.Struct, tag=True, frozen=True):
    """Loaded and warmed up."""

    info: EngineInfo


class Refused(msgspec.Struct, tag=True, frozen=True):
    """The engine would not take one request."""

    key: int
    message: str


class Stepped(msgspec.Struct, tag=True, frozen=True):
    """One step of the engine: the news of every sequence in one frame."""

    outputs: list[SequenceOutput]
    cancelled: list[int]
    kv_usage_percent: float


class Died(msgspec.Struct, tag=True, frozen=True):
    """Last word of a worker that knows why it ends."""

    message: str
    checkpoint_refused: bool


ToWorker = Launch | Add | Cancel
FromWorker = Loading | Ready | Refused | Stepped | Died

_encoder = msgspec.msgpack.Encoder()
_to_worker = msgspec.msgpack.Decoder(ToWorker)
_from_worker = msgspec.msgpack.Decoder(FromWorker)


def encode(frame: ToWorker | FromWorker) -> bytes:
    """Length prefix and body."""
    body = _encoder.encode(frame)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def decode_from_worker(body: bytes) -> FromWorker:
    """The gateway's side.

    Raises:
        msgspec.DecodeError: not a frame of this protocol.
    """
    return _from_worker.decode(body)


class WorkerChannel:
    """The worker's end of the socket: blocking when idle, never when busy."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = bytearray()

    def send(self, frame: FromWorker) -> None:
        """Write one frame; blocks while the gateway does not read."""
        self._sock.sendall(encode(frame))

    def receive(self, *, wait: bool) -> list[ToWorker]:
        """Every frame that has arrived; with *wait*, at least one.

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
