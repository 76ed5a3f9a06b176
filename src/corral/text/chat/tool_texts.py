"""Write tools, calls and results as text, in a convention of ``tool_format``."""

import hashlib
import json
import re
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from corral.core.generation import Message
from corral.core.tools import Tool, ToolCall
from corral.text.chat.tool_format import TOOLS, ToolFormat

_SHORT_ID: Final = re.compile(r"[0-9A-Za-z]{9}\Z")
_SHORT_ID_CHARS: Final = 9
_ALPHANUMERICS: Final = string.digits + string.ascii_letters


class ToolTexts:
    """Writes in one convention. Every text of a caller is neutralised: it has no markers afterwards."""

    def __init__(self, tool_format: ToolFormat, neutralise: Callable[[str], str]) -> None:
        """*neutralise* inserts spaces in the markers of a text."""
        self._format = tool_format
        self._neutralise = neutralise

    def listing(self, tools: Iterable[Tool]) -> str:
        """List tools."""
        listing = self._format.listing
        texts = [
            self._neutralise(json.dumps(_shown(tool), ensure_ascii=False, indent=listing.indent)) for tool in tools
        ]
        return listing.text.replace(TOOLS, listing.separator.join(texts))

    def answer(self, message: Message) -> str:
        """Content and calls of an assistant message."""
        content = self._neutralise(message.content)
        if not message.tool_calls:
            return content
        calls = self._format.calls
        objects = [self._call(call) for call in message.tool_calls]
        written = calls.begin + calls.open + (calls.between or "; ").join(objects) + calls.close
        return content + calls.after_content + written if content else written

    def result(self, message: Message) -> str:
        """Result of a call, without its affixes."""
        match self._format.results.form:
            case "text":
                text = message.content
            case "string":
                text = json.dumps(message.content, ensure_ascii=False)
            case "object":
                called = {"content": _value(message.content), "call_id": _short_id(message.tool_call_id or "")}
                text = json.dumps(called, ensure_ascii=False)
        return self._neutralise(text)

    def results(self, messages: Sequence[Message]) -> str:
        """Results that follow each other, as the content of one user turn."""
        results = self._format.results
        return results.between.join(results.prefix + self.result(message) + results.suffix for message in messages)

    def _call(self, call: ToolCall) -> str:
        calls = self._format.calls
        name, arguments = json.dumps(call.name, ensure_ascii=False), _arguments(call.arguments)
        call_id = f', "id": "{_short_id(call.id)}"' if calls.has_ids else ""
        return self._neutralise(f'{{"name": {name}, "{calls.arguments}": {arguments}{call_id}}}')


def _shown(tool: Tool) -> Mapping[str, object]:
    description = {} if tool.description is None else {"description": tool.description}
    return {
        "type": "function",
        "function": {"name": tool.name, **description, "parameters": json.loads(tool.parameters)},
    }


def _arguments(written: str) -> str:
    """Arguments as the model wrote them; as a JSON string if they are not the text of an object."""
    return written if isinstance(_value(written), dict) else json.dumps(written, ensure_ascii=False)


def _value(written: str) -> object:
    """What *written* means as JSON; itself if it is no JSON, or has values that JSON cannot write."""
    try:
        value: object = json.loads(written)
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        return written
    return value


def _short_id(call_id: str) -> str:
    """The id if it is nine letters and digits, else as many derived from it."""
    if _SHORT_ID.match(call_id):
        return call_id
    digest = hashlib.blake2b(call_id.encode(errors="surrogatepass"), digest_size=_SHORT_ID_CHARS).digest()
    return "".join(_ALPHANUMERICS[byte % len(_ALPHANUMERICS)] for byte in digest)
