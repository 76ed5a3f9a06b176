"""``corral chat``: a conversation with a model in the terminal."""

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
    "/reset clears the conversation; /exit or Ctrl-D exits; Ctrl-C stops an answer; \\ at the end continues a line."
)


def chat_command(open_server: OpenServer) -> Callable[..., None]:
    """Create the command, for ``app.command("chat")``."""

    def chat(
        prompt: Annotated[
            str | None, typer.Argument(help="Ask this once and exit; text from a pipe is appended.", show_default=False)
        ] = None,
        *,
        model: Annotated[
            str | None,
            typer.Option(
                help="Model to use.",
                show_default="the server's first",
                autocompletion=model_completion(open_server),
            ),
        ] = None,
        system: Annotated[str | None, typer.Option(help="System message: how the model should behave.")] = None,
        url: Url = None,
        temperature: Annotated[
            float | None,
            typer.Option(min=0, callback=finite, help="Sampling temperature; 0 always takes the most likely token."),
        ] = None,
        max_tokens: Annotated[int | None, typer.Option(min=1, help="Most tokens of an answer.")] = None,
        seed: Annotated[
            int | None, typer.Option(help="Seed; the same one nearly always gives the same answer.")
        ] = None,
    ) -> None:
        """Chat with a served model: a conversation, or one answer if given a prompt or a pipe."""
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
    """Messages of a conversation, and the model that answers them."""

    def __init__(self, client: Client, model: str, system: str | None, options: AnswerOptions) -> None:
        self._client = client
        self._model = model
        self._options = options
        self._opening = [] if system is None else [Message(role=Role.SYSTEM, content=_valid(system))]
        self._messages: list[Message] = []

    def ask(self, text: str, show: Callable[[str], None]) -> str | None:
        """Stream the answer to *text* to *show*, without its leading space; return the finish reason.

        An answer that is cut off by an error or Ctrl-C is kept in the conversation as far as it was shown. A question
        without an answer is not kept.

        Raises:
            RequestFailed: the answer is missing or incomplete.
        """
        question = Message(role=Role.USER, content=_valid(text))
        answer = ""
        finish_reason = None
        try:
            with closing(
                self._client.answer(self._model, [*self._opening, *self._messages, question], self._options)
            ) as parts:
                for part in parts:
                    new_text = part.text if answer else part.text.lstrip(" ")
                    answer += new_text
                    show(new_text)
                    finish_reason = part.finish_reason or finish_reason
        finally:
            if answer:
                self._messages += [question, Message(role=Role.ASSISTANT, content=answer)]
        return finish_reason

    def reset(self) -> None:
        """Delete all messages but the system message."""
        self._messages.clear()


def _converse(conversation: Conversation) -> None:
    _edit_lines()
    is_open = True
    while is_open:
        try:
            is_open = _exchange(conversation)
        except KeyboardInterrupt:
            notice("\nStopped. Ctrl-D exits.")


def _exchange(conversation: Conversation) -> bool:
    """Read one message and show its answer. Returns False when the user exits."""
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
            notice("Conversation cleared.")
        case _:
            _answer_in_turn(conversation, text)
    return True


def _answer_in_turn(conversation: Conversation, text: str) -> None:
    try:
        finish_reason = conversation.ask(text, show)
        show("\n")
        if finish_reason == "length":
            notice("The answer was cut off at the token limit.")
    except CorralError as error:
        notice(f"\n{error}")


def _answer_once(conversation: Conversation, question: str) -> None:
    with shown_to_the_line_end() as show_part:
        conversation.ask(question, show_part)


def _read_message() -> str:
    """Read one message; a backslash at the end of a line continues it on the next line.

    Raises:
        EOFError: the user exits.
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
    """Return the prompt followed by the piped text."""
    piped = "" if sys.stdin.isatty() else _read_pipe()
    question = "\n\n".join(text for text in (prompt or "", piped) if text.strip())
    if not question:
        raise typer.BadParameter("There is no prompt: give one as an argument, or pipe it in.")
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
    """Enable line editing and history, if available: ``input()`` uses readline when it is imported."""
    try:
        import_module("readline")
    except ImportError:
        return


def _valid(text: str) -> str:
    """Replace the surrogates that an argument in another encoding contains."""
    return text.encode(errors="replace").decode()
