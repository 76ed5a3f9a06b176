"""The HTTP application: doors, health, and middleware."""

from collections.abc import Collection
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.telemetry import TelemetryConfig
from starlette.types import Lifespan

import corral
from corral.api import deployments, models
from corral.api.addresses import Addresses
from corral.api.body import BodyLimit
from corral.api.cors import Cors
from corral.api.covers import cover
from corral.api.dependencies import Dependencies
from corral.api.doors.deepinfra import operations as deepinfra_operations
from corral.api.doors.deepinfra import routes as deepinfra
from corral.api.doors.openai import operations as openai_operations
from corral.api.doors.openai import routes as openai
from corral.api.doors.replicate import operations as replicate_operations
from corral.api.doors.replicate.routes import replicate_door
from corral.api.guards import HostCheck, SecurityHeaders
from corral.api.head import HeadAsGet
from corral.api.health import Health, health
from corral.api.operation import Operation, schemas
from corral.api.request_ids import RequestIds
from corral.api.unrouted import StopGate, UnroutedRequests
from corral.core.server_state import ServerState

# FastAPI's telemetry would put exception messages, which may quote callers' data, into traces and logs.
_NO_TELEMETRY: TelemetryConfig = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}


_HEALTH = Operation(summary="Whether the model can answer", answer=Health, error=Health, statuses=(503,), open=True)


class _Api(FastAPI):
    """FastAPI with the types of the doors in its OpenAPI document."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            document = get_openapi(title=self.title, version=self.version, routes=self.routes)
            document["components"] = {
                "schemas": schemas(
                    (
                        Health,
                        *openai_operations.TYPES,
                        *replicate_operations.TYPES,
                        *models.TYPES,
                        *deepinfra_operations.TYPES,
                        *deployments.TYPES,
                    )
                ),
                "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            }
            self.openapi_schema = document
        return self.openapi_schema


def create_app(
    dependencies: Dependencies,
    *,
    lifespan: Lifespan[FastAPI] | None = None,
    allowed_hosts: Collection[str] = (),
    cors_origins: Collection[str] = (),
) -> FastAPI:
    """Compose the application.

    Args:
        dependencies: of the doors.
        lifespan: run around serving; starts and stops the services.
        allowed_hosts: host names served beside the loopback ones; ``*`` serves any.
        cors_origins: origins of web pages that may call this server with an API key; ``*`` is any.
    """
    # The Swagger page loads scripts from a CDN, and slash redirects are built from the Host header.
    app = _Api(
        title="Corral",
        version=corral.__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry=_NO_TELEMETRY,
    )
    unrouted = UnroutedRequests(Addresses(app), dependencies.base_url)
    app.add_exception_handler(404, unrouted.unknown)
    app.add_exception_handler(405, unrouted.other_method)
    app.add_exception_handler(Exception, unrouted.failed)
    app.add_api_route("/health", health(dependencies.predictions), methods=["GET"], openapi_extra=_HEALTH.as_openapi())
    app.add_api_route(
        "/static/covers/{file}", cover(dependencies.predictions.catalog), methods=["GET"], include_in_schema=False
    )
    replicate = replicate_door(dependencies)
    app.include_router(replicate.router)
    app.include_router(openai.router(dependencies))
    app.include_router(models.router(dependencies, replicate))
    app.include_router(deepinfra.router(dependencies, variants=openai_operations.DIALOGUES))
    if dependencies.deployments is not None:
        app.include_router(deployments.router(dependencies, dependencies.deployments))
    # Added last runs first.
    app.add_middleware(BodyLimit, limit_bytes=dependencies.body_limit_bytes, limit_s=dependencies.body_limit_s)
    app.add_middleware(HeadAsGet)
    app.add_middleware(StopGate, is_stopping=lambda: dependencies.predictions.status.state is ServerState.STOPPING)
    app.add_middleware(HostCheck, allowed=allowed_hosts)
    app.add_middleware(SecurityHeaders)
    if cors_origins:
        app.add_middleware(Cors, origins=cors_origins)
    app.add_middleware(RequestIds)
    return app
