"""A run as ``chat.completion.chunk`` events: bytes from a template, so a token costs one string encoding.

As DeepInfra's route streamed in November 2024: role and content in every delta, the usage in the chunk that carries
the finish reason, then ``[DONE]``. No chunk has empty ``choices``: too many clients read ``choices[0]`` of each.
"""

from collections.abc import Iterator

import orjson

from corral.api.doors.openai.translate import from_usage
from corral.api.problems import Problem
from corral.api.sse import encode
from corral.core.generation import Delta, Finished, GenerationEvent, Started, Usage

DONE = b"data: [DONE]\n\n"


class ChatStream:
    """One answer's stream, sans IO."""

    def __init__(
        self, completion_id: str, created: int, model: str, *, include_usage: bool, continuous_usage: bool
    ) -> None:
        """Prepare the parts that all chunks share.

        Args:
            completion_id: the same in each chunk.
            created: Unix time in seconds.
            model: as the caller spelt it.
            include_usage: whether the last chunk carries the usage.
            continuous_usage: whether every chunk does; needs ``include_usage``.
        """
        shared = {"id": completion_id, "object": "chat.completion.chunk", "created": created, "model": model}
        self._head = b"data: " + orjson.dumps(shared)[:-1] + b',"choices":[{"index":0,"delta":'
        self._include_usage = include_usage
        self._continuous_usage = include_usage and continuous_usage
        self._prompt_tokens = 0

    def feed(self, event: GenerationEvent) -> Iterator[bytes]:
        """The bytes of one event."""
        match event:
            case Started():
                self._prompt_tokens = event.prompt_tokens
                yield self._content("", 0)
            case Delta():
                yield self._content(event.text, event.completion_tokens)
            case Finished():
                usage = self._usage(event.usage) if self._include_usage else b""
                yield b'%b{},"finish_reason":"%b"}]%b}\n\n' % (self._head, event.reason.value.encode(), usage)
                yield DONE

    def fail(self, problem: Problem) -> bytes:
        """An error after the first byte. No ``[DONE]`` follows, so the answer cannot be taken for complete."""
        return encode(orjson.dumps(problem.body))

    def _content(self, text: str, completion_tokens: int) -> bytes:
        if self._continuous_usage:
            usage = self._usage(Usage(prompt_tokens=self._prompt_tokens, completion_tokens=completion_tokens))
        else:
            usage = b',"usage":null' if self._include_usage else b""
        return b'%b{"role":"assistant","content":%b},"finish_reason":null}]%b}\n\n' % (
            self._head,
            orjson.dumps(text),
            usage,
        )

    def _usage(self, usage: Usage) -> bytes:
        return b',"usage":' + orjson.dumps(from_usage(usage))
