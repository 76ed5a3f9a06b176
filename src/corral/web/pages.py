"""Shared by all pages: sign-in, rendering, form checks, error pages."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

from fastapi import APIRouter
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Match

from corral.api.head import IS_HEAD
from corral.api.problems import report
from corral.core.caller import Caller
from corral.core.errors import CorralError
from corral.core.pricing import usd
from corral.web.assets import asset_url
from corral.web.dependencies import PageDependencies
from corral.web.errors import TITLES, ForeignForm, SignInNeeded, UnknownPage, status_of
from corral.web.forms import Form, first, read_form
from corral.web.one_time_secrets import OneTimeSecrets
from corral.web.sessions import COOKIE, Session

SIGN_IN: Final = "/sign-in"
FORM_TOKEN: Final = "csrf"  # noqa: S105 - the name of the field
_FORM_TOKEN_HEADER: Final = "x-csrf-token"  # noqa: S105 - the name of the header, for forms that a script sends
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """Request for a page."""

    request: Request
    caller: Caller | None
    """Signed-in caller; None without a session."""
    session: Session | None

    @property
    def signed_in(self) -> Caller:
        """Caller of a page that requires sign-in.

        Raises:
            SignInNeeded: nobody is.
        """
        if self.caller is None:
            raise SignInNeeded("Sign in to do this.")
        return self.caller

    @property
    def by_script(self) -> bool:
        """Whether the page's script requests a part of a page."""
        return self.request.headers.get("hx-request") == "true"


Show = Callable[[Visit], Awaitable[Response]]
Act = Callable[[Visit, Form], Awaitable[Response]]


class Pages:
    """Adds page routes and renders templates."""

    def __init__(self, dependencies: PageDependencies) -> None:
        """Add routes to ``router``."""
        self.dependencies = dependencies
        self.router = APIRouter(include_in_schema=False)
        self._templates = Environment(
            loader=PackageLoader("corral.web"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(usd=usd, iso=_iso, utc=_utc)
        self._secrets = OneTimeSecrets(dependencies.clock)

    def get(self, path: str, show: Show, *, signed_in: bool = True) -> None:
        """Add a page at *path*; requires sign-in unless *signed_in* is False."""

        async def act(visit: Visit) -> Response:
            if signed_in and visit.caller is None:
                return _to_sign_in(visit)
            return await show(visit)

        async def endpoint(request: Request) -> Response:
            return await self._answer(request, act)

        self.router.add_api_route(path, endpoint, methods=["GET"])

    def post(self, path: str, act: Act, *, signed_in: bool = True, page: str = "") -> None:
        """Add a form handler at *path*; the form must carry the session's token.

        Args:
            path: where the form is sent.
            act: does what the form asks, and redirects: a reload must not do it again.
            signed_in: whether a session is needed.
            page: where GET of *path* leads, a template with the path's parameters: the page that has the form. Empty if
                GET of *path* is that page itself.
        """

        async def take(visit: Visit) -> Response:
            _refuse_other_sites(visit.request)
            if not signed_in:
                return await act(visit, await read_form(visit.request))
            _ = visit.signed_in  # before the body of an unauthenticated client is read
            form = await read_form(visit.request)
            self._check_token(visit, form)
            return await act(visit, form)

        async def endpoint(request: Request) -> Response:
            return await self._answer(request, take)

        self.router.add_api_route(path, endpoint, methods=["POST"])
        if page:
            self.router.add_api_route(path, _to_page(page), methods=["GET"])

    def note(self, visit: Visit, subject: str, secret: str) -> None:
        """Keep a *secret* to show once after the redirect."""
        if visit.session is not None:
            self._secrets.put(visit.session, subject, secret)

    def noted(self, visit: Visit, subject: str) -> str | None:
        """Get the secret that ``note`` kept for this session; None if it was shown or has expired."""
        if visit.session is None or visit.request.scope.get(IS_HEAD):
            return None
        return self._secrets.take(visit.session, subject)

    def draw(self, visit: Visit, template: str, values: Mapping[str, Any], *, status: int = 200) -> Response:
        """Render a template as a page with security headers."""
        html = self._templates.get_template(template).render({**self._shared(visit), **values})
        headers = {
            "content-security-policy": _POLICY,
            "referrer-policy": "same-origin",  # with none at all, browsers hide where their own forms come from
            "vary": "cookie, hx-request",
        }
        return Response(html, status, headers=headers, media_type="text/html")

    def _shared(self, visit: Visit) -> dict[str, Any]:
        token = "" if visit.session is None else self.dependencies.sessions.form_token(visit.session)
        field = Markup('<input type="hidden" name="{}" value="{}">').format(FORM_TOKEN, token)
        return {
            "asset": asset_url,
            "caller": visit.caller,
            "here": visit.request.url.path,
            "csrf_token": token,
            "csrf": lambda: field,
            "sign_in_url": _sign_in_url(visit),
        }

    async def refuse(self, request: Request, error: CorralError) -> Response:
        """Render an error page."""

        async def show(_visit: Visit) -> Response:
            raise error

        return await self._answer(request, show)

    def redirect_of(self, request: Request) -> str:
        """The path without final slashes if a page is there, otherwise empty."""
        path = request.url.path.rstrip("/")
        if path == request.url.path or not path:
            return ""
        scope = {**request.scope, "path": unquote(path), "method": "GET"}
        if not any(route.matches(scope)[0] is Match.FULL for route in self.router.routes):
            return ""
        return path + (f"?{request.url.query}" if request.url.query else "")

    async def _answer(self, request: Request, show: Show) -> Response:
        visit = Visit(request=request, caller=None, session=None)
        try:
            _refuse_nul(request)
            visit = await self._visit(request)
            return await show(visit)
        except Exception as error:  # noqa: BLE001 - the outermost edge of every page
            return self._fail(visit, error)

    async def _visit(self, request: Request) -> Visit:
        session = self.dependencies.sessions.read(request.cookies.get(COOKIE, ""))
        if session is None:
            return Visit(request=request, caller=None, session=None)
        caller = await self.dependencies.sign_ins.caller_of(session.digest, key_id=session.key_id)
        return Visit(request=request, caller=caller, session=None if caller is None else session)

    def _check_token(self, visit: Visit, form: Form) -> None:
        token = visit.request.headers.get(_FORM_TOKEN_HEADER) or first(form, FORM_TOKEN)
        if visit.session is None or not self.dependencies.sessions.is_form_token(visit.session, token):
            raise ForeignForm("The form belongs to another session. Reload its page, then submit it again.")

    def _fail(self, visit: Visit, error: Exception) -> Response:
        told = error if isinstance(error, CorralError) else report(error)
        status = status_of(told)
        title = TITLES[status]
        template = "error_part.html" if visit.by_script else "error.html"
        return self.draw(visit, template, {"title": title, "message": str(told)}, status=status)


def redirect(path: str) -> Response:
    """Redirect with 303."""
    return RedirectResponse(path, 303)


def _to_page(template: str) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        parameters = {name: quote(value, safe="") for name, value in request.path_params.items()}
        return redirect(template.format(**parameters))

    return endpoint


def local_path(text: str, *, otherwise: str = "/") -> str:
    """*text* if it is a path on this server, which prevents open redirects after sign-in."""
    parts = urlsplit(text)
    plain = text.isascii() and text.isprintable() and "\\" not in text and not parts.scheme and not parts.netloc
    return text if plain and text.startswith("/") and not text.startswith("//") else otherwise


def _sign_in_url(visit: Visit) -> str:
    url = visit.request.url
    return f"{SIGN_IN}?next={quote(url.path + ('?' + url.query if url.query else ''))}"


def _to_sign_in(visit: Visit) -> Response:
    if not visit.by_script:
        return redirect(_sign_in_url(visit))
    # htmx would insert a whole sign-in page into a part of this one.
    return Response(status_code=401, headers={"hx-redirect": SIGN_IN})


def _refuse_nul(request: Request) -> None:
    """Reject NUL, which PostgreSQL cannot store."""
    if "\x00" in request.scope["path"] or b"%00" in request.scope["query_string"]:
        raise UnknownPage(request.url.path)


def _refuse_other_sites(request: Request) -> None:
    """Reject forms of other sites by the Origin header."""
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers["host"]:
        raise ForeignForm(
            "Form rejected: its Origin header is not the address of this server. Behind a proxy, set 'public_url' to "
            "the address that browsers use."
        )


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")


def _utc(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
