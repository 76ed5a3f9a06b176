"""Select the GGUF files of a Hub repository that make one model: a file, or all parts of a split one."""

from typing import Final

from corral.catalog.hub_files import HubFile, Listing, PullFailed
from corral.checkpoints.gguf_names import MOST_PARTS, SUFFIX, PartName, first_names
from corral.checkpoints.weight_files import INDEX, is_weight_file

_MOST_SHOWN: Final = 30
_NO_MODEL: Final = ("mmproj", "imatrix")
"""Beginnings of files with the image part of a model, or with figures for its quantization."""


def holds_only_gguf(listing: Listing) -> bool:
    """Return whether a repository has GGUF models, and no weights in the Transformers format."""
    return bool(_models(listing)) and INDEX not in listing.files and not any(map(is_weight_file, listing.files))


def gguf_files(listing: Listing, chosen: str | None) -> list[HubFile]:
    """Select the files of one model, the first part first.

    Args:
        listing: of the repository.
        chosen: the file, or the first part, with or without its folder; None if the repository has only one model.

    Raises:
        PullFailed: there is no such file, there are several to choose from, or a part is missing.
    """
    models = _models(listing)
    if chosen is None:
        if len(models) > 1:
            raise PullFailed(
                f"{listing.repository} holds {len(models)} GGUF models. Choose one with --file: {_listed(models)}."
            )
        return _parts(listing, models[0])
    found = [name for name in listing.files if name.endswith(SUFFIX) and chosen in (name, _base(name))]
    if len(found) != 1:
        raise PullFailed(
            f"{listing.repository} has {'no' if not found else 'more than one'} file {chosen!r} (--file). "
            f"Its GGUF models are: {_listed(models) or 'none'}."
        )
    return _parts(listing, found[0])


def _models(listing: Listing) -> list[str]:
    return [name for name in first_names(listing.files) if not _base(name).startswith(_NO_MODEL)]


def _parts(listing: Listing, name: str) -> list[HubFile]:
    folder, base = name[: -len(_base(name))], _base(name)
    part = PartName.parse(base)
    if part is None:
        return [listing.files[name]]
    if part.number > 1:
        raise PullFailed(f"{name} is part {part.number} of {part.count}. Give the first part: {folder}{part.of(1)}")
    if part.count > MOST_PARTS:
        raise PullFailed(f"{name} is one of {part.count} parts; at most {MOST_PARTS} are read.")
    names = [folder + other for other in part.names()]
    if missing := [other for other in names if other not in listing.files]:
        raise PullFailed(f"{listing.repository} lacks parts of {name}: {_listed(missing)}.")
    return [listing.files[other] for other in names]


def _base(name: str) -> str:
    return name.rpartition("/")[2]


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    return ", ".join(names[:_MOST_SHOWN]) + more
