"""Encode chats and raw prompts for one deployment."""

from collections.abc import Collection, Sequence
from typing import Final

from corral.core.errors import Unsupported
from corral.core.generation import Message
from corral.core.tools import Tool
from corral.text.chat.control_tokens import ControlTokens
from corral.text.chat.recognition import Recognised, fitting_formats
from corral.text.chat.render import ChatRenderer
from corral.text.chat.runs import ControlToken, Run, encode_runs, least_tokens
from corral.text.chat.tool_format import ToolFormat
from corral.text.tokenizer import Tokenizer


class PromptEncoder:
    """Encodes the prompts of a deployment, with its tokenizer and chat format.

    A prompt is first rendered to runs of text and control tokens, from which a lower bound of its tokens can be told
    before it is encoded: encoding takes seconds for megabytes.
    """

    def __init__(self, tokenizer: Tokenizer, chat: Recognised, *, config_ends: Collection[int] = ()) -> None:
        """Prepare the encoder.

        Args:
            tokenizer: the deployment's.
            chat: its chat format, which fits the vocabulary.
            config_ends: tokens that end an answer by the checkpoint's configuration.
        """
        self.tokenizer: Final = tokenizer
        self.chat: Final = chat
        self._control = ControlTokens(tokenizer.control_ids)
        self._renderer = (
            None
            if chat.format is None
            else ChatRenderer(chat.format, default_system=chat.default_system, vocabulary=tokenizer.control_ids)
        )
        ends = () if chat.format is None else chat.format.end
        self._config_ends = frozenset(config_ends)
        self._format_ends = [tokenizer.control_ids[token] for token in ends if token in tokenizer.control_ids]

    @property
    def format_name(self) -> str | None:
        """Name of the chat format; None if chats are refused."""
        return None if self.chat.format is None else self.chat.format.name

    @property
    def end_ids(self) -> frozenset[int]:
        """Tokens that end an answer: those of the chat format, the vocabulary and the configuration."""
        return self.tokenizer.end_ids.union(self._format_ends, self._config_ends)

    @property
    def bos_text(self) -> str:
        """Text of the token at the start of each prompt; empty if there is none."""
        bos = self.tokenizer.bos_token_id
        return "" if bos is None else self.control_text(bos)

    @property
    def eos_text(self) -> str:
        """Text of the token that usually ends an answer; empty if there is none."""
        ends = self._format_ends or sorted(self.tokenizer.end_ids)
        return self.control_text(ends[0]) if ends else ""

    def control_text(self, token_id: int) -> str:
        """Get the text that raw prompts write for a control token; empty for other tokens."""
        return self._control.texts.get(token_id, "")

    @property
    def tool_format(self) -> ToolFormat | None:
        """Convention for tools; None if chats are refused."""
        return None if self._renderer is None else self._renderer.tool_format

    @property
    def tool_tokens(self) -> dict[int, str]:
        """Control tokens of the convention for tools, which readers of an answer need to see as text."""
        tokens = () if self._renderer is None else self._renderer.tool_tokens
        return {self.tokenizer.control_ids[token]: token for token in tokens}

    def chat_runs(
        self, messages: Sequence[Message], tools: Sequence[Tool] = (), *, requires_call: bool = False
    ) -> list[Run]:
        """Render a conversation for the model to answer; see ``ChatRenderer.render``.

        Raises:
            Unsupported: the deployment has no chat format.
            InvalidRequest: there is no message.
        """
        if self._renderer is None:
            raise Unsupported(
                "The chat format of this model is not known, so it answers raw prompts only. Its operator can set "
                f"chat_format to one of {', '.join(fitting_formats(self.tokenizer))}.",
                param="messages",
            )
        return self._renderer.render(messages, tools, requires_call=requires_call)

    def raw_runs(self, text: str) -> list[Run]:
        """Split a raw prompt at the control tokens that it writes, such as ``</s>``; one BOS counts at its start."""
        runs = self._control.split(text)
        bos = ControlToken(self.bos_text)
        leading = next((index for index, run in enumerate(runs) if run != bos), len(runs))
        return runs[max(leading - 1, 0) :]

    def least_tokens(self, runs: Sequence[Run]) -> int:
        """Compute a lower bound of the tokens of a prompt."""
        return least_tokens(runs, self.tokenizer)

    def encode(self, runs: Sequence[Run], *, param: str) -> list[int]:
        """Encode a prompt of ``chat_runs`` or ``raw_runs``; exactly one BOS leads if the vocabulary wants one.

        Raises:
            InvalidRequest: a text is not valid Unicode, or there is no token at all. *param* names the field.
        """
        return encode_runs(runs, self.tokenizer, param=param)

    def chat_ids(self, messages: Sequence[Message]) -> list[int]:
        """Render and encode a conversation; see ``chat_runs`` and ``encode``."""
        return self.encode(self.chat_runs(messages), param="messages")

    def raw_ids(self, text: str) -> list[int]:
        """Split and encode a raw prompt; see ``raw_runs`` and ``encode``."""
        return self.encode(self.raw_runs(text), param="prompt")

    def written_pieces(self, ids: Sequence[int], *, text: str | None = None) -> list[bytes]:
        """Get the bytes of each token of a prompt; joined, they equal the prompt as written.

        Control tokens are written as their texts; the space that the tokenizer adds before each text is removed.

        Args:
            ids: token ids of the prompt.
            text: the argument of ``raw_ids``; None for a prompt of token ids. With *text*, the first BOS represents all
                that are written at its start, which may be none.
        """
        pieces: list[bytes] = []
        text_begins = self.tokenizer.adds_space
        for token_id in ids:
            if written := self.control_text(token_id):
                pieces.append(written.encode())
            else:
                piece = self.tokenizer.piece_bytes(token_id)
                pieces.append(piece.removeprefix(b" ") if text_begins else piece)
            text_begins = self.tokenizer.adds_space and bool(written)
        bos = self.bos_text
        if text is not None and bos:
            leading = 0
            while text.startswith(bos, len(bos) * leading):
                leading += 1
            pieces[0] = bos.encode() * leading
        return pieces
