"""Select and check the files of a Hub repository that make a model.

A repository is untrusted: what it lists is chosen from by an allow list, and a name that could leave its directory
refuses the whole repository.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, cast

from corral.core.errors import CorralError

CONFIG: Final = "config.json"
INDEX: Final = "model.safetensors.index.json"
_DESCRIPTIONS: Final = (
    CONFIG, "generation_config.json", INDEX, "tokenizer.json", "tokenizer.model", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json",
)  # fmt: skip
_SINGLE: Final = "model.safetensors"
_WEIGHTS: Final = ".safetensors"
_DUPLICATE: Final = "consolidated"
"""Begins the names of the same weights in Meta's own layout."""
_MOST_DESCRIPTION_BYTES: Final = 64 * 2**20
_MOST_WEIGHT_BYTES: Final = 10**12
_MOST_FILES: Final = 1000
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")


class PullFailed(CorralError):
    """A model could not be downloaded; the message says what to do. Raised by commands only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFile:
    """One file as the Hub lists it."""

    name: str
    size_bytes: int
    sha256: str | None
    """Of the content, in hex, for what the Hub keeps outside of Git: all that is large."""
    git_sha1: str
    """Git's name of the file, in hex; of the content itself where there is no ``sha256``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The files of a repository at one commit."""

    repository: str
    commit: str
    """40 hex digits."""
    files: Mapping[str, HubFile]
    """By name; the plain names at the top only, since a model has no others."""


def check_names(names: Iterable[str]) -> None:
    """Reject a repository that lists a path outside of it.

    Raises:
        PullFailed: there is one.
    """
    for name in names:
        if name.startswith("/") or "\\" in name or ".." in name.split("/") or not name.isprintable():
            raise PullFailed(f"The repository lists the file {name[:100]!r}, which is no path inside it.")


def is_wanted(name: str) -> bool:
    """Whether a file may be part of a model: described by the allow list, weights only as safetensors."""
    weights = name.endswith(_WEIGHTS) and not name.startswith(_DUPLICATE)
    return _PLAIN_NAME.fullmatch(name) is not None and (name in _DESCRIPTIONS or weights)


def describing_files(listing: Listing) -> list[HubFile]:
    """Select configuration, tokenizer and index: small files that are enough to check whether the model is supported.

    Raises:
        PullFailed: the repository holds no model, or one of them is absurdly large.
    """
    files = [listing.files[name] for name in _DESCRIPTIONS if name in listing.files]
    if CONFIG not in listing.files:
        raise PullFailed(f"{listing.repository} holds no model: there is no {CONFIG} in it.")
    for file in files:
        if file.size_bytes > _MOST_DESCRIPTION_BYTES:
            raise PullFailed(f"{file.name} of {listing.repository} is too large: {file.size_bytes} bytes.")
    return files


def weight_files(listing: Listing, index: bytes | None) -> list[HubFile]:
    """Select the weight files: those in the index, or all without an index.

    Raises:
        PullFailed: there are none, one is missing, or they are absurdly many or large.
    """
    if index is not None:
        names = _indexed_names(listing.repository, index)
    elif _SINGLE in listing.files:
        names = [_SINGLE]
    else:
        names = sorted(name for name in listing.files if name.endswith(_WEIGHTS))
    if not names:
        raise PullFailed(f"{listing.repository} holds no *.safetensors; weights in other formats are not fetched.")
    if len(names) > _MOST_FILES:
        raise PullFailed(f"{listing.repository} has weights in {len(names)} files; at most {_MOST_FILES} are fetched.")
    for name in names:
        if name not in listing.files:
            raise PullFailed(f"{listing.repository}: {INDEX} names {name}, which is not there.")
    files = [listing.files[name] for name in names]
    if sum(file.size_bytes for file in files) > _MOST_WEIGHT_BYTES:
        raise PullFailed(f"The weights of {listing.repository} are larger than {_MOST_WEIGHT_BYTES} bytes.")
    return files


def _indexed_names(repository: str, index: bytes) -> list[str]:
    try:
        document: object = json.loads(index)
    except (ValueError, RecursionError) as error:
        raise PullFailed(f"{repository}: {INDEX} is not valid JSON.") from error
    weight_map = cast("dict[str, object]", document).get("weight_map") if isinstance(document, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise PullFailed(f"{repository}: {INDEX} has no weight_map.")
    names = set(cast("dict[str, object]", weight_map).values())
    for name in names:
        if not isinstance(name, str) or not name.endswith(_WEIGHTS) or not is_wanted(name):
            raise PullFailed(f"{repository}: {INDEX} names {str(name)[:100]!r}, which is no plain *.safetensors file.")
    return sorted(cast("set[str]", names))
