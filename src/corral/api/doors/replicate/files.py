"""File routes: upload, get, list, delete, and download by a signed URL."""

from typing import Final
from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import Response

from corral.api.body import read_body
from corral.api.dependencies import Dependencies
from corral.api.doors.replicate.faults import NotHere
from corral.api.doors.replicate.pages import page
from corral.api.doors.replicate.predictions import as_json
from corral.api.doors.replicate.signed_urls import FILE, opens, token
from corral.api.doors.replicate.times import rfc3339
from corral.api.doors.replicate.uploads import read_upload
from corral.api.doors.replicate.wire import FileAnswer
from corral.api.form import NotAForm, is_form, read_parts
from corral.core.caller import Caller
from corral.core.files import StoredFile
from corral.service.accounts.files import Files

_NO_FILE: Final = "There is no such file."
_INERT: Final = {"content-security-policy": "sandbox; default-src 'none'; frame-ancestors 'none'"}
"""Uploaded content is untrusted: browsers must not run it."""


class FileRoutes:
    """Handlers of the file routes."""

    def __init__(self, dependencies: Dependencies) -> None:
        self._dependencies = dependencies

    async def create(self, request: Request, caller: Caller) -> Response:
        """``POST /files``."""
        content_type = request.headers.get("content-type", "")
        if not is_form(content_type):
            raise NotAForm("Send the file as multipart/form-data, in the part 'content'.")
        body = await read_body(request, limit_bytes=self._dependencies.body_limit_bytes)
        upload = read_upload(await read_parts(body, content_type))
        file = await self._files.keep(caller.account_id, upload)
        answer = self._answer(file, request)
        return as_json(answer, {"location": answer["urls"]["get"]}, status=201)

    async def list(self, request: Request, caller: Caller) -> Response:
        """``GET /files``: all of them, because an account has no more than fit a page."""
        return as_json(page([self._answer(file, request) for file in await self._files.list(caller.account_id)]))

    async def get(self, request: Request, caller: Caller) -> Response:
        """``GET /files/{file_id}``."""
        file = await self._files.get(caller.account_id, request.path_params["file_id"])
        if file is None:
            raise NotHere(_NO_FILE)
        return as_json(self._answer(file, request))

    async def delete(self, request: Request, caller: Caller) -> Response:
        """``DELETE /files/{file_id}``."""
        if not await self._files.remove(caller.account_id, request.path_params["file_id"]):
            raise NotHere(_NO_FILE)
        return Response(status_code=204)

    async def download(self, request: Request) -> Response:
        """``GET /files/{file_id}/download``: needs a signed URL instead of an API key."""
        file_id = request.path_params["file_id"]
        owner, expiry, signature = (request.query_params.get(name, "") for name in ("owner", "expiry", "signature"))
        # Check the signature first: it covers the other parameters, so they are as this server wrote them.
        if not opens(self._dependencies.capability_key, FILE, _subject(owner, file_id, expiry), signature):
            raise NotHere(_NO_FILE)
        found = await self._files.read(owner, file_id) if self._dependencies.clock() < int(expiry) else None
        if found is None:
            raise NotHere(_NO_FILE)
        file, content = found
        headers = {
            **_INERT,
            "content-type": file.content_type,
            "content-disposition": f"attachment; filename*=UTF-8''{quote(file.name, safe='')}",
            "etag": f'"{file.sha256}"',
            "x-content-type-options": "nosniff",
        }
        return Response(content, headers=headers)

    @property
    def _files(self) -> Files:
        if self._dependencies.files is None:
            raise NotHere("This server keeps no files.")
        return self._dependencies.files

    def _answer(self, file: StoredFile, request: Request) -> FileAnswer:
        url = f"{self._dependencies.base_url(request)}/v1/files/{file.id}"
        return {
            "id": file.id,
            "name": file.name,
            "content_type": file.content_type,
            "size": file.size_bytes,
            "etag": file.sha256,
            "checksums": {"sha256": file.sha256, "md5": file.md5},
            "metadata": dict(file.metadata),
            "created_at": rfc3339(file.created_at_ms),
            "expires_at": rfc3339(file.expires_at_ms),
            "urls": {"get": url, "download": f"{url}/download?{self._signed(file)}"},
        }

    def _signed(self, file: StoredFile) -> str:
        """Query of a signed URL that is valid until the file expires."""
        expiry = str(file.expires_at_ms // 1000)
        signature = token(self._dependencies.capability_key, FILE, _subject(file.account_id, file.id, expiry))
        return urlencode({"expiry": expiry, "owner": file.account_id, "signature": signature})


def _subject(owner: str, file_id: str, expiry: str) -> str:
    """String to sign, in the order of Replicate's documentation."""
    return f"{owner} {file_id} {expiry}"
