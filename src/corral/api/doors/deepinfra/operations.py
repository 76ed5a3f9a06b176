"""This door's part of the OpenAPI document. Values only."""

from collections.abc import Mapping
from typing import Any, Final

from corral.api.doors.deepinfra.wire import InferenceRequest
from corral.api.doors.deepinfra.wire_answers import (
    CliVersion,
    Deploy,
    DeployList,
    ErrorText,
    InferenceAnswer,
    ListedModels,
    ModelInfo,
    Nothing,
    SchemaVariant,
    StreamEvent,
    Versions,
)
from corral.api.operation import FOR_BODY, FOR_KEY, FOR_RUN, RUN_HEADERS, Operation

TYPES: Final = (
    InferenceRequest,
    InferenceAnswer,
    StreamEvent,
    ErrorText,
    ListedModels,
    ModelInfo,
    Versions,
    SchemaVariant,
    Deploy,
    DeployList,
    CliVersion,
    Nothing,
)
"""What the operations below name."""


def _in_path(*names: str) -> tuple[Mapping[str, Any], ...]:
    return tuple({"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names)


def _in_query(name: str, description: str) -> Mapping[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": {"type": "string"}}


_VERSION: Final = _in_query("version", "One of the model's versions.")
_MODEL: Final = _in_path("owner", "model")


def _inference(where: tuple[Mapping[str, Any], ...]) -> Operation:
    return Operation(
        summary="Go on with a prompt that is taken as it is",
        bodies=(InferenceRequest,),
        form=True,
        answer=InferenceAnswer,
        error=ErrorText,
        statuses=tuple(sorted({*FOR_KEY, *FOR_BODY, *FOR_RUN} - {405})),
        streams=True,
        parameters=(*where, *RUN_HEADERS),
    )


def _told(summary: str, answer: type, *, statuses: tuple[int, ...] = (), where: Any = ()) -> Operation:
    return Operation(
        summary=summary, answer=answer, error=ErrorText, statuses=(*statuses, 500), open=True, parameters=tuple(where)
    )


INFERENCE: Final = _inference((*_MODEL, _VERSION))
INFERENCE_OF_DEPLOY: Final = _inference(_in_path("deploy_id"))
MODELS: Final = _told("List the models", ListedModels)
FEATURED: Final = _told("List featured models: none", ListedModels)
NO_MODELS: Final = Operation(
    summary="List private models: none", answer=ListedModels, error=ErrorText, statuses=FOR_KEY
)
MODEL: Final = _told("Describe a model", ModelInfo, statuses=(404,), where=(*_MODEL, _VERSION))
VERSIONS: Final = _told("List a model's versions", Versions, statuses=(404,), where=_MODEL)
SCHEMA: Final = _told(
    "What inference takes and gives", SchemaVariant, statuses=(404,), where=(*_MODEL, *_in_path("variant"))
)
CLI_VERSION: Final = _told("Which deepctl is served", CliVersion)
DEPLOYS: Final = Operation(summary="List the running models", answer=DeployList, error=ErrorText, statuses=FOR_KEY)
DEPLOY: Final = Operation(
    summary="Describe a running model",
    answer=Deploy,
    error=ErrorText,
    statuses=(*FOR_KEY, 404),
    parameters=_in_path("deploy_id"),
)


def fixed(*names: str) -> Operation:
    """What DeepInfra does and this server does not; *names* are those in the path."""
    return Operation(
        summary="Not offered", answer=Nothing, error=ErrorText, statuses=(*FOR_KEY, 405), parameters=_in_path(*names)
    )
