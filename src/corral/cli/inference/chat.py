"""``corral chat``: a streaming conversation in the terminal. Must not know of HTTP, tokens or engines."""

import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from importlib import import_module
from typing import Annotated

import typer

from corral.cli.client.channel import OpenServer
from corral.cli.client.connection import RequestFailed
from corral.cli.client.http import AnswerOptions, Client, ServedModel
from corral.cli.terminal.amounts import finite
from corral.cli.terminal.completion import model_completion
from corral.cli.terminal.options import Url
from corral.cli.terminal.screen import accept_any_text, notice, show, shown_to_the_line_end
from corral.cli.terminal.streams import read_standard_input
from corral.core.errors import CorralError
from corral.core.generation import Message, Role

_MAX_PIPED_BYTES = 1024 * 1024
_GUIDE = (
    "/reset forgets the conversation; /exit or Ctrl-D leaves; Ctrl-C stops an answer; \\ at the end continues a line."
)


def chat_command(open_server: OpenServer) -> Callable[..., None]:
    """The command, for ``app.command("chat")``."""

    def chat(
        prompt: Annotated[
            str | None, typer.Argument(help="Ask this once and leave; text from a pipe follows it.", show_default=False)
        ] = None,
        *,
        model: Annotated[
            str | None,
            typer.Option(
                help="Model to talk to.",
                show_default="the server's first",
                autocompletion=model_completion(open_server),
            ),
        ] = None,
        system: Annotated[str | None, typer.Option(help="System message: how the model shall behave.")] = None,
        url: Url = None,
        temperature: Annotated[
            float | None,
            typer.Option(min=0, callback=finite, help="0 always takes the likeliest token."),
        ] = None,
        max_tokens: Annotated[int | None, typer.Option(min=1, help="Longest answer, in tokens.")] = None,
        seed: Annotated[int | None, typer.Option(help="Same seed, nearly always the same answer.")] = None,
    ) -> None:
        """Talk to a served model: a conversation, or one answer when given a prompt or a pipe."""
        accept_any_text()
        interactive = prompt is None and sys.stdin.isatty()
        question = None if interactive else _one_question(prompt)
        options = AnswerOptions(temperature=temperature, max_tokens=max_tokens, seed=seed)
        with open_server(url) as server:
            client = Client(server)
            if question is None:
                served = _chosen(client.models(), model)
                notice(_introduction(served))
                _converse(Conversation(client, served.id, system, options))
            else:
                model = model or _first(client.models()).id
                _answer_once(Conversation(client, model, system, options), question)

    return chat


class Conversation:
    """What was said so far, and the model that goes on with it."""

    def __init__(self, client: Client, model: str, system: str | None, options: AnswerOptions) -> None:
        self._client = client
        self._model = model
        self._options = options
        self._opening = [] if system is None else [Message(role=Role.SYSTEM, content=_valid(system))]
        self._said: list[Message] = []

    def ask(self, text: str, show: Callable[[str], None]) -> str | None:
        """Show the answer to *text* while it comes, without its leading space; return why it ended.

        An answer that is cut short, by an exception or by Ctrl-C, is remembered as far as it was shown; a question
        without any answer is forgotten.

        Raises:
            RequestFailed: there is no (whole) answer.
        """
        question = Message(role=Role.USER, content=_valid(text))
        answer = ""
        finish_reason = None
        try:
            with closing(
                self._client.answer(self._model, [*self._opening, *self._said, question], self._options)
            ) as parts:
                for part in parts:
                    fresh = part.text if answer else part.text.lstrip(" ")
                    answer += fresh
                    show(fresh)
                    finish_reason = part.finish_reason or finish_reason
        finally:
            if answer:
                self._said += [question, Message(role=Role.ASSISTANT, content=answer)]
        return finish_reason

    def reset(self) -> None:
        """Forget everything but the system message."""
        self._said.clear()


def _converse(conversation: Conversation) -> None:
    _edit_lines()
    going_on = True
    while going_on:
        try:
            going_on = _exchange(conversation)
        except KeyboardInterrupt:
            notice("\nStopped. Ctrl-D leaves.")


def _exchange(conversation: Conversation) -> bool:
    """Read one message and show its answer; False once the person leaves."""
    try:
        text = _read_message()
    except EOFError:
        show("\n")
        return False
    match text.strip():
        case "":
            pass
        case "/exit":
            return False
        case "/reset":
            conversation.reset()
            notice("Forgotten.")
        case _:
            _answer_in_turn(conversation, text)
    return True


def _answer_in_turn(conversation: Conversation, text: str) -> None:
    try:
        finish_reason = conversation.ask(text, show)
        show("\n")
        if finish_reason == "length":
            notice("The answer was cut at the token limit.")
    except CorralError as error:
        notice(f"\n{error}")


def _answer_once(conversation: Conversation, question: str) -> None:
    with shown_to_the_line_end() as show_part:
        conversation.ask(question, show_part)


def _read_message() -> str:
    """One message; a backslash at the end of a line continues it on the next.

    Raises:
        EOFError: the person leaves.
    """
    lines = [_read_line("> ")]
    while lines[-1].endswith("\\"):
        lines[-1] = lines[-1][:-1]
        lines.append(_read_line(". "))
    return "\n".join(lines)


def _read_line(prompt: str) -> str:
    if sys.stdout.isatty():
        return input(prompt)
    typer.echo(prompt, nl=False, err=True)
    return input()


def _one_question(prompt: str | None) -> str:
    """The prompt, then the piped text, as far as there are any."""
    piped = "" if sys.stdin.isatty() else _read_pipe()
    question = "\n\n".join(text for text in (prompt or "", piped) if text.strip())
    if not question:
        raise typer.BadParameter("There is no question: give a prompt, or pipe one in.")
    return question


def _read_pipe() -> str:
    text = read_standard_input(_MAX_PIPED_BYTES + 1)
    if len(text) > _MAX_PIPED_BYTES:
        raise RequestFailed(f"The piped text is longer than {_MAX_PIPED_BYTES} bytes.")
    return text.decode(errors="replace")


def _first(models: Sequence[ServedModel]) -> ServedModel:
    if not models:
        raise RequestFailed("The server serves no model.")
    return models[0]


def _chosen(models: Sequence[ServedModel], name: str | None) -> ServedModel:
    if name is None:
        return _first(models)
    found = next((model for model in models if model.id.lower() == name.lower()), None)
    if found is None:
        raise RequestFailed(f"Model '{name}' is not served; `corral models` lists those that are.")
    return found


def _introduction(model: ServedModel) -> str:
    stand_in = f"; the {model.weights} weights stand in for it" if model.stands_in else ""
    return f"You are talking to {model.id}{stand_in}.\n{_GUIDE}"


def _edit_lines() -> None:
    """Give typed lines editing and a history, where the system has them: ``input()`` uses readline once imported."""
    try:
        import_module("readline")
    except ImportError:
        return


def _valid(text: str) -> str:
    """*text* without the halves of characters that an argument in another encoding leaves."""
    return text.encode(errors="replace").decode()
