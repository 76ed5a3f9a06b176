"""Shared by all doors: authentication, scopes, error responses."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from fastapi import APIRouter
from pydantic import ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from corral.api.auth import KeyRing, authenticate
from corral.api.disconnect import ClientGone
from corral.api.operation import Operation
from corral.api.problems import Problem, from_validation, report
from corral.catalog.catalog import Catalog
from corral.core.accounts import Scope
from corral.core.caller import Caller
from corral.core.errors import CorralError, UnknownModel

Handler = Callable[[Request, Caller], Awaitable[Response]]
OpenHandler = Callable[[Request], Awaitable[Response]]

_CLIENT_GONE_STATUS = 499
"""Never received by a client; the access log shows it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """Adds routes that require an API key with a scope and return errors in the format of one API."""

    keys: KeyRing
    from_error: Callable[[CorralError], Problem]
    router: APIRouter
    catalog: Catalog
    """Models that the error of an unknown model lists."""
    from_validation: Callable[[ValidationError], Problem] = from_validation
    """Builds the response to invalid fields."""
    key_header: str | None = None
    """Header that may hold the bare key if there is no ``Authorization``."""

    def route(
        self,
        method: str,
        paths: Sequence[str],
        handler: Handler,
        *,
        scopes: tuple[Scope, ...],
        operation: Operation,
        tokens: bool = True,
    ) -> None:
        """Add *handler* at each of *paths* for API keys with one of *scopes*; *operation* documents it.

        *tokens* tells whether tokens that such a key signed are served as well.
        """

        async def let_in(request: Request) -> Response:
            caller = await authenticate(request, self.keys, other_header=self.key_header)
            caller.require(*scopes)
            if not tokens:
                caller.require_key()
            try:
                return await handler(request, caller)
            except UnknownModel as error:
                raise self._with_names(error, caller) from None

        self._add(method, paths, let_in, name=handler.__name__, operation=operation)

    def open_route(self, method: str, paths: Sequence[str], handler: OpenHandler, *, operation: Operation) -> None:
        """Add *handler* at each of *paths* without authentication; *operation* documents it."""
        self._add(method, paths, handler, name=handler.__name__, operation=operation)

    def _add(self, method: str, paths: Sequence[str], handler: OpenHandler, *, name: str, operation: Operation) -> None:
        for path in paths:
            self.router.add_api_route(
                path,
                self._guard(handler),
                methods=[method],
                name=name,
                status_code=operation.success,
                response_class=Response,  # of no media type: the operation says which
                summary=operation.summary,
                openapi_extra=operation.as_openapi(),
            )

    def refuse(self, error: Exception, caller: Caller | None = None) -> Problem:
        """Build the response to any exception; unexpected ones are logged and returned as an id.

        The error of an unknown model names those that *caller* may use; all of them to somebody without an API key.
        """
        match error:
            case UnknownModel():
                return self.from_error(self._with_names(error, caller))
            case ValidationError():
                return self.from_validation(error)
            case CorralError():
                return self.from_error(error)
            case _:
                return self.from_error(report(error))

    def _with_names(self, error: UnknownModel, caller: Caller | None) -> UnknownModel:
        if error.has_names:
            return error
        names = [model.id for model in self.catalog.models() if caller is None or caller.may_use(model.id)]
        return UnknownModel(error.model, served=names)

    def _guard(self, handler: OpenHandler) -> OpenHandler:
        async def endpoint(request: Request) -> Response:
            try:
                return await handler(request)
            except (ClientGone, ClientDisconnect) as gone:
                report(gone)
                return Response(status_code=_CLIENT_GONE_STATUS)
            except Exception as error:  # noqa: BLE001 - the outermost edge of every route
                return self.refuse(error).response()

        return endpoint
