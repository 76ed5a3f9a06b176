"""Paths, scripts and response helpers for the DeepInfra API tests."""

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
    """``answer`` with an EOS token without bytes, as tokenizers have it."""
    return [
        replace(step, pieces=(b"",)) if isinstance(step, Delta) and step.pieces == (EOS,) else step
        for step in answer(*texts, **options)
    ]


def events_of(response: Response) -> list[dict[str, Any]]:
    """Parse the events of a stream."""
    assert response.headers["content-type"].startswith("text/event-stream")
    lines = response.text.split("\n")
    assert all(line == "" or line.startswith("data: {") for line in lines)
    return [json.loads(line.removeprefix("data: ")) for line in lines if line]


def text_of(events: Sequence[dict[str, Any]]) -> str:
    """Join the token texts without control tokens."""
    return "".join(event["token"]["text"] for event in events if not event["token"]["special"])


async def infer(http: AsyncClient, path: str = PATH, **fields: Any) -> dict[str, Any]:
    """Send an inference request; asserts success."""
    response = await http.post(path, json={**HELLO, **fields})
    assert response.status_code == 200, response.text
    return response.json()
