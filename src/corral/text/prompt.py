r"""Llama-2 prompts as token ids. Must not know of sampling, engines or HTTP.

Meta's reference format, each turn encoded on its own so that no text crosses a turn's border::

    <s> "[INST] user [/INST] answer " </s>  <s> "[INST] user [/INST]"

A system message stands inside the first user turn: ``<<SYS>>\n…\n<</SYS>>\n\n``. No template is ever taken from a
checkpoint.

The markers are plain text to Llama 2's tokenizer, unlike BOS and EOS. So a marker in a message is spelled with spaces,
``[ INST ]``, which reads the same and is encoded as other ids.
"""

import re
from collections.abc import Sequence
from itertools import groupby
from typing import Final

from corral.core.errors import InvalidRequest
from corral.core.generation import Message, Role
from corral.core.markers import spell_markers
from corral.text.tokenizer import Tokenizer

CHAT_FORMAT: Final = "llama-2"
"""Name of the format that ``chat_ids`` builds, as stored with each prediction."""
_BOS, _EOS = "<s>", "</s>"
_CONTROL_TOKEN = re.compile("(</?s>)")


def chat_ids(messages: Sequence[Message], tokenizer: Tokenizer) -> list[int]:
    """Ids of a conversation, ready for the model to answer.

    System messages from any position are joined by a blank line and folded into the first user turn; so are
    neighbours of one role into one turn. A conversation that begins with the assistant gets an empty user turn first. A
    final assistant message is left open, to be continued. Markers in messages are spelled with spaces.

    Raises:
        InvalidRequest: there is no message, or one is not valid Unicode.
    """
    if not messages:
        raise InvalidRequest("messages must not be empty.", param="messages")
    *closed, last = _turns(messages)
    ids: list[int] = []
    for user, answer in closed:
        text = f"[INST] {user.strip()} [/INST] {answer.strip()} "
        ids += [tokenizer.bos_token_id, *_encode(text, tokenizer, param="messages"), tokenizer.eos_token_id]
    user, answer = last
    # A trailing space would be a piece of its own, after which the model has never seen a word begin.
    text = f"[INST] {user.strip()} [/INST] {answer.lstrip()}".rstrip(" ")
    return [*ids, tokenizer.bos_token_id, *_encode(text, tokenizer, param="messages")]


def raw_ids(text: str, tokenizer: Tokenizer) -> list[int]:
    """Ids of a prompt written by hand: ``<s>`` and ``</s>`` are control tokens, and exactly one BOS leads.

    Text between control tokens is encoded piece by piece, so a hand-written Llama-2 chat gives the ids of ``chat_ids``.

    Raises:
        InvalidRequest: *text* is not valid Unicode.
    """
    control = {_BOS: tokenizer.bos_token_id, _EOS: tokenizer.eos_token_id}
    ids: list[int] = []
    for part in _CONTROL_TOKEN.split(text):
        ids += [control[part]] if part in control else _encode(part, tokenizer, param="prompt")
    leading = next((index for index, token_id in enumerate(ids) if token_id != tokenizer.bos_token_id), len(ids))
    return [tokenizer.bos_token_id, *ids[leading:]]


def written_pieces(ids: Sequence[int], tokenizer: Tokenizer, *, text: str | None = None) -> list[bytes]:
    """Bytes of each token of a prompt as its author wrote them; together they are the whole prompt.

    BOS and EOS are spelled out, and each text has lost the space that the tokenizer puts in front.

    Args:
        ids: of the prompt.
        tokenizer: that made them.
        text: what ``raw_ids`` got; None for a prompt that came as token ids. The first BOS then stands for all that
            lead the text, or for none.
    """
    control = {tokenizer.bos_token_id: b"<s>", tokenizer.eos_token_id: b"</s>"}
    pieces: list[bytes] = []
    text_begins = True
    for token_id in ids:
        piece = control.get(token_id)
        if piece is None:
            piece = tokenizer.piece_bytes(token_id)
            piece = piece.removeprefix(b" ") if text_begins else piece
        pieces.append(piece)
        text_begins = token_id in control
    if text is not None:
        leading = 0
        while text.startswith("<s>", 3 * leading):
            leading += 1
        pieces[0] = b"<s>" * leading
    return pieces


def least_chat_tokens(messages: Sequence[Message], tokenizer: Tokenizer) -> int:
    """Fewest tokens that ``chat_ids`` can give, from the length of the messages alone."""
    chars = len(_system(messages)) + sum(len(text.strip()) for _, text in _merged(messages))
    return -(-chars // tokenizer.longest_piece_chars)


def least_raw_tokens(text: str, tokenizer: Tokenizer) -> int:
    """Fewest tokens that ``raw_ids`` can give, from the length of *text* alone."""
    at = 0
    while text.startswith(_BOS, at):  # all of them together become one token
        at += len(_BOS)
    return -(-(len(text) - at) // max(tokenizer.longest_piece_chars, len(_EOS)))


def _turns(messages: Sequence[Message]) -> list[tuple[str, str]]:
    """Pairs of user text and answer; only the last answer may be missing, and then is empty."""
    merged, system = _merged(messages), _system(messages)
    if not merged or merged[0][0] is Role.ASSISTANT:
        merged.insert(0, (Role.USER, ""))
    texts = [spell_markers(text) for _, text in merged]
    if any(message.role is Role.SYSTEM for message in messages):
        texts[0] = f"<<SYS>>\n{spell_markers(system)}\n<</SYS>>\n\n{texts[0]}"
    if len(texts) % 2:
        texts.append("")
    return list(zip(texts[::2], texts[1::2], strict=True))


def _merged(messages: Sequence[Message]) -> list[tuple[Role, str]]:
    """What users and the assistant say, neighbours of one role joined."""
    spoken = [message for message in messages if message.role is not Role.SYSTEM]
    runs = groupby(spoken, key=lambda message: message.role)
    return [(role, "\n\n".join(message.content for message in run)) for role, run in runs]


def _system(messages: Sequence[Message]) -> str:
    """What all system messages say; empty without one."""
    return "\n\n".join(message.content for message in messages if message.role is Role.SYSTEM)


def _encode(text: str, tokenizer: Tokenizer, *, param: str) -> list[int]:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"{param} must be valid Unicode, without lone surrogates.", param=param) from error
    return tokenizer.encode(text)
