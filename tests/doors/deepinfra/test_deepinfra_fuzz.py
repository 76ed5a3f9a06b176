"""600 generated JSON and form bodies, valid, nearly valid and invalid: no 5xx."""

import asyncio
import json
from collections import Counter
from random import Random
from typing import Any

from corral.api.app import create_app
from corral.api.doors.deepinfra.input_table import INPUTS
from tests.doors.deepinfra.native import PATH, native_answer
from tests.doors.known_keys import door_dependencies
from tests.doors.live_server import serving
from tests.doors.scripted_predictions import CREATED, ScriptedPredictions

BODIES = 600
STATUSES = {200, 400, 413, 415, 422}
NAMES = [field.name for field in INPUTS.fields]
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 4, 5, 0.5, 1e308, -(2**63), 2**64, 10**30, "", "x", "\x00", "1", "true", "[]", "null",
    '["a"]', "\N{LLAMA}", [], ["a"], [""], [1], ["a"] * 17, {}, {"type": "text"}, {"type": "json_object"},
    {"type": "regex", "regex": "a"}, {"type": "json_schema"}, "https://example.org/hook",
]  # fmt: skip


def request(random: Random) -> dict[str, Any]:
    """Generate the arguments of an HTTP request."""
    names = random.sample(NAMES, random.randrange(1, 4))
    asked: dict[str, Any] = {"input": "Hi", **{name: random.choice(VALUES) for name in names}}
    body = json.dumps(asked).encode()
    match random.randrange(4):
        case 0:
            texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in asked.items()}
            return {"files": [(name, (None, text)) for name, text in texts.items()]}
        case 1:
            at = random.randrange(len(body))
            kind = random.choice(["", "application/json", "multipart/form-data; boundary=x", "text/plain"])
            return {"content": body[:at] + random.randbytes(2) + body[at:], "headers": {"content-type": kind}}
        case _:
            return {"content": body}


def test_fuzzed_bodies_never_cause_a_5xx() -> None:
    predictions = ScriptedPredictions(native_answer("a", choices=4))
    app = create_app(door_dependencies(predictions, clock=lambda: CREATED))
    statuses: Counter[int] = Counter()

    async def probe() -> None:
        random = Random(4711)
        async with serving(app) as live, live.http() as http:
            for _ in range(BODIES):
                asked = request(random)
                response = await http.post(PATH, **asked)
                statuses[response.status_code] += 1
                assert response.status_code in STATUSES, (asked, response.text)
                if response.status_code != 200:
                    assert response.json().keys() in ({"error"}, {"detail"})

    asyncio.run(probe())
    print(f"{statuses.total()} bodies: {dict(sorted(statuses.items()))}")
    assert predictions.violations == []
    assert statuses.keys() >= {200, 400, 422}
