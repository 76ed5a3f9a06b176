"""Stream a run as chunks. Chunks are built from byte templates, so a token costs one string encoding.

As DeepInfra's route streamed in November 2024: role and content in every delta of a chat, the usage in the chunk that
carries the last finish reason, then ``[DONE]``. No chunk has empty ``choices``: too many clients read ``choices[0]``
of each.
"""

from collections.abc import Iterator, Sequence
from typing import Final, Protocol

from corral.api.doors.openai.answers import answer_id, created_s, from_usage
from corral.api.doors.openai.logprobs import LegacyTokens, chat_logprobs
from corral.api.doors.openai.wire import SharedRequest
from corral.api.problems import Problem
from corral.api.sse import Stream, encode, event_json, queue_comment
from corral.core.generation import (
    ChoiceEnded,
    Delta,
    Echo,
    Finished,
    FinishReason,
    GenerationEvent,
    Queued,
    Started,
    Usage,
)
from corral.service.ports import PredictionEvents

DONE: Final = b"data: [DONE]\n\n"


class Words(Protocol):
    """Encoder of the part of a chunk's choice between its index and its finish reason."""

    object: str
    id_prefix: str
    end: bytes
    """Last bytes of a chunk that has a finish reason."""
    shows_tokens: bool
    """Whether tokens without text get a chunk."""

    def first(self, choice: int, echo: Echo | None) -> bytes:
        """Encode the chunk before the first token."""
        ...

    def more(self, delta: Delta) -> bytes:
        """Encode a chunk with text."""
        ...


class ChatWords:
    """Encoder of chat completion chunks."""

    object = "chat.completion.chunk"
    id_prefix = "chatcmpl-"
    end = b'"delta":{}'

    def __init__(self, *, top_logprobs: int | None) -> None:
        """*top_logprobs* None leaves log probabilities out."""
        self._top_logprobs = top_logprobs
        self.shows_tokens = top_logprobs is not None

    def first(self, choice: int, echo: Echo | None) -> bytes:  # noqa: ARG002 - a chat has no echo
        """Delta with the role and empty text."""
        return b'"delta":{"role":"assistant","content":""}'

    def more(self, delta: Delta) -> bytes:
        """Delta with text."""
        text = b'"delta":{"role":"assistant","content":%b}' % event_json(delta.text)
        if self._top_logprobs is None:
            return text
        logprobs = chat_logprobs(delta.pieces, delta.logprobs, top=self._top_logprobs)
        return text + b',"logprobs":' + event_json(logprobs)


class CompletionWords:
    """Encoder of completion chunks; each has ``text``, because clients concatenate it unconditionally."""

    object = "text_completion"
    id_prefix = "cmpl-"
    end = b'"text":"","logprobs":null'

    def __init__(self, *, choices: int, top_logprobs: int | None) -> None:
        """*top_logprobs* None leaves log probabilities out."""
        self._tokens = None if top_logprobs is None else [LegacyTokens(top=top_logprobs) for _ in range(choices)]
        self.shows_tokens = top_logprobs is not None

    def first(self, choice: int, echo: Echo | None) -> bytes:
        """The prompt, if echo is set."""
        if echo is None:
            return self.end
        return self._text(choice, echo.text, echo.pieces, echo.logprobs)

    def more(self, delta: Delta) -> bytes:
        """Chunk with text."""
        return self._text(delta.choice, delta.text, delta.pieces, delta.logprobs)

    def _text(self, choice: int, text: str, pieces: Sequence[bytes], logprobs: Sequence[float | None]) -> bytes:
        shown = None if self._tokens is None else self._tokens[choice].feed(pieces, logprobs)
        return b'"text":%b,"logprobs":%b' % (event_json(text), event_json(shown))


class AnswerStream(Stream):
    """Encoder of one run's stream."""

    def __init__(self, run: PredictionEvents, body: SharedRequest, words: Words) -> None:
        """Precompute the parts that all chunks share."""
        shared = {
            "id": answer_id(words.id_prefix, run),
            "object": words.object,
            "created": created_s(run),
            "model": body.model,
        }
        self._head = b"data: " + event_json(shared)[:-1] + b',"choices":[{"index":'
        self._words = words
        self._price = run.price
        options = body.stream_options
        self._include_usage = options is None or options.include_usage is not False
        self._continuous_usage = self._include_usage and options is not None and options.continuous_usage_stats is True
        self._prompt_tokens = 0
        self._completion_tokens = [0] * (body.n or 1)
        self._running = len(self._completion_tokens)
        self._last_end = b""

    def feed(self, event: GenerationEvent) -> Iterator[bytes]:
        """Encode one event of the run."""
        match event:
            case Queued():
                yield queue_comment(event)
            case Started():
                self._prompt_tokens = event.prompt_tokens
                for choice in range(self._running):
                    yield self._chunk(choice, self._words.first(choice, event.echo)) + self._usage_so_far()
            case Delta():
                self._completion_tokens[event.choice] = event.completion_tokens
                if event.text or self._words.shows_tokens:
                    yield self._chunk(event.choice, self._words.more(event)) + self._usage_so_far()
            case ChoiceEnded():
                self._running -= 1
                end = self._chunk(event.choice, self._words.end, event.reason)
                if self._running:
                    yield end + self._usage_so_far()
                else:
                    self._last_end = end  # the usage goes with it, and is known in a moment
            case Finished():
                yield self._last_end + (self._usage(event.usage) if self._include_usage else b"}\n\n")
                yield DONE

    def fail(self, problem: Problem) -> bytes:
        """Encode an error after the first byte. No ``[DONE]`` follows, so clients cannot take the answer for
        complete.
        """
        return encode(event_json(problem.body))

    def _chunk(self, choice: int, middle: bytes, reason: FinishReason | None = None) -> bytes:
        """Encode a chunk without usage and closing bracket."""
        finish = b"null" if reason is None else b'"%b"' % reason.value.encode()
        return b'%b%d,%b,"finish_reason":%b}]' % (self._head, choice, middle, finish)

    def _usage_so_far(self) -> bytes:
        if not self._include_usage:
            return b"}\n\n"
        if not self._continuous_usage:
            return b',"usage":null}\n\n'
        completion_tokens = sum(self._completion_tokens)
        return self._usage(Usage(prompt_tokens=self._prompt_tokens, completion_tokens=completion_tokens))

    def _usage(self, usage: Usage) -> bytes:
        return b',"usage":' + event_json(from_usage(usage, self._price)) + b"}\n\n"
