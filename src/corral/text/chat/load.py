"""Load what encodes the prompts of a checkpoint: its tokenizer, its chat format, and the tokens that end an answer."""

from dataclasses import dataclass
from pathlib import Path

from corral.checkpoints.source import open_source
from corral.text.chat.encoder import PromptEncoder
from corral.text.chat.recognition import recognise
from corral.text.served_tokenizer import load_served_tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedPrompts:
    """A prompt encoder, and what operators should know of the files that it was made from."""

    prompts: PromptEncoder
    warnings: tuple[str, ...]
    """Sentences: files that disagree, a chat template that may differ from the chat format."""


def load_prompts(checkpoint: Path, *, chat_format: str = "", suggested: str = "") -> LoadedPrompts:
    """Load the prompt encoder of a checkpoint.

    Args:
        checkpoint: a directory or a GGUF file.
        chat_format: the operator's choice; empty recognises it.
        suggested: chat format of the known model that the checkpoint is by the operator's word; empty if there is none.

    Raises:
        CheckpointRefused: there is no supported tokenizer, or it does not belong to the model.
        BadSetting: there is no format *chat_format*, or the vocabulary cannot have it.
    """
    loaded = load_served_tokenizer(checkpoint)
    chat = recognise(
        open_source(checkpoint).chat_template(),
        loaded.tokenizer,
        setting=chat_format or None,
        suggested=suggested or None,
    )
    return LoadedPrompts(
        prompts=PromptEncoder(loaded.tokenizer, chat, config_ends=loaded.end_ids),
        warnings=(*loaded.warnings, *([] if chat.warning is None else [chat.warning])),
    )
