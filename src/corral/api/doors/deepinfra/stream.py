"""Stream a run as one server-sent event per token, in the format of text-generation-inference of 2023.

Every event holds a token; the last one also the whole text and how it ended. A token's text comes with the token that
completes its last character. What would be held back for a possible stop string elsewhere is shown at once, since a
stop string stays part of a native text. No key is called ``error``: a client looks for the word anywhere.
"""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from corral.api.answer_ids import request_id
from corral.api.dependencies import NativeOptions
from corral.api.doors.deepinfra.answers import cost_nusd, dollars
from corral.api.doors.deepinfra.wire_answers import StreamDetails, StreamToken
from corral.api.problems import Problem
from corral.api.sse import Stream, encode, event_json
from corral.core.generation import (
    ChoiceEnded,
    Delta,
    Finished,
    FinishReason,
    GenerationEvent,
    GenerationRequest,
    Queued,
    Started,
    Usage,
)
from corral.service.ports import PredictionEvents

DONE: Final = b"data: [DONE]\n\n"
EOS_TEXT: Final = "</s>"
FinishWord = Literal["length", "eos_token", "stop_sequence"]
_LEAST: Final = -9999.0
"""Replaces minus infinity, which JSON has no number for."""
_NOTHING: Final = b',"generated_text":null,"details":null}\n\n'


@dataclass(frozen=True, slots=True)
class _Token:
    id: int
    logprob: float
    special: bool
    """Control tokens have no text."""
    text: str


class TokenStream(Stream):
    """Encoder of one run's stream."""

    def __init__(self, run: PredictionEvents, request: GenerationRequest, *, before: str, terms: NativeOptions) -> None:
        """Prepare.

        Args:
            run: whose stream it is.
            request: what it was asked for.
            before: what the whole text begins with; the tokens do not repeat it.
            terms: what the operator chose for native streams.
        """
        self._run = run
        self._before = before
        self._greedy = request.sampling.greedy
        self._limit = request.stopping.max_tokens
        self._stops = request.stopping.stop
        self._longest_stop = max(map(len, self._stops), default=0)
        self._terms = terms
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._shown = ""
        self._text = ""
        self._held: _Token | None = None
        """Newest token, held back because it may be the last."""
        self._tokens = 0
        self._seed = 0
        self._end: ChoiceEnded | None = None

    def feed(self, event: GenerationEvent) -> Iterator[bytes]:
        """Encode one event of the run."""
        match event:
            case Queued():
                pass
            case Started():
                self._seed = event.seed
            case Delta():
                self._text += event.text
                for token_id, logprob, piece in zip(event.ids, event.logprobs, event.pieces, strict=True):
                    yield from self._release()
                    text = self._decoder.decode(piece)
                    self._held = _Token(token_id, logprob, not piece, text)
                    self._tokens += 1
            case ChoiceEnded():
                self._text += event.stop or ""
                self._end = event
            case Finished():
                yield self._last(event.usage)
                if self._terms.stream_done:
                    yield DONE

    def pause(self) -> Iterator[bytes]:
        """Flush the held token, unless it may be the last: the last event also carries the whole text."""
        if self._held is not None and self._end is None and not self._may_end_with(self._held):
            yield from self._release()

    def _may_end_with(self, token: _Token) -> bool:
        if token.special or not token.text or self._tokens == self._limit:
            return True
        near = self._shown[-self._longest_stop :] + token.text if self._stops else ""
        return any(stop in near for stop in self._stops)

    def _release(self) -> Iterator[bytes]:
        token, self._held = self._held, None
        if token is not None:
            self._shown += token.text
            yield _head(_shown(token, token.text)) + _NOTHING

    def fail(self, problem: Problem) -> bytes:
        """Encode an error after the first byte."""
        return encode(event_json({"error_type": "generation_error", "error_message": str(problem.body["error"])}))

    def _last(self, usage: Usage) -> bytes:
        reason = _reason(self._end)
        token = self._held
        if token is None:  # the end came later than a token that did not look like the last: it is an event of its own
            shown: StreamToken = {"id": 0, "text": "", "logprob": 0.0, "special": True}
        elif token.special:
            shown = _shown(token, EOS_TEXT if reason == "eos_token" and self._terms.stream_eos_text else "")
        else:
            shown = _shown(token, self._text[len(self._shown) :])
        details: StreamDetails = {
            "finish_reason": reason,
            "generated_tokens": usage.completion_tokens,
            "input_tokens": usage.prompt_tokens,
            "seed": None if self._greedy else self._seed,
        }
        rest = {
            "generated_text": self._before + self._text,
            "details": details,
            "request_id": request_id(self._run.id),
            "num_output_tokens": usage.completion_tokens,
            "num_input_tokens": usage.prompt_tokens,
            "estimated_cost": dollars(cost_nusd(usage, self._run.price)),
        }
        return _head(shown) + b"," + event_json(rest)[1:] + b"\n\n"


def _head(token: StreamToken) -> bytes:
    return b'data: {"token":' + event_json(token)


def _shown(token: _Token, text: str) -> StreamToken:
    return {"id": token.id, "text": text, "logprob": max(token.logprob, _LEAST), "special": token.special}


def _reason(end: ChoiceEnded | None) -> FinishWord:
    if end is None or end.reason is FinishReason.LENGTH:
        return "length"
    return "eos_token" if end.stop is None else "stop_sequence"
