"""``docs/api/replicate.md`` matches the code."""

import re
from pathlib import Path

from fastapi.routing import iter_route_contexts

from corral.api.app import create_app
from corral.api.doors.replicate.errors import ERRORS
from corral.api.doors.replicate.input_table import INPUTS
from corral.api.doors.replicate.routes import NOT_OFFERED
from tests.doors.known_keys import door_dependencies
from tests.doors.scripted_predictions import ScriptedPredictions

PAGE = (Path(__file__).parents[3] / "docs" / "api" / "replicate.md").read_text(encoding="utf-8")
_ROUTE = re.compile(r"^\| `([A-Z]+) (/[^`]*)` \| (same|differs|refused) \|", re.MULTILINE)
_INPUT = re.compile(r"^\| `(\w+)` \| (?:same|differs|refused) \|", re.MULTILINE)


def test_docs_list_exactly_the_routes() -> None:
    app = create_app(door_dependencies(ScriptedPredictions(), clock=lambda: 0.0))
    served = {
        (method, (route.path or "").removeprefix("/v1/v1"))
        for route in iter_route_contexts(app.routes)
        for method in getattr(route.original_route, "methods", None) or ()
        if (route.path or "").startswith("/v1/v1/") and method != "HEAD"
    }
    listed = {(method, path): fate for method, path, fate in _ROUTE.findall(PAGE)}
    assert listed.keys() == served | {("GET", "/streams/{prediction_id}/{token}")}
    assert {route for route, fate in listed.items() if fate == "refused"} == set(NOT_OFFERED)


def test_docs_list_every_input_in_order() -> None:
    assert _INPUT.findall(PAGE) == [field.name for field in INPUTS.fields]


def test_docs_list_every_status_with_its_titles() -> None:
    rows = re.findall(r"^\| (\d{3}) \| (.*) \|$", PAGE, re.MULTILINE)
    listed = {(int(status), title) for status, titles in rows for title in titles.split(" · ")}
    assert listed == {(row.status, row.title) for row in ERRORS.values()}
