"""The files API over HTTP and with Replicate's clients, stored in SQLite."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from httpx2 import AsyncClient, Response

from corral.api.app import create_app
from corral.core.accounts import Scope
from corral.service.accounts import files as kept
from corral.service.accounts.accounts import Accounts
from corral.service.accounts.api_keys import ApiKeys, KeyTerms
from corral.service.accounts.files import Files
from corral.store.store import Store
from tests.doors.known_keys import door_dependencies
from tests.doors.live_server import LiveServer, serving
from tests.doors.scripted_predictions import CREATED, ScriptedPredictions
from tests.official_validators import FOLDER, NODE, needs_node

pytestmark = pytest.mark.anyio

VERSION_2 = Path(__file__).parents[3] / ".venv-clients-replicate2" / "bin" / "python"
EVERYWHERE = ("/v1", "", "/v1/v1")
DAY_S = 24 * 3600


@dataclass(kw_only=True)
class FilesServer:
    """A server with file storage and a clock that the test sets."""

    live: LiveServer
    accounts: Accounts
    keys: ApiKeys
    now_s: float = float(CREATED)

    async def key(self, *scopes: Scope) -> str:
        """Create an account with a key; returns the secret."""
        name = f"a{len(await self.accounts.list())}"
        account = await self.accounts.create(name, unlimited=True)
        return await self.create_key(account.id, *scopes)

    async def create_key(self, account_id: str, *scopes: Scope) -> str:
        terms = KeyTerms(name="test", scopes=frozenset(scopes or {Scope.INFERENCE}))
        return (await self.keys.create(account_id, terms))[1]

    async def http(self) -> AsyncClient:
        """HTTP client with a key of a new account."""
        return self.live.http(key=await self.key())


@pytest.fixture(scope="module")
async def files_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FilesServer]:
    store = Store.open(f"sqlite:///{tmp_path_factory.mktemp('files')}/corral.db")

    def clock() -> float:
        return made.now_s if made else float(CREATED)

    made: FilesServer | None = None
    keys = ApiKeys(store, pepper=bytes(32), clock=clock)
    dependencies = door_dependencies(ScriptedPredictions(), keys=keys, clock=clock, files=Files(store, clock=clock))
    async with serving(create_app(dependencies)) as live:
        made = FilesServer(live=live, accounts=Accounts(store, clock=clock), keys=keys)
        yield made
    await store.close()


async def upload(http: AsyncClient, content: bytes = b"hello", name: str = "a.txt", **more: Any) -> dict[str, Any]:
    """Upload a file over HTTP; asserts status 201."""
    answer = await http.post("/v1/files", files={"content": (name, content, "text/plain")}, **more)
    assert answer.status_code == 201, answer.text
    return answer.json()


def problem(answer: Response) -> Mapping[str, Any]:
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == answer.status_code
    return answer.json()


@needs_node
async def test_node_client_creates_reads_lists_and_deletes_files(files_server: FilesServer) -> None:
    process = await asyncio.create_subprocess_exec(
        *(NODE, "replicate_files.mjs", f"{files_server.live.url}/v1", await files_server.key()),
        cwd=FOLDER, env={"PATH": os.defpath}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    said = json.loads(output)
    created, buffered = said["created"], said["buffered"]
    assert (created["name"], created["content_type"], created["size"]) == ("node.txt", "text/plain", 9)
    assert created["metadata"] == {"customer": 7}
    assert (buffered["content_type"], buffered["size"], buffered["metadata"]) == ("application/octet-stream", 2, {})
    assert said["read"] == created
    assert {each["id"] for each in said["listed"]["results"]} == {created["id"], buffered["id"]}
    assert (said["deleted"], said["after"]) == (True, [buffered["id"]])


@pytest.mark.skipif(not VERSION_2.exists() and os.environ.get("CI") != "true", reason="`make client-deps` has not run")
async def test_version_2_client_manages_and_downloads_files(files_server: FilesServer) -> None:
    process = await asyncio.create_subprocess_exec(
        *(VERSION_2, Path(__file__).with_name("version_2_files.py")),
        env={
            "PATH": os.defpath,
            "REPLICATE_BASE_URL": files_server.live.url,
            "REPLICATE_API_TOKEN": await files_server.key(),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    assert output.decode().splitlines()[-1] == "every call answered"


async def test_file_routes_are_under_every_prefix(files_server: FilesServer) -> None:
    async with await files_server.http() as http:
        for prefix in EVERYWHERE:
            made = await http.post(f"{prefix}/files", files={"content": ("a", b"x")})
            path = f"{prefix}/files/{made.json()['id']}"
            assert made.headers["location"] == made.json()["urls"]["get"]
            assert (await http.get(path)).json() == made.json()
            assert (await http.head(path)).status_code == 200
            query = urlsplit(made.json()["urls"]["download"]).query
            assert (await http.get(f"{path}/download?{query}")).content == b"x"
            assert (await http.get(f"{prefix}/files")).json() == {
                "previous": None,
                "next": None,
                "results": [made.json()],
            }
            gone = await http.delete(path)
            assert (gone.status_code, gone.content) == (204, b"")
            assert problem(await http.delete(path))["title"] == "Not found"


async def test_download_is_an_attachment(files_server: FilesServer) -> None:
    page = b"<script>alert(1)</script>"
    name = 'é";\\ x=1/../y.html'
    async with await files_server.http() as http, files_server.live.http(key=None) as anonymous_client:
        made = (
            await http.post(
                "/v1/files",
                files={"content": ("a.html", page, "text/html")},
                data={"filename": name, "type": "text/html; charset=utf-8"},
            )
        ).json()
        answer = await anonymous_client.get(made["urls"]["download"])
    assert made["name"] == name
    assert answer.content == page
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-disposition"] == (
        "attachment; filename*=UTF-8''%C3%A9%22%3B%5C%20x%3D1%2F..%2Fy.html"
    )
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert answer.headers["etag"] == f'"{made["etag"]}"'


async def test_modified_download_url_is_404(files_server: FilesServer) -> None:
    async with (
        await files_server.http() as http,
        await files_server.http() as other,
        files_server.live.http(key=None) as anonymous_client,
    ):
        made, second, foreign = await upload(http), await upload(http), await upload(other)
        url = made["urls"]["download"]
        parts = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        assert len(parts["signature"]) == 52
        signature = parts["signature"]
        changed = [
            url.replace(made["id"], second["id"]),
            url.replace(parts["owner"], parse_qs(urlsplit(foreign["urls"]["download"]).query)["owner"][0]),
            url.replace(parts["expiry"], str(int(parts["expiry"]) + 1)),
            url.replace(parts["expiry"], f"+{parts['expiry']}"),
            url.replace(signature, signature[:-1] + ("a" if signature[-1] != "a" else "b")),
            url.replace(signature, signature.upper()),
            url.replace(signature, "%C3%A9"),
            url.replace(signature, ""),
            url.partition("?")[0],
        ]
        for address in changed:
            answer = await anonymous_client.get(address)
            assert (answer.status_code, problem(answer)["detail"]) == (404, "There is no such file."), address
        assert (await anonymous_client.get(url)).status_code == 200


async def test_file_and_download_url_expire_after_a_day(files_server: FilesServer) -> None:
    async with await files_server.http() as http, files_server.live.http(key=None) as anonymous_client:
        made = await upload(http)
        began_s = files_server.now_s
        try:
            files_server.now_s = began_s + DAY_S - 1
            assert (await anonymous_client.get(made["urls"]["download"])).status_code == 200
            files_server.now_s = began_s + DAY_S
            assert (await anonymous_client.get(made["urls"]["download"])).status_code == 404
            assert (await http.get(made["urls"]["get"])).status_code == 404
            assert (await http.get("/v1/files")).json()["results"] == []
        finally:
            files_server.now_s = began_s


async def test_reading_needs_the_scope_read_and_writing_inference(files_server: FilesServer) -> None:
    secret = await files_server.key()
    caller = await files_server.keys.authenticate(secret)
    assert caller is not None
    reader = await files_server.create_key(caller.account_id, Scope.READ)
    nobody = await files_server.create_key(caller.account_id, Scope.ADMIN)
    async with files_server.live.http(key=secret) as http:
        made = await upload(http)
    path = f"/v1/files/{made['id']}"
    for key, reads in ((reader, 200), (nobody, 403)):
        async with files_server.live.http(key=key) as http:
            refused = await http.post("/v1/files", files={"content": ("a", b"x")})
            assert problem(refused)["title"] == "Permission denied"
            assert problem(await http.delete(path))["title"] == "Permission denied"
            assert [(await http.get(url)).status_code for url in ("/v1/files", path)] == [reads, reads]
    async with await files_server.http() as other:
        assert [(await other.request(method, path)).status_code for method in ("GET", "DELETE")] == [404, 404]


@pytest.mark.parametrize(
    ("parts", "fields"),
    [
        ([("metadata", (None, b"{}"))], ["content"]),
        ([("content", (None, b"text"))], ["content"]),
        ([("content", ("a", b"x")), ("content", ("b", b"y"))], ["content"]),
        ([("content", ("a", b"x")), ("owner", (None, b"me"))], [""]),
        ([("content", ("a" * 256, b"x"))], ["filename"]),
        ([("content", ("a", b"x")), ("filename", (None, "a\u202eb".encode()))], ["filename"]),
        ([("content", ("a", b"x")), ("filename", (None, b"a\r\nb"))], ["filename"]),
        ([("content", ("a", b"x", "text"))], ["type"]),
        ([("content", ("a", b"x")), ("type", (None, b"text/html\r\nset-cookie: a=b"))], ["type"]),
        ([("content", ("a", b"x")), ("type", (None, b"text/" + b"x" * 123))], ["type"]),
        ([("content", ("a", b"x")), ("metadata", (None, b"[]"))], ["metadata"]),
        ([("content", ("a", b"x")), ("metadata", (None, b"{"))], ["metadata"]),
        ([("content", ("a", b"x")), ("metadata", (None, b'{"a":"' + b"b" * 4089 + b'"}'))], ["metadata"]),
        ([("content", ("a", b"x", "?")), ("metadata", (None, b"1"))], ["type", "metadata"]),
    ],
)
async def test_invalid_upload_part_is_named(
    files_server: FilesServer, parts: list[tuple[str, tuple[str | None, bytes]]], fields: list[str]
) -> None:
    async with await files_server.http() as http:
        refused = problem(await http.post("/v1/files", files=parts))
        assert (refused["status"], refused["title"]) == (422, "Input validation failed")
        assert [fault["field"] for fault in refused["invalid_fields"]] == fields
        assert (await http.get("/v1/files")).json()["results"] == []


async def test_upload_that_is_not_a_form_or_too_large_is_rejected(files_server: FilesServer) -> None:
    async with await files_server.http() as http:
        for content_type in ("application/json", "multipart/form-data", "multipart/form-data; boundary=x"):
            answer = await http.post("/v1/files", content=b"{}", headers={"content-type": content_type})
            assert (answer.status_code, problem(answer)["title"]) == (400, "Bad request"), content_type
        large = await http.post("/v1/files", files={"content": ("a", bytes(2 * 1024**2))})
        assert problem(large)["title"] == "Request body too large"
        most = await upload(http, bytes(2 * 1024**2 - 1024))
        assert most["size"] == 2 * 1024**2 - 1024


async def test_file_quota_of_an_account_is_reported(files_server: FilesServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MAX_FILES", 2)
    async with await files_server.http() as http:
        made = [await upload(http) for _ in range(2)]
        answer = await http.post("/v1/files", files={"content": ("a", b"x")})
        assert (answer.status_code, problem(answer)["invalid_fields"][0]["field"]) == (422, "content")
        assert (await http.delete(made[0]["urls"]["get"])).status_code == 204
        await upload(http)
