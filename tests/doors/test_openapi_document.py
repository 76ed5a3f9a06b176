"""Requests generated from the OpenAPI document, valid and invalid: only documented statuses and schemas, no 5xx."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, openapi
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from corral.api.app import create_app
from corral.api.doors.openai.translate import HARMLESS, HARMLESS_IN_COMPLETION
from corral.catalog.versions import UNVERSIONED
from tests.doors.known_keys import door_dependencies
from tests.doors.live_server import SECRET, serving
from tests.doors.scripted_deployments import LOADING, ScriptedDeployments, status
from tests.doors.scripted_predictions import CREATED, MODEL, ScriptedPredictions, answer

EXAMPLES = 60
REFUSED = HARMLESS.keys() | HARMLESS_IN_COMPLETION.keys() | {"response_format", "top_logprobs", "max_cost"}
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


TWINS = {
    "POST /v1/openai/chat/completions",
    "POST /v1/openai/completions",
    "GET /v1/openai/models",
    "GET /v1/openai/models/{model}",
}
"""Alias paths of handlers that are probed under another path."""
KNOWN = {"owner": MODEL.partition("/")[0], "model": MODEL.partition("/")[2], "version": UNVERSIONED.short_id}
"""Path parameters of an existing model; generated names are unknown."""


def _app(predictions: ScriptedPredictions) -> FastAPI:
    deployments = ScriptedDeployments(status("llama", LOADING, MODEL)).admin
    return create_app(door_dependencies(predictions, clock=lambda: CREATED, deployments=deployments))


@dataclass(slots=True)
class ProbedServer:
    """A server in a thread, its documented operations, and their observed statuses."""

    url: str
    operations: dict[str, APIOperation[Any, Any, Any, Any]]
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)


@pytest.fixture(scope="module")
def probed_server() -> Iterator[ProbedServer]:
    predictions = ScriptedPredictions(answer(" a", "b", choices=4))
    app = _app(predictions)
    with ExitStack() as stack:
        portal = stack.enter_context(start_blocking_portal())
        live = stack.enter_context(portal.wrap_async_context_manager(serving(app)))
        results = list(openapi.from_dict(app.openapi()).get_all_operations())
        found = [result.ok() for result in results if isinstance(result, Ok)]
        assert len(found) == len(results)
        made = ProbedServer(url=live.url, operations={operation.label: operation for operation in found})
        yield made
    assert predictions.violations == []
    print(f"{made.answers.total()} requests: {sorted(made.answers.items())}")


def _probes() -> Iterator[tuple[str, GenerationMode]]:
    """Yield every operation except aliases, with valid and, where possible, invalid requests."""
    for path, item in _app(ScriptedPredictions()).openapi()["paths"].items():
        for method, operation in item.items():
            label = f"{method.upper()} {path}"
            if label not in TWINS:
                yield label, GenerationMode.POSITIVE
                if "requestBody" in operation or label == "GET /v1/models/{model}":
                    yield label, GenerationMode.NEGATIVE


@pytest.mark.parametrize(("label", "mode"), list(_probes()))
def test_generated_requests_get_only_documented_answers(
    probed_server: ProbedServer, label: str, mode: GenerationMode
) -> None:
    operation = probed_server.operations[label]

    @given(case=operation.as_strategy(generation_mode=mode), modest=st.booleans())
    @settings(
        max_examples=EXAMPLES if operation.body else 5,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def probe(case: Case[Any], modest: bool) -> None:
        if modest:
            for part in (case.path_parameters, case.query):
                part.update({name: KNOWN[name] for name in part.keys() & KNOWN.keys()})
        if modest and isinstance(case.body, dict):
            limit_to_supported_values(case.body)
        headers = {"authorization": f"Bearer {SECRET}"}
        response = case.call_and_validate(base_url=probed_server.url, headers=headers, checks=CHECKS)
        probed_server.answers[label, response.status_code] += 1

    probe()


def limit_to_supported_values(body: dict[str, Any]) -> None:
    """Replace unknown models, tools and roles, whose errors would hide later ones."""
    for field_name in REFUSED & body.keys():
        del body[field_name]
    if isinstance(body.get("model"), str):
        body["model"] = MODEL
    if isinstance(body.get("messages"), list):
        body["messages"] = [{"role": "user", "content": "Hello!"}]


def test_every_documented_operation_is_probed(probed_server: ProbedServer) -> None:
    assert set(probed_server.operations) - {label for label, _ in probed_server.answers} == TWINS
    for label in (
        "POST /v1/chat/completions",
        "POST /v1/completions",
        "POST /v1/estimate",
        "POST /v1/inference/{owner}/{model}",
    ):
        assert probed_server.answers[label, 200] > 0
        assert probed_server.answers[label, 422] > 0
