"""Code snippets for every API and language.

Keys are never in it: it reads ``CORRAL_API_KEY`` from the environment.
"""

import shlex
from dataclasses import dataclass
from typing import Final

from corral.catalog.model import CatalogModel
from corral.core.generation import GenerationRequest
from corral.web.models.bodies import Body, deepinfra_body, openai_body, replicate_body
from corral.web.models.code import as_arguments, in_javascript, in_json, in_python
from corral.web.models.questions import Question

KEY: Final = "CORRAL_API_KEY"
_OPENAI_OWN: Final = frozenset(
    {"model", "messages", "prompt", "max_tokens", "temperature", "top_p", "presence_penalty", "frequency_penalty"}
    | {"stop", "seed"}
)
"""Arguments of OpenAI's Python client; the others go into ``extra_body``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snippet:
    """A program."""

    id: str
    name: str
    """Name of the language or tool."""
    needs: str
    """Command that installs its requirements; empty without any."""
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorCode:
    """Programs for one API."""

    id: str
    name: str
    about: str
    left_out: tuple[str, ...]
    """Inputs that the API does not have."""
    snippets: tuple[Snippet, ...]


def all_code(question: Question, model: CatalogModel, request: GenerationRequest, *, base_url: str) -> list[DoorCode]:
    """Build the programs for a question.

    Args:
        question: what is in the form.
        model: whose form it is.
        request: what the question asks of the core.
        base_url: where the server is reached, without a final slash.
    """
    return [
        _replicate(replicate_body(question), model, base_url),
        _deepinfra(deepinfra_body(question, model, request), model, base_url),
        _openai(openai_body(question, model, request), base_url),
        _command_line(deepinfra_body(question, model, request), model, base_url),
    ]


def _replicate(body: Body, model: CatalogModel, base_url: str) -> DoorCode:
    owner, name = model.owner, model.name
    curl = _curl(f"{base_url}/v1/models/{owner}/{name}/predictions", {"input": body.values}, wait=True)
    python = f"""\
import os

import replicate

client = replicate.Client(
    api_token=os.environ["{KEY}"],
    base_url="{base_url}",
)
for event in client.stream(
    "{model.id}",
    input={in_python(body.values, indent=4)},
):
    print(str(event), end="")
"""
    node = f"""\
import Replicate from "replicate";

const replicate = new Replicate({{
  auth: process.env.{KEY},
  baseUrl: "{base_url}/v1",
}});
const input = {in_javascript(body.values)};
for await (const event of replicate.stream("{model.id}", {{ input }})) {{
  process.stdout.write(event.toString());
}}
"""
    return DoorCode(
        id="replicate",
        name="Replicate",
        about="A prediction with the inputs of this form. What is not named has the form's default.",
        left_out=body.left_out,
        snippets=(
            Snippet(id="replicate-curl", name="curl", needs="", code=curl),
            Snippet(id="replicate-python", name="Python", needs="pip install 'replicate<2'", code=python),
            Snippet(id="replicate-node", name="Node", needs="npm install replicate", code=node),
        ),
    )


def _deepinfra(body: Body, model: CatalogModel, base_url: str) -> DoorCode:
    url = f"{base_url}/v1/inference/{model.id}"
    python = f"""\
import os

import requests

answer = requests.post(
    "{url}",
    headers={{"Authorization": "Bearer " + os.environ["{KEY}"]}},
    json={in_python(body.values, indent=4)},
    timeout=600,
)
answer.raise_for_status()
print(answer.json()["results"][0]["generated_text"])
"""
    node = f"""\
const input = {in_javascript(body.values)};
const answer = await fetch("{url}", {{
  method: "POST",
  headers: {{
    "Authorization": `Bearer ${{process.env.{KEY}}}`,
    "Content-Type": "application/json",
  }},
  body: JSON.stringify(input),
}});
if (!answer.ok) throw new Error(await answer.text());
console.log((await answer.json()).results[0].generated_text);
"""
    return DoorCode(
        id="deepinfra",
        name="DeepInfra",
        about="A native inference. The prompt is written as the model reads it, system prompt and tags included.",
        left_out=body.left_out,
        snippets=(
            Snippet(id="deepinfra-curl", name="curl", needs="", code=_curl(url, body.values)),
            Snippet(id="deepinfra-python", name="Python", needs="pip install requests", code=python),
            Snippet(id="deepinfra-node", name="Node", needs="", code=node),
        ),
    )


def _openai(body: Body, base_url: str) -> DoorCode:
    is_chat = "messages" in body.values
    path, method = ("chat/completions", "chat.completions") if is_chat else ("completions", "completions")
    python_text = "choices[0].delta.content" if is_chat else "choices[0].text"
    node_text = "choices[0].delta.content" if is_chat else "choices[0].text"
    own = {name: value for name, value in body.values.items() if name in _OPENAI_OWN}
    more = {name: value for name, value in body.values.items() if name not in _OPENAI_OWN}
    arguments = as_arguments({**own, **({"extra_body": more} if more else {})}, indent=4)
    python = f"""\
import os

import openai

client = openai.OpenAI(
    api_key=os.environ["{KEY}"],
    base_url="{base_url}/v1",
)
stream = client.{method}.create(
{arguments}    stream=True,
)
for chunk in stream:
    print(chunk.{python_text} or "", end="")
"""
    node = f"""\
import OpenAI from "openai";

const client = new OpenAI({{
  apiKey: process.env.{KEY},
  baseURL: "{base_url}/v1",
}});
const stream = await client.{method}.create({in_javascript({**body.values, "stream": True})});
for await (const chunk of stream) {{
  process.stdout.write(chunk.{node_text} ?? "");
}}
"""
    return DoorCode(
        id="openai",
        name="OpenAI",
        about="A chat completion." if is_chat else "A completion, since this prompt is written out by hand.",
        left_out=body.left_out,
        snippets=(
            Snippet(id="openai-curl", name="curl", needs="", code=_curl(f"{base_url}/v1/{path}", body.values)),
            Snippet(id="openai-python", name="Python", needs="pip install openai", code=python),
            Snippet(id="openai-node", name="Node", needs="npm install openai", code=node),
        ),
    )


def _command_line(body: Body, model: CatalogModel, base_url: str) -> DoorCode:
    given = "".join(
        f" \\\n  -i {shlex.quote(f'{name}={_spelt(value)}')}" for name, value in {**body.values, "stream": True}.items()
    )
    code = f"corral infer --url {shlex.quote(base_url)} -m {shlex.quote(model.id)}{given}\n"
    return DoorCode(
        id="command-line",
        name="Command line",
        about="Corral's own command, through DeepInfra's door.",
        left_out=body.left_out,
        snippets=(Snippet(id="command-line-corral", name="corral", needs="", code=code),),
    )


def _spelt(value: object) -> str:
    """Format a form field: text as is, anything else as JSON."""
    return value if isinstance(value, str) else in_javascript(value)


def _curl(url: str, body: object, *, wait: bool = False) -> str:
    prefer = "  -H 'Prefer: wait' \\\n" if wait else ""
    return (
        f"curl -sS {shlex.quote(url)} \\\n"
        f'  -H "Authorization: Bearer ${KEY}" \\\n'
        "  -H 'Content-Type: application/json' \\\n"
        f"{prefer}  -d {in_json(dict(body))}\n"  # type: ignore[call-overload]
    )
