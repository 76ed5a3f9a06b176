"""``docs/api/deepinfra.md`` matches the code."""

import re
from pathlib import Path

from corral.api.app import create_app
from corral.api.doors.deepinfra.errors import STATUSES
from corral.api.doors.deepinfra.input_table import INPUTS
from tests.doors.known_keys import door_dependencies
from tests.doors.scripted_predictions import ScriptedPredictions

PAGE = (Path(__file__).parents[3] / "docs" / "api" / "deepinfra.md").read_text(encoding="utf-8")


def test_docs_list_every_route_and_its_scope() -> None:
    app = create_app(door_dependencies(ScriptedPredictions(), clock=lambda: 0.0))
    served = {
        (method.upper(), path): "no key" if "security" not in operation else ""
        for path, item in app.openapi()["paths"].items()
        for method, operation in item.items()
        if "deepinfra" in operation.get("tags", ())
    }
    rows = re.findall(r"^\| `([A-Z]+) (/[^`]*)` \| ([^|]+) \|", PAGE, re.MULTILINE)
    assert {(method, path) for method, path, _ in rows} == served.keys()
    assert len(rows) == len(served)
    assert all((needs == "no key") == (served[method, path] == "no key") for method, path, needs in rows)


def test_docs_list_every_inference_field_in_order() -> None:
    table = PAGE.partition("| field | | meaning |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \| (?:same|wider|differs) \|", table, re.MULTILINE) == [
        field.name for field in INPUTS.fields
    ]


def test_docs_list_every_status() -> None:
    table = PAGE.partition("| status | when |")[2]
    assert {int(status) for status in re.findall(r"^\| (\d{3}) \|", table, re.MULTILINE)} == set(STATUSES.values())
