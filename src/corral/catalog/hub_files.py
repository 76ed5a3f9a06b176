"""Select and check the files of a Hub repository that make a model.

A repository is untrusted: what it lists is chosen from by an allow list, and a name that could leave its directory
refuses the whole repository.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from corral.checkpoints.directory import CONFIG
from corral.checkpoints.directory_kinds import foreign_kind, without_weights
from corral.checkpoints.weight_files import INDEX, choose_weight_files, is_weight_file
from corral.core.errors import CheckpointRefused, CorralError

_DESCRIPTIONS: Final = (
    CONFIG, "generation_config.json", INDEX, "tokenizer.json", "tokenizer.model", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json",
)  # fmt: skip
_MOST_DESCRIPTION_BYTES: Final = 64 * 2**20
_MOST_WEIGHT_BYTES: Final = 10**12
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_GGUF_NAME: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,99}/)?[A-Za-z0-9][A-Za-z0-9._-]{0,149}\.gguf")


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

    @property
    def local_name(self) -> str:
        """Name of the downloaded file: without the folder that it has in the repository."""
        return self.name.rpartition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The files of a repository at one commit."""

    repository: str
    commit: str
    """40 hex digits."""
    files: Mapping[str, HubFile]
    """Files that may be part of a model, by name: those at the top, and GGUF files also one folder below it."""
    names: frozenset[str] = frozenset()
    """All names at the top; those of directories end with a slash."""


def check_names(names: Iterable[str]) -> None:
    """Reject a repository that lists a path outside of it.

    Raises:
        PullFailed: there is one.
    """
    for name in names:
        if name.startswith("/") or "\\" in name or ".." in name.split("/") or not name.isprintable():
            raise PullFailed(f"The repository lists the file {name[:100]!r}, which is no path inside it.")


def is_wanted(name: str) -> bool:
    """Whether a file may be part of a model: described by the allow list, weights only as safetensors or GGUF."""
    if _GGUF_NAME.fullmatch(name) is not None:
        return True
    return _PLAIN_NAME.fullmatch(name) is not None and (name in _DESCRIPTIONS or is_weight_file(name))


def describing_files(listing: Listing) -> list[HubFile]:
    """Select configuration, tokenizer and index: small files that are enough to check whether the model is supported.

    Raises:
        PullFailed: the repository holds no model that is read, or one of them is absurdly large.
    """
    files = [listing.files[name] for name in _DESCRIPTIONS if name in listing.files]
    if (foreign := foreign_kind(listing.names)) is not None:
        raise PullFailed(foreign.of(listing.repository))
    if INDEX not in listing.files and not any(map(is_weight_file, listing.files)):
        raise PullFailed(without_weights(listing.names, listing.repository).of(listing.repository))
    if CONFIG not in listing.files:
        raise PullFailed(f"{listing.repository} holds no model: there is no {CONFIG} in it.")
    for file in files:
        if file.size_bytes > _MOST_DESCRIPTION_BYTES:
            raise PullFailed(f"{file.name} of {listing.repository} is too large: {file.size_bytes} bytes.")
    return files


def weight_files(listing: Listing, index: bytes | None) -> list[HubFile]:
    """Select the weight files, as a directory with these files is read.

    Raises:
        PullFailed: one is missing, or they are absurdly many.
    """
    try:
        names = choose_weight_files(listing.files.keys(), index)
    except CheckpointRefused as error:
        raise PullFailed(f"{listing.repository}: {error}") from error
    return [listing.files[name] for name in names]


def check_size(listing: Listing, files: Iterable[HubFile]) -> None:
    """Refuse weights of an absurd size.

    Raises:
        PullFailed: they are.
    """
    if sum(file.size_bytes for file in files) > _MOST_WEIGHT_BYTES:
        raise PullFailed(f"The weights of {listing.repository} are larger than {_MOST_WEIGHT_BYTES} bytes.")
