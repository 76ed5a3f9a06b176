"""Sign-in with an API key or a one-time link, and sign-out."""

from typing import Final

from starlette.responses import Response

from corral.web.forms import Form, first
from corral.web.pages import SIGN_IN, Pages, Visit, local_path, redirect
from corral.web.sessions import COOKIE, SESSION_S

MAX_KEY_CHARS: Final = 512
_NOT_KNOWN: Final = "That is no API key of this server, or it was revoked or has expired."
_LINK_USED: Final = "This link was used before, or is too old. Sign in with an API key."


class SignIn:
    """Sign-in and sign-out pages."""

    def __init__(self, pages: Pages) -> None:
        """Add the routes."""
        self._pages = pages
        self._dependencies = pages.dependencies
        pages.get(SIGN_IN, self.show, signed_in=False)
        pages.post(SIGN_IN, self.sign_in, signed_in=False)
        pages.post("/sign-out", self.sign_out, page="/")

    async def show(self, visit: Visit) -> Response:
        """``GET /sign-in``. A link's token is in the URL fragment, which no server receives."""
        return self._draw(visit, next_=local_path(visit.request.query_params.get("next", "/")))

    async def sign_in(self, visit: Visit, form: Form) -> Response:
        """``POST /sign-in`` with ``key`` or, from the page's script, ``link``."""
        next_, link = local_path(first(form, "next")), first(form, "link")
        if link:
            key_id = self._dependencies.links.take(link)
            fault = _LINK_USED
        else:
            secret = first(form, "key").strip()
            caller = await self._dependencies.keys.authenticate(secret) if 0 < len(secret) <= MAX_KEY_CHARS else None
            # A session has the rights of its API key, which a scoped token may not have.
            key_id = None if caller is None or caller.token is not None else caller.key_id
            fault = _NOT_KNOWN
        if key_id is None:
            return self._draw(visit, next_=next_, fault=fault, status=401)
        session = self._dependencies.sessions.make(key_id)
        await self._dependencies.sign_ins.begin(session.digest, key_id=key_id, expires_at_s=session.expires_at_s)
        if visit.session is not None:
            # The browser replaces its cookie: end the old session.
            await self._dependencies.sign_ins.end(visit.session.digest)
        answer = redirect(next_)
        answer.set_cookie(
            COOKIE,
            self._dependencies.sessions.cookie(session),
            max_age=SESSION_S,
            httponly=True,
            samesite="strict",
            secure=self._is_secure(visit),
        )
        return answer

    async def sign_out(self, visit: Visit, _form: Form) -> Response:
        """``POST /sign-out``: ends the session on the server, so that copies of the cookie are invalid."""
        if visit.session is not None:
            await self._dependencies.sign_ins.end(visit.session.digest)
        answer = redirect("/")
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return answer

    def _is_secure(self, visit: Visit) -> bool:
        return (self._dependencies.public_url or str(visit.request.url)).startswith("https:")

    def _draw(self, visit: Visit, *, next_: str, fault: str = "", status: int = 200) -> Response:
        return self._pages.draw(visit, "sign_in.html", {"next": next_, "fault": fault}, status=status)
