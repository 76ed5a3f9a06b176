"""Facts about prompts and answers: tokenizer, chat format, a rendered example, end tokens."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from corral.checkpoints.config import Config
from corral.checkpoints.end_tokens import end_token_ids
from corral.checkpoints.source import CheckpointSource, open_source
from corral.core.generation import Message, Role
from corral.inspection.findings import Findings
from corral.inspection.report import ChatFacts, EndToken, Example, TokenizerFacts
from corral.text.byte_level_tokenizer import ByteLevelTokenizer
from corral.text.chat.encoder import PromptEncoder
from corral.text.chat.recognition import Recognised, recognise
from corral.text.hf_tokenizer import HfTokenizer
from corral.text.load import LoadedTokenizer, load_with_warnings
from corral.text.sentencepiece_tokenizer import SentencePieceTokenizer
from corral.text.served_tokenizer import check_ends, check_rows

_QUESTION: Final = Message(role=Role.USER, content="What is the capital of France?")
_KINDS: Final[Mapping[type, str]] = {
    SentencePieceTokenizer: "SentencePiece",
    HfTokenizer: "BPE with byte fallback",
    ByteLevelTokenizer: "byte-level BPE",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptFacts:
    """What is known of prompts and answers."""

    tokenizer: TokenizerFacts | None = None
    end_tokens: tuple[EndToken, ...] = ()
    chat: ChatFacts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptReading:
    """Reads how a checkpoint is prompted, and where its answers end."""

    path: Path
    chat_format: str
    """The operator's choice; empty recognises it."""
    suggested: str
    """Chat format of the known model that the checkpoint is; empty if it is none."""

    def describe(self, config: Config | None, findings: Findings) -> PromptFacts:
        """Describe prompts and answers.

        Args:
            config: the checkpoint's configuration; None if it is refused.
            findings: gets refusals and warnings.
        """
        source = open_source(self.path)
        if config is None and not source.vocabulary_files():
            return PromptFacts()
        loaded = findings.attempt(lambda: load_with_warnings(self.path))
        ends: Mapping[int, str] = {}
        if config is not None:
            ends = findings.attempt(lambda: end_token_ids(config, source.read_generation_config())) or {}
        if loaded is None:
            return PromptFacts()
        _check(loaded, config, ends, findings)
        chat = findings.attempt(lambda: self._recognise(source, loaded))
        if chat is not None and chat.warning is not None:
            findings.warn(chat.warning)
        prompts = PromptEncoder(loaded.tokenizer, chat or Recognised(format=None, evidence=""), config_ends=ends)
        return PromptFacts(
            tokenizer=_tokenizer_facts(loaded),
            end_tokens=tuple(_end_tokens(prompts, loaded.file, ends)),
            chat=None if chat is None else _chat_facts(chat, prompts),
        )

    def _recognise(self, source: CheckpointSource, loaded: LoadedTokenizer) -> Recognised:
        return recognise(
            source.chat_template(),
            loaded.tokenizer,
            setting=self.chat_format or None,
            suggested=self.suggested or None,
        )


def _check(loaded: LoadedTokenizer, config: Config | None, ends: Mapping[int, str], findings: Findings) -> None:
    findings.warn(*loaded.warnings)
    if config is not None:
        findings.attempt(lambda: check_rows(loaded.tokenizer, loaded.file, config))
    findings.attempt(lambda: check_ends(loaded.tokenizer, loaded.file, ends))


def _tokenizer_facts(loaded: LoadedTokenizer) -> TokenizerFacts:
    tokenizer = loaded.tokenizer
    texts = {token_id: text for text, token_id in tokenizer.control_ids.items()}
    return TokenizerFacts(
        file=loaded.file,
        kind=_KINDS[type(tokenizer)],
        vocab_size=tokenizer.vocab_size,
        bos=None if tokenizer.bos_token_id is None else texts[tokenizer.bos_token_id],
    )


def _chat_facts(chat: Recognised, prompts: PromptEncoder) -> ChatFacts:
    if chat.format is None:
        return ChatFacts(format=None, evidence=chat.evidence, example=None)
    ids = prompts.chat_ids([_QUESTION])
    text = b"".join(prompts.written_pieces(ids)).decode(errors="replace")
    return ChatFacts(format=chat.format.name, evidence=chat.evidence, example=Example(text=text, ids=tuple(ids)))


def _end_tokens(prompts: PromptEncoder, file: str, config_ends: Mapping[int, str]) -> Iterator[EndToken]:
    """List the tokens that end an answer, each with everything that says so."""
    tokenizer, chat_format = prompts.tokenizer, prompts.chat.format
    format_ends = () if chat_format is None else chat_format.end
    texts = {token_id: text for text, token_id in tokenizer.control_ids.items()}
    for token_id in sorted(prompts.end_ids):
        text = texts.get(token_id, "")
        sources = [config_ends[token_id]] if token_id in config_ends else []
        sources += [file] if token_id in tokenizer.end_ids and file not in sources else []
        sources += ["the chat format"] if text in format_ends else []
        shown = text or tokenizer.piece_bytes(token_id).decode(errors="replace")
        yield EndToken(token_id=token_id, text=shown, sources=tuple(sources))
