"""Client of the Hugging Face Hub, over its own library: list a repository, download a file, resume a download.

Every request goes through the client made here, which sends the token only to the Hub, never falls back to a
connection without TLS, and limits the size of responses. The library's own download keeps nothing if its process ends,
so files are downloaded here, by plain HTTP with ranges. Its Xet protocol is not used, because it has its own checksums.
The library's environment variables (``HF_ENDPOINT``, ``HF_HUB_*``) and stored token are ignored: URL and token are
passed in, and its telemetry is off.
"""

import errno
import os
import re
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

import httpx2
from huggingface_hub import HfApi, constants, hf_hub_url
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, RevisionNotFoundError
from huggingface_hub.hf_api import RepoSibling
from huggingface_hub.utils import close_session, get_session, hf_raise_for_status, set_client_factory
from huggingface_hub.utils import logging as hub_logging

import corral
from corral.catalog.hub_files import HubFile, Listing, PullFailed, check_names, is_wanted
from corral.checkpoints.directory_kinds import top_level

_MOST_LISTING_BYTES: Final = 16 * 2**20
_MOST_REFUSAL_BYTES: Final = 2**20
_MOST_LISTED: Final = 20_000
_MOST_REDIRECTS: Final = 5
_TIMEOUT_S: Final = 30.0
_DELAYS_S: Final = (0.0, 1.0, 4.0)
"""Delay before each retry of a broken download; counted from the start again when new bytes were received."""
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_LOOPBACK: Final = {"localhost", "127.0.0.1", "::1"}
_FULL: Final = {errno.ENOSPC, errno.EDQUOT}


class Hub:
    """Client of a Hub, with or without a token. Use as a context manager, one at a time in a process."""

    def __init__(self, url: str, token: str | None) -> None:
        """Open.

        Args:
            url: ``https://host`` of the Hub, without a path.
            token: of an account there.

        Raises:
            PullFailed: the URL is invalid, or the token would be sent without TLS.
        """
        self._url = url.rstrip("/")
        self._token = token
        try:
            place = httpx2.URL(self._url)
            self._origin = place.origin
        except (httpx2.InvalidURL, ValueError) as error:
            raise PullFailed(f"hub_url: '{url}' is not a URL such as https://huggingface.co.") from error
        if token is not None and place.scheme != "https" and place.host not in _LOOPBACK:
            raise PullFailed(
                f"The token is not sent to {self._url}: without https, others could read it. "
                "Set hub_url to an https URL, or pull without a token."
            )

    def __enter__(self) -> Self:
        constants.HF_HUB_DISABLE_TELEMETRY = True
        hub_logging.set_verbosity_error()
        set_client_factory(self._make_client)
        return self

    def __exit__(self, *_: object) -> None:
        close_session()

    def list_files(self, repository: str, revision: str | None) -> Listing:
        """List the files of a repository at a branch, tag or commit; None is its main branch.

        Raises:
            PullFailed: it does not exist or may not be read, or the response is not valid.
        """
        api = HfApi(endpoint=self._url, token=self._token or False)
        with self._sentences(repository, revision):
            try:
                info = api.model_info(repository, revision=revision, files_metadata=True, timeout=_TIMEOUT_S)
            except HFValidationError as error:
                raise PullFailed(f"'{repository}' is not the name of a repository, such as owner/name.") from error
            except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
                raise self._no_hub() from error
        siblings = info.siblings or []
        if not isinstance(info.sha, str) or _COMMIT.fullmatch(info.sha) is None or len(siblings) > _MOST_LISTED:
            raise self._no_hub()
        if revision is not None and _COMMIT.fullmatch(revision) and info.sha != revision:
            raise self._no_hub()
        if not all(isinstance(sibling.rfilename, str) for sibling in siblings):  # pyright: ignore[reportUnnecessaryIsInstance] - taken from JSON as it is
            raise self._no_hub()
        paths = [sibling.rfilename for sibling in siblings]
        check_names(paths)
        files = {sibling.rfilename: self._file(sibling) for sibling in siblings if is_wanted(sibling.rfilename)}
        return Listing(repository=repository, commit=info.sha, files=files, names=top_level(paths))

    def fetch(self, listing: Listing, file: HubFile, part: Path, advance: Callable[[int], None]) -> None:
        """Download the missing bytes of a file into *part*. Received bytes are kept if the download fails.

        Args:
            listing: where the file is listed.
            file: one of its files.
            part: a file with the first bytes, or none yet.
            advance: called with the number of bytes received; negative if kept bytes must be downloaded again.

        Raises:
            PullFailed: the Hub refuses, or the network or the disk fails.
        """
        delays_s = iter(_DELAYS_S)
        while True:
            before = _size(part)
            try:
                with self._sentences(listing.repository, listing.commit):
                    return self._transfer(listing, file, part, advance)
            except PullFailed as error:
                if not isinstance(error.__cause__, httpx2.TransportError):
                    raise
                if _size(part) > before:
                    delays_s = iter(_DELAYS_S)
                delay_s = next(delays_s, None)
                if delay_s is None:
                    raise
                time.sleep(delay_s)

    def _transfer(self, listing: Listing, file: HubFile, part: Path, advance: Callable[[int], None]) -> None:
        url = hf_hub_url(listing.repository, file.name, revision=listing.commit, endpoint=self._url)
        headers = {} if self._token is None else {"Authorization": f"Bearer {self._token}"}
        with open(part, "ab", buffering=0, opener=_open_privately) as out:
            done = out.tell()
            if done == file.size_bytes:
                return
            if done:
                headers["Range"] = f"bytes={done}-"
            with get_session().stream("GET", url, headers=headers) as response:
                hf_raise_for_status(response)
                if done and response.status_code != 206:
                    out.truncate(0)
                    advance(-done)
                    done = 0
                elif done and not response.headers.get("Content-Range", "").startswith(f"bytes {done}-"):
                    raise self._no_hub()
                for chunk in response.iter_bytes():
                    done += len(chunk)
                    if done > file.size_bytes:
                        raise PullFailed(
                            f"{self._url} sent more for {file.name} than the {file.size_bytes} bytes that it lists."
                        )
                    _write(out.fileno(), chunk)
                    advance(len(chunk))
        if done < file.size_bytes:
            raise PullFailed(f"{file.name}: {done} of {file.size_bytes} bytes were received. Pull again to continue.")

    def _make_client(self) -> httpx2.Client:
        return httpx2.Client(
            event_hooks={"request": [self._guard], "response": [self._bound]},
            follow_redirects=True,
            max_redirects=_MOST_REDIRECTS,
            timeout=_TIMEOUT_S,
        )

    def _guard(self, request: httpx2.Request) -> None:
        """Called with every request, redirected ones included."""
        if request.url.origin != self._origin:
            request.headers.pop("Authorization", None)
            if self._url.startswith("https:") and request.url.scheme != "https":
                raise PullFailed(
                    f"{self._url} redirects to {request.url.host} without https, where anybody could change the files."
                )
        request.headers["User-Agent"] = f"corral/{corral.__version__}"
        request.headers["Accept-Encoding"] = "identity"  # ranges and sizes are those of the file

    def _bound(self, response: httpx2.Response) -> None:
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise self._no_hub()
        is_listing = response.request.url.path.startswith("/api/models/")
        if is_listing or not response.is_success:
            most_bytes = _MOST_LISTING_BYTES if is_listing else _MOST_REFUSAL_BYTES
            assert isinstance(response.stream, httpx2.SyncByteStream)
            response.stream = _BoundedStream(response.stream, most_bytes, self._no_hub())

    def _file(self, sibling: RepoSibling) -> HubFile:
        sha256 = None if sibling.lfs is None else sibling.lfs.sha256
        size, git_sha1 = sibling.size, sibling.blob_id
        if not isinstance(size, int) or size < 0 or not _matches(_COMMIT, git_sha1):
            raise self._no_hub()
        if sha256 is not None and not _matches(_SHA256, sha256):
            raise self._no_hub()
        return HubFile(name=sibling.rfilename, size_bytes=size, sha256=sha256, git_sha1=git_sha1 or "")

    @contextmanager
    def _sentences(self, repository: str, revision: str | None) -> Generator[None]:
        """Convert exceptions to ``PullFailed`` with one sentence."""
        try:
            yield
        except HfHubHTTPError as error:
            raise PullFailed(self._refusal(error, repository, revision)) from error
        except httpx2.TransportError as error:
            raise PullFailed(
                f"The connection to {self._url} or to its file storage failed ({type(error).__name__}). "
                "The bytes received are kept; pull again to continue."
            ) from error
        except OSError as error:
            if error.errno in _FULL:
                raise PullFailed(
                    "The disk is full. The bytes received are kept; free space, then pull again."
                ) from error
            raise PullFailed(f"The download cannot be written: {error.strerror}.") from error
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise self._no_hub() from error

    def _refusal(self, error: HfHubHTTPError, repository: str, revision: str | None) -> str:
        """Convert an error status to an error that says what to do."""
        advice = "set a token with --token or in HF_TOKEN"
        anonymous = self._token is None
        match error, error.response.status_code:
            case GatedRepoError(), _:
                return self._gate(repository, advice)
            case RevisionNotFoundError(), _:
                return f"{repository} has no revision '{revision}'."
            case _, 401 if not anonymous:
                return f"{self._url} does not accept the token of --token or HF_TOKEN: it may be revoked or expired."
            case _, 401 | 404:
                seen = f", or it is private: {advice}" if anonymous else " that this token may read"
                return f"{self._url} has no model {repository}{seen}."
            case _, 403:
                return f"{self._url} denies access to {repository}" + (
                    f": {advice}." if anonymous else " to this token."
                )
            case _, status:
                return f"{self._url} answered with status {status}. The bytes received are kept; pull again later."

    def _gate(self, repository: str, advice: str) -> str:
        whose = "Meta's" if repository.lower().startswith("meta-llama/") else "its"
        accept = f"accept {whose} licence at {self._url}/{repository}"
        if self._token is None:
            return f"{repository} is gated: {accept}, then {advice}."
        return (
            f"{repository} is gated, and this token's account may not read it: {accept} with that account, wait until "
            "access is granted, and check that the token may read gated repositories."
        )

    def _no_hub(self) -> PullFailed:
        return PullFailed(f"The response of {self._url} is not one of a Hugging Face Hub; check the setting hub_url.")


class _BoundedStream(httpx2.SyncByteStream):
    """Response stream with a size limit; raises an error beyond it."""

    def __init__(self, stream: httpx2.SyncByteStream, most_bytes: int, refusal: PullFailed) -> None:
        self._stream = stream
        self._left_bytes = most_bytes
        self._refusal = refusal

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._stream:
            self._left_bytes -= len(chunk)
            if self._left_bytes < 0:
                raise self._refusal
            yield chunk

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _open_privately(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _write(descriptor: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(descriptor, view) :]
