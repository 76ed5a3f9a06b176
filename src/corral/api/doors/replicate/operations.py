"""OpenAPI operations of this API."""

from dataclasses import replace
from typing import Any, Final

from corral.api.doors.replicate import wire
from corral.api.doors.replicate.errors import MEDIA_TYPE
from corral.api.doors.replicate.prefer import CANCEL_AFTER
from corral.api.operation import FOR_BODY, FOR_KEY, FOR_RUN, RUN_HEADERS, Operation

TYPES: Final = (
    wire.PredictionBody,
    wire.VersionedPredictionBody,
    wire.PredictionAnswer,
    wire.PredictionPage,
    wire.ModelAnswer,
    wire.ModelPage,
    wire.VersionAnswer,
    wire.VersionPage,
    wire.SearchAnswer,
    wire.CollectionAnswer,
    wire.CollectionPage,
    wire.AccountAnswer,
    wire.WebhookSecret,
    wire.HardwareList,
    wire.DeploymentAnswer,
    wire.DeploymentPage,
    wire.FileBody,
    wire.FileAnswer,
    wire.FilePage,
    wire.ProblemAnswer,
)
"""Types that the operations below refer to."""

_CREATE_HEADERS: Final[tuple[dict[str, Any], ...]] = (
    {
        "name": "Prefer",
        "in": "header",
        "description": "Hold the answer until the prediction is over, for so many seconds at most.",
        "schema": {"type": "string", "pattern": "^wait(=([1-9]|[1-5][0-9]|60))?$"},
    },
    {
        "name": CANCEL_AFTER,
        "in": "header",
        "description": "Stop the run when it is so old.",
        "schema": {"type": "string", "examples": ["30s", "5m", "1h30m"]},
    },
    *RUN_HEADERS,
)


def _parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _query(name: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": {"type": "string"}}


MODEL_NAME: Final = (_parameter("owner"), _parameter("name"))
_KEY: Final = (*FOR_KEY, 429)


def _create(summary: str, body: type, *parameters: dict[str, Any]) -> Operation:
    return Operation(
        summary=summary,
        bodies=(body,),
        answer=wire.PredictionAnswer,
        error=wire.ProblemAnswer,
        statuses=tuple(sorted({*_KEY, *FOR_BODY, *FOR_RUN} - {405})),
        success=201,
        error_media_type=MEDIA_TYPE,
        invalid=wire.ProblemAnswer,
        parameters=(*parameters, *_CREATE_HEADERS),
    )


def _read(
    summary: str,
    answer: type | None,
    *parameters: dict[str, Any],
    statuses: tuple[int, ...] = (),
    media_type: str = "application/json",
) -> Operation:
    return Operation(
        summary=summary,
        answer=answer,
        error=wire.ProblemAnswer,
        statuses=tuple(sorted({*_KEY, *statuses})),
        media_type=media_type,
        error_media_type=MEDIA_TYPE,
        parameters=parameters,
    )


CREATE: Final = _create("Create a prediction", wire.VersionedPredictionBody)
CREATE_OF_MODEL: Final = _create("Create a prediction of a model", wire.PredictionBody, *MODEL_NAME)
CREATE_OF_DEPLOYMENT: Final = _create("Create a prediction of a deployment", wire.PredictionBody, *MODEL_NAME)
GET: Final = _read("Read a prediction", wire.PredictionAnswer, _parameter("prediction_id"), statuses=(404,))
CANCEL: Final = _read("Stop a prediction", wire.PredictionAnswer, _parameter("prediction_id"), statuses=(404,))
_PAGE: Final = tuple(map(_query, ("cursor", "created_after", "created_before", "source")))
LIST: Final = _read("List predictions", wire.PredictionPage, *_PAGE, statuses=(404, 422))
LIST_OF_MODEL: Final = _read(
    "List predictions of a model", wire.PredictionPage, *MODEL_NAME, *_PAGE, statuses=(404, 422)
)
STREAM: Final = Operation(
    summary="Stream a prediction",
    answer=None,
    error=wire.ProblemAnswer,
    statuses=(404, 410, 500, 503),
    open=True,
    media_type="text/event-stream",
    error_media_type=MEDIA_TYPE,
    parameters=(_parameter("prediction_id"), _parameter("token")),
)
MODELS: Final = _read(
    "List the models",
    wire.ModelPage,
    *map(_query, ("cursor", "sort_by", "sort_direction")),
    statuses=(422,),
)
MODEL: Final = _read("Describe a model", wire.ModelAnswer, *MODEL_NAME, statuses=(404,))
VERSIONS: Final = _read("List a model's versions", wire.VersionPage, *MODEL_NAME, statuses=(404,))
VERSION: Final = _read("Read a version", wire.VersionAnswer, *MODEL_NAME, _parameter("version_id"), statuses=(404,))
README: Final = _read("Read a model's readme", None, *MODEL_NAME, statuses=(404,), media_type="text/markdown")
EXAMPLES: Final = _read("List a model's examples", wire.PredictionPage, *MODEL_NAME, statuses=(404,))
SEARCH: Final = _read("Search", wire.SearchAnswer, *map(_query, ("query", "limit")), statuses=(422,))
COLLECTIONS: Final = _read("List the collections", wire.CollectionPage)
COLLECTION: Final = _read("Read a collection", wire.CollectionAnswer, _parameter("slug"), statuses=(404,))
DEPLOYMENTS: Final = _read("List the deployments", wire.DeploymentPage)
DEPLOYMENT: Final = _read("Read a deployment", wire.DeploymentAnswer, *MODEL_NAME, statuses=(404,))
HARDWARE: Final = _read("List what models run on", wire.HardwareList)
ACCOUNT: Final = _read("Read the key's account", wire.AccountAnswer)
WEBHOOK_SECRET: Final = _read("Read what signs the account's webhooks", wire.WebhookSecret, statuses=(422,))
CREATE_FILE: Final = Operation(
    summary="Keep a file for a day",
    bodies=(wire.FileBody,),
    form_only=True,
    answer=wire.FileAnswer,
    error=wire.ProblemAnswer,
    statuses=tuple(sorted({*_KEY, *FOR_BODY, 404})),
    success=201,
    error_media_type=MEDIA_TYPE,
    invalid=wire.ProblemAnswer,
)
FILES: Final = _read("List the files", wire.FilePage, statuses=(404,))
FILE: Final = _read("Read what is known of a file", wire.FileAnswer, _parameter("file_id"), statuses=(404,))
DELETE_FILE: Final = replace(_read("Remove a file", None, _parameter("file_id"), statuses=(404,)), success=204)
DOWNLOAD: Final = Operation(
    summary="Fetch a file",
    answer=None,
    error=wire.ProblemAnswer,
    statuses=(404, 500),
    open=True,
    media_type="*/*",
    error_media_type=MEDIA_TYPE,
    parameters=(_parameter("file_id"), *map(_query, ("expiry", "owner", "signature"))),
)
QUERY: Final = _read("Search models", wire.ModelPage)
NOT_OFFERED: Final = _read("Not offered", None, statuses=(501,))
