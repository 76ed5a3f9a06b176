"""Choose the files with the weights of a Transformers directory or repository, by their names.

``corral serve`` and ``corral pull`` use the same choice: the files of the index; without an index
``model.safetensors``, else the shards ``model*.safetensors``, else every ``*.safetensors`` that is no copy in another
format.
"""

import json
import re
from collections.abc import Collection
from typing import Final, cast

from corral.checkpoints.directory_kinds import shown_names
from corral.core.errors import CheckpointRefused

INDEX: Final = "model.safetensors.index.json"
_MOST_FILES: Final = 1000
_SINGLE: Final = "model.safetensors"
_SUFFIX: Final = ".safetensors"
_COPIES: Final = ("consolidated", "adapter_model", "training_", "optimizer")
"""Beginnings of files that hold the same weights in Mistral's own format, an adapter, or the state of a training."""
_SHARD: Final = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.safetensors")


def is_weight_file(name: str) -> bool:
    """Return whether a file may hold weights that are read."""
    return name.endswith(_SUFFIX) and not name.startswith(_COPIES)


def choose_weight_files(names: Collection[str], index: bytes | None) -> list[str]:
    """Choose the weight files among *names*; empty if there are none.

    Args:
        names: all files of the directory or repository.
        index: content of ``model.safetensors.index.json``, which is not trusted; None if there is none.

    Raises:
        CheckpointRefused: the index is malformed, a file that it or the other shards' names ask for is missing, or
            there are too many.
    """
    if index is not None:
        chosen = _indexed_names(index)
        _check_indexed(chosen, names)
    else:
        chosen = _unindexed_names(names)
        _check_shards(chosen)
    _check_count(len(chosen))
    return chosen


def _check_count(count: int) -> None:
    if count > _MOST_FILES:
        raise CheckpointRefused(f"The weights are in {count} files; at most {_MOST_FILES} are read.")


def _indexed_names(index: bytes) -> list[str]:
    try:
        document: object = json.loads(index)
    except (ValueError, RecursionError) as error:
        raise CheckpointRefused(f"{INDEX} is not valid JSON.") from error
    weight_map = cast("dict[str, object]", document).get("weight_map") if isinstance(document, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointRefused(f"{INDEX}: weight_map is missing, empty or not an object.")
    chosen: set[str] = set()
    for name in cast("dict[str, object]", weight_map).values():
        # A checkpoint is not trusted: an entry must not refer to a file outside its directory.
        if not isinstance(name, str) or "/" in name or "\0" in name or not name.endswith(_SUFFIX):
            raise CheckpointRefused(f"{INDEX}: {json.dumps(name)[:100]} is not a plain *.safetensors file name.")
        chosen.add(name)
    return sorted(chosen)


def _check_indexed(chosen: Collection[str], names: Collection[str]) -> None:
    missing = [name for name in chosen if name not in names]
    if not missing:
        return
    others = [name for name in _unindexed_names(names) if name not in chosen]
    stale = f" If the whole model is in {shown_names(others)}, delete the index." if others else ""
    raise CheckpointRefused(
        f"{INDEX} names files that are not there ({len(missing)} of {len(chosen)}): {shown_names(missing)}. "
        f"Download them, or use another copy of the model.{stale}"
    )


def _unindexed_names(names: Collection[str]) -> list[str]:
    if _SINGLE in names:
        return [_SINGLE]
    found = sorted(filter(is_weight_file, names))
    return [name for name in found if name.startswith("model")] or found


def _check_shards(chosen: Collection[str]) -> None:
    """Check that the files which are numbered parts of a whole are complete."""
    shards = [shard for name in chosen if (shard := _SHARD.fullmatch(name))]
    for stem, count in {(shard["stem"], shard["count"]) for shard in shards}:
        _check_count(int(count))
        parts = {f"{stem}-{number:05}-of-{count}{_SUFFIX}" for number in range(1, int(count) + 1)}
        if missing := parts.difference(chosen):
            raise CheckpointRefused(
                f"Weight files are missing ({len(missing)} of {int(count)}): {shown_names(missing)}. Download them, or "
                "use another copy of the model."
            )
