"""Routes of DeepInfra's native API; most of its paths have no prefix."""

from collections.abc import Mapping
from typing import Final

from fastapi import APIRouter

from corral.api.auth import KEY_HEADER
from corral.api.dependencies import Dependencies
from corral.api.door import Door
from corral.api.doors.deepinfra import operations
from corral.api.doors.deepinfra.account import Account
from corral.api.doors.deepinfra.errors import from_error
from corral.api.doors.deepinfra.inference import Inference
from corral.api.doors.deepinfra.logs import Logs
from corral.api.doors.deepinfra.models import Models
from corral.api.operation import Dialogue
from corral.core.accounts import Scope

_RUN: Final = (Scope.INFERENCE,)
_READ: Final = (Scope.INFERENCE, Scope.READ)
_ADMIN: Final = (Scope.ADMIN,)
_MONEY: Final = (
    ("PATCH", "/v1/me"),
    ("DELETE", "/v1/me"),
    ("POST", "/payment/config"),
    ("POST", "/payment/funds"),
    ("POST", "/payment/topup"),
    ("GET", "/payment/billing-portal"),
)
_FIXED: Final = (
    ("POST", "/models/{owner}/{model}/meta"),
    ("POST", "/models/{owner}/{model}/publicity"),
    ("DELETE", "/models/{owner}/{model}"),
    ("POST", "/deploy/hf"),
    ("POST", "/deploy/hf/"),
    ("POST", "/deploy/llm"),
    ("POST", "/v1/deploy"),
    ("PUT", "/deploy/{deploy_id}"),
    ("DELETE", "/deploy/{deploy_id}"),
    ("POST", "/deploy/{deploy_id}/start"),
    ("POST", "/deploy/{deploy_id}/stop"),
)


def router(dependencies: Dependencies, *, variants: Mapping[str, Dialogue]) -> APIRouter:
    """Build the router; *variants* are the routes beside inference whose schemas it describes."""
    door = Door(
        keys=dependencies.keys,
        from_error=from_error,
        router=APIRouter(tags=["deepinfra"]),
        catalog=dependencies.predictions.catalog,
        key_header=KEY_HEADER,
    )
    _add_inference(door, Inference(dependencies, door))
    _add_models(door, Models(dependencies, variants))
    _add_account(door, Account(dependencies), Logs(dependencies))
    return door.router


def _add_inference(door: Door, inference: Inference) -> None:
    door.route(
        "POST",
        ["/v1/inference/deploy/{deploy_id}"],
        inference.of_deploy,
        scopes=_RUN,
        operation=operations.INFERENCE_OF_DEPLOY,
    )
    door.route(
        "POST", ["/v1/inference/{owner}/{model}"], inference.of_model, scopes=_RUN, operation=operations.INFERENCE
    )


def _add_models(door: Door, models: Models) -> None:
    door.open_route("GET", ["/models/list"], models.listed, operation=operations.MODELS)
    door.open_route("GET", ["/models/featured"], models.featured, operation=operations.FEATURED)
    # Must precede the route of a model of that owner and name.
    apart = [f"/models/{kind}/list" for kind in ("private", "deployment", "lora")]
    door.route("GET", apart, models.none, scopes=_READ, operation=operations.NO_MODELS)
    path = "/models/{owner}/{model}"
    door.open_route("GET", [path], models.info, operation=operations.MODEL)
    door.open_route("GET", [f"{path}/versions"], models.versions, operation=operations.VERSIONS)
    door.open_route("GET", [f"{path}/schema/{{variant}}"], models.schema, operation=operations.SCHEMA)
    door.open_route("GET", ["/cli/version"], models.deepctl, operation=operations.CLI_VERSION)
    door.route("GET", ["/deploy/list", "/deploy/list/"], models.deploys, scopes=_READ, operation=operations.DEPLOYS)
    door.route("GET", ["/deploy/{deploy_id}"], models.deploy, scopes=_READ, operation=operations.DEPLOY)
    for method, fixed in _FIXED:
        names = [part.strip("{}") for part in fixed.split("/") if part.startswith("{")]
        door.route(method, [fixed], models.fixed, scopes=_READ, operation=operations.fixed(*names))


def _add_account(door: Door, account: Account, logs: Logs) -> None:
    for method, path, handler, scopes, operation in (
        ("GET", "/v1/me", account.me, _READ, operations.ME),
        ("GET", "/v1/me/rate_limit", account.rate_limit, _READ, operations.RATE_LIMIT),
        ("GET", "/v1/api-tokens", account.tokens, _ADMIN, operations.TOKENS),
        ("POST", "/v1/api-tokens", account.create_token, _ADMIN, operations.CREATE_TOKEN),
        ("GET", "/v1/api-tokens/{token}", account.token, _ADMIN, operations.TOKEN),
        ("DELETE", "/v1/api-tokens/{token}", account.delete_token, _ADMIN, operations.DELETE_TOKEN),
        ("POST", "/v1/scoped-jwt", account.sign_jwt, _RUN, operations.SIGN_JWT),
        ("GET", "/v1/scoped-jwt", account.read_jwt, _READ, operations.READ_JWT),
        ("POST", "/v1/request-costs", account.request_costs, _READ, operations.REQUEST_COSTS),
        ("GET", "/payment/usage", account.usage, (Scope.READ,), operations.USAGE),
        ("GET", "/payment/usage/{token}", account.usage_of_token, (Scope.READ,), operations.USAGE_OF_TOKEN),
    ):
        door.route(method, [path], handler, scopes=scopes, operation=operation)
    door.route("GET", ["/v1/logs/query"], logs.query, scopes=_READ, operation=operations.LOGS, tokens=False)
    for method, path in _MONEY:
        door.route(method, [path], account.fixed, scopes=_READ, operation=operations.fixed())
