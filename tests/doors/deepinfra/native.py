"""What tests of DeepInfra's door share: its paths, and answers as the service gives them to it."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from httpx2 import AsyncClient, Response

from corral.core.generation import Delta
from tests.doors.scripted_predictions import EOS, MODEL, Step, answer

PATH = f"/v1/inference/{MODEL}"
HELLO = {"input": "[INST] Hello! [/INST]", "temperature": 0}


def native_answer(*texts: str, **options: Any) -> list[Step]:
    """``answer``, in which EOS stands for no bytes, as every tokenizer has it."""
    return [
        replace(step, pieces=(b"",)) if isinstance(step, Delta) and step.pieces == (EOS,) else step
        for step in answer(*texts, **options)
    ]


def events_of(response: Response) -> list[dict[str, Any]]:
    """The events of a stream, whose every line is one or empty."""
    assert response.headers["content-type"].startswith("text/event-stream")
    lines = response.text.split("\n")
    assert all(line == "" or line.startswith("data: {") for line in lines)
    return [json.loads(line.removeprefix("data: ")) for line in lines if line]


def text_of(events: Sequence[dict[str, Any]]) -> str:
    """What the tokens say, but for control tokens."""
    return "".join(event["token"]["text"] for event in events if not event["token"]["special"])


async def infer(http: AsyncClient, path: str = PATH, **fields: Any) -> dict[str, Any]:
    """The answer to a request that is answered."""
    response = await http.post(path, json={**HELLO, **fields})
    assert response.status_code == 200, response.text
    return response.json()
