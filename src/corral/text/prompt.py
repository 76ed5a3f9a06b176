r"""Encode Llama 2 chat prompts and raw prompts as token ids.

The chat format is Meta's reference format. Each turn is encoded separately, so that no token spans two turns::

    <s> "[INST] user [/INST] answer " </s>  <s> "[INST] user [/INST]"

A system message is put in the first user turn: ``<<SYS>>\n…\n<</SYS>>\n\n``. Chat templates of checkpoints are never
executed.

Unlike BOS and EOS, the markers are plain text for Llama 2's tokenizer. A marker in a message is therefore written with
spaces, ``[ INST ]``, which encodes to other ids.
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
    """Encode a conversation for the model to answer.

    System messages from any position are joined by a blank line and put in the first user turn. Consecutive messages of
    one role are joined to one turn. A conversation that starts with the assistant gets an empty user turn first. A
    final assistant message is left open, to be continued. Markers in messages are neutralised with spaces.

    Raises:
        InvalidRequest: there is no message, or one is not valid Unicode.
    """
    if not messages:
        raise InvalidRequest("messages must not be empty.", param="messages")
    *closed, last = _turns(messages)
    ids: list[int] = []
    for user, answer in closed:
        text = f"[INST] {user.strip()} [/INST] {answer.strip()} "
        ids += [tokenizer.control_ids[_BOS], *_encode(text, tokenizer, param="messages"), tokenizer.control_ids[_EOS]]
    user, answer = last
    # A trailing space would be a separate token, which never precedes a word in the training data.
    text = f"[INST] {user.strip()} [/INST] {answer.lstrip()}".rstrip(" ")
    return [*ids, tokenizer.control_ids[_BOS], *_encode(text, tokenizer, param="messages")]


def raw_ids(text: str, tokenizer: Tokenizer) -> list[int]:
    """Encode a raw prompt: ``<s>`` and ``</s>`` are control tokens, and exactly one BOS is at the start.

    Text between control tokens is encoded separately, so a Llama 2 chat written as a raw prompt gives the ids of
    ``chat_ids``.

    Raises:
        InvalidRequest: *text* is not valid Unicode.
    """
    control = {_BOS: tokenizer.control_ids[_BOS], _EOS: tokenizer.control_ids[_EOS]}
    ids: list[int] = []
    for part in _CONTROL_TOKEN.split(text):
        ids += [control[part]] if part in control else _encode(part, tokenizer, param="prompt")
    leading = next((index for index, token_id in enumerate(ids) if token_id != tokenizer.control_ids[_BOS]), len(ids))
    return [tokenizer.control_ids[_BOS], *ids[leading:]]


def written_pieces(ids: Sequence[int], tokenizer: Tokenizer, *, text: str | None = None) -> list[bytes]:
    """Get the bytes of each token of a prompt; joined, they equal the prompt as written.

    BOS and EOS are written as ``<s>`` and ``</s>``; the space that the tokenizer adds before each text is removed.

    Args:
        ids: token ids of the prompt.
        tokenizer: the tokenizer that encoded them.
        text: the argument of ``raw_ids``; None for a prompt of token ids. With *text*, the first BOS represents all
            ``<s>`` at its start, which may be none.
    """
    control = {tokenizer.control_ids[_BOS]: b"<s>", tokenizer.control_ids[_EOS]: b"</s>"}
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
    """Compute a lower bound of the tokens of ``chat_ids`` from the length of the messages."""
    chars = len(_system(messages)) + sum(len(text.strip()) for _, text in _merged(messages))
    return -(-chars // tokenizer.longest_piece_chars)


def least_raw_tokens(text: str, tokenizer: Tokenizer) -> int:
    """Compute a lower bound of the tokens of ``raw_ids`` from the length of *text*."""
    at = 0
    while text.startswith(_BOS, at):  # all of them become one token
        at += len(_BOS)
    return -(-(len(text) - at) // max(tokenizer.longest_piece_chars, len(_EOS)))


def _turns(messages: Sequence[Message]) -> list[tuple[str, str]]:
    """Build pairs of user text and answer; a missing last answer is empty."""
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
    """Join consecutive user or assistant messages of one role."""
    spoken = [message for message in messages if message.role is not Role.SYSTEM]
    runs = groupby(spoken, key=lambda message: message.role)
    return [(role, "\n\n".join(message.content for message in run)) for role, run in runs]


def _system(messages: Sequence[Message]) -> str:
    """Join all system messages; empty if there is none."""
    return "\n\n".join(message.content for message in messages if message.role is Role.SYSTEM)


def _encode(text: str, tokenizer: Tokenizer, *, param: str) -> list[int]:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"{param} must be valid Unicode, without lone surrogates.", param=param) from error
    return tokenizer.encode(text)
