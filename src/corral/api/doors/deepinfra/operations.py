"""OpenAPI operations of this API."""

from collections.abc import Mapping
from typing import Any, Final

from corral.api.doors.deepinfra.wire import InferenceRequest
from corral.api.doors.deepinfra.wire_account import (
    JwtTerms,
    LogEntries,
    Me,
    NewScopedJwt,
    NewToken,
    RateLimit,
    RequestCosts,
    RequestIds,
    SignedToken,
    Token,
    Tokens,
    UsageMonths,
)
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
    JwtTerms,
    LogEntries,
    Me,
    NewScopedJwt,
    NewToken,
    RateLimit,
    RequestCosts,
    RequestIds,
    SignedToken,
    Token,
    Tokens,
    UsageMonths,
)
"""Types that the operations below refer to."""


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
DEPLOYS: Final = Operation(
    summary="List the running models",
    answer=DeployList,
    error=ErrorText,
    statuses=(*FOR_KEY, 400),
    parameters=(_in_query("status", "Only deploys of these statuses, separated by commas."),),
)
DEPLOY: Final = Operation(
    summary="Describe a running model",
    answer=Deploy,
    error=ErrorText,
    statuses=(*FOR_KEY, 404),
    parameters=_in_path("deploy_id"),
)


def _account(
    summary: str,
    answer: type,
    *,
    body: type | None = None,
    statuses: tuple[int, ...] = (),
    parameters: tuple[Mapping[str, Any], ...] = (),
) -> Operation:
    return Operation(
        summary=summary,
        answer=answer,
        error=ErrorText,
        bodies=() if body is None else (body,),
        statuses=tuple({*FOR_KEY, *statuses, *(() if body is None else FOR_BODY)}),
        parameters=parameters,
    )


_TOKEN: Final = _in_path("token")
_PERIOD: Final = (
    _in_query("from", "YYYY.MM, current, current-N or Unix time."),
    _in_query("to", "The same; current by default."),
)
ME: Final = _account("Who one is", Me)
RATE_LIMIT: Final = _account("What one may use at once", RateLimit)
TOKENS: Final = _account("List the account's API keys", Tokens)
TOKEN: Final = _account("Describe an API key", Token, statuses=(404,), parameters=_TOKEN)
CREATE_TOKEN: Final = _account("Make an API key", Token, body=NewToken, statuses=(409,))
DELETE_TOKEN: Final = _account("Revoke an API key", Token, statuses=(404,), parameters=_TOKEN)
SIGN_JWT: Final = _account("Sign a token that may do less", SignedToken, body=NewScopedJwt, statuses=(404,))
READ_JWT: Final = _account(
    "What a token may do", JwtTerms, statuses=(404,), parameters=(_in_query("jwtoken", "The token."),)
)
REQUEST_COSTS: Final = _account("What requests cost", RequestCosts, body=RequestIds)
USAGE: Final = _account("What the account used, by month", UsageMonths, statuses=(400,), parameters=_PERIOD)
USAGE_OF_TOKEN: Final = _account(
    "What an API key used, by month", UsageMonths, statuses=(400, 404), parameters=(*_TOKEN, *_PERIOD)
)
LOGS: Final = _account(
    "What a running model did for the account",
    LogEntries,
    statuses=(400, 404),
    parameters=(
        _in_query("deploy_id", "Which."),
        _in_query("from", "Unix time in seconds, or a date and time."),
        _in_query("to", "The same; now by default."),
        _in_query("limit", "1 to 1000 lines, 100 by default."),
    ),
)


def fixed(*names: str) -> Operation:
    """Describe a route of DeepInfra's that this server refuses; *names* are its path parameters."""
    return Operation(
        summary="Not offered", answer=Nothing, error=ErrorText, statuses=(*FOR_KEY, 405), parameters=_in_path(*names)
    )
