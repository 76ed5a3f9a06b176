"""One choice of a run: decode tokens to text, match stop strings, count."""

from collections.abc import Iterable
from dataclasses import dataclass

from corral.core.generation import ChoiceEnded, Delta, FinishReason, GenerationEvent, Stopping
from corral.core.prediction import StoppedBy
from corral.engines.base import EndReason, TokenBatch
from corral.text.decode import IncrementalDecoder
from corral.text.stop import StopFilter
from corral.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """Finish reason of a choice, and the stop string that was matched."""

    reason: FinishReason
    stopped_by: StoppedBy
    stop: str | None
    """The matched stop string; None if none was."""


class Answer:
    """Output of one choice. Each token gives exactly one Delta, so that a reader can resume after any of them."""

    def __init__(self, tokenizer: Tokenizer, *, choice: int, stopping: Stopping, pieces: bool) -> None:
        self.ids: list[int] = []
        """Tokens that are billed: those up to a stop string."""
        self.texts: list[str] = []
        """Visible text of each token."""
        self.ending: Ending | None = None
        self._tokenizer = tokenizer
        self._choice = choice
        self._pieces = pieces
        self._decoder = IncrementalDecoder(tokenizer)
        self._stops = StopFilter(stopping.stop, hidden_lead=stopping.hidden_lead) if stopping.stop else None

    def feed(self, batch: TokenBatch) -> list[Delta]:
        """Add tokens of the engine. Sets ``ending`` at the end of the choice; later tokens are ignored."""
        deltas: list[Delta] = []
        for index, (token_id, logprob) in enumerate(zip(batch.ids, batch.logprobs, strict=True)):
            last = index == len(batch.ids) - 1
            deltas.append(self._delta(token_id, logprob, end=batch.end if last else None))
            if self.ending is not None:
                break
        if batch.end is not None and not batch.ids:
            self.ending = _ending(batch.end)
        return deltas

    def replay(self, events: Iterable[GenerationEvent]) -> None:
        """Restore the state after these stored events of the run."""
        for event in events:
            match event:
                case Delta() if event.choice == self._choice:
                    self.ids.extend(event.ids)
                    self.texts.append(event.text)
                    self._show(self._decoder.feed(event.ids))
                case ChoiceEnded() if event.choice == self._choice:
                    stopped_by = StoppedBy.LIMIT if event.reason is FinishReason.LENGTH else StoppedBy.MODEL
                    stopped_by = stopped_by if event.stop is None else StoppedBy.STOP_STRING
                    self.ending = Ending(reason=event.reason, stopped_by=stopped_by, stop=event.stop)
                case _:
                    pass

    def _delta(self, token_id: int, logprob: float, *, end: EndReason | None) -> Delta:
        self.ids.append(token_id)
        text, matched = self._show(self._decoder.feed((token_id,)))
        if end is not None and matched is None:
            last, matched = self._show(self._decoder.flush())
            text += last + ("" if self._stops is None else self._stops.flush())
        if matched is not None:
            self.ending = Ending(reason=FinishReason.STOP, stopped_by=StoppedBy.STOP_STRING, stop=matched)
        elif end is not None:
            self.ending = _ending(end)
        self.texts.append(text)
        return Delta(
            choice=self._choice,
            text=text,
            ids=(token_id,),
            logprobs=(logprob,),
            pieces=(self._tokenizer.piece_bytes(token_id),) if self._pieces else (),
            completion_tokens=len(self.ids),
        )

    def _show(self, text: str) -> tuple[str, str | None]:
        """Return the text that may be shown after *text*, and the stop string that it completes."""
        if self._stops is None:
            return text, None
        shown = self._stops.feed(text)
        return shown.text, shown.matched


def _ending(end: EndReason) -> Ending:
    match end:
        case EndReason.EOS:
            return Ending(reason=FinishReason.STOP, stopped_by=StoppedBy.MODEL, stop=None)
        case EndReason.LENGTH:
            return Ending(reason=FinishReason.LENGTH, stopped_by=StoppedBy.LIMIT, stop=None)
