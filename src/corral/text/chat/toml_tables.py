"""Read the tables of a folder of TOML files into structs by name."""

import tomllib
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType
from typing import Protocol, TypeVar

import msgspec

from corral.core.errors import BadSetting


class Named(Protocol):
    """A struct with the name of its file."""

    @property
    def name(self) -> str:
        """Name of the file without its extension."""
        ...


N = TypeVar("N", bound=Named)


def read_folder(folder: str, kind: type[N], *, what: str) -> Mapping[str, N]:
    """Read all files of a folder beside this module, by name in the order of their names.

    Args:
        folder: name of the folder.
        kind: struct of one file.
        what: what to call one in messages.

    Raises:
        BadSetting: see ``parse_table``.
    """
    entries = sorted(files("corral.text.chat").joinpath(folder).iterdir(), key=lambda entry: entry.name)
    tables = [
        parse_table(entry.name.removesuffix(".toml"), entry.read_text(encoding="utf-8"), kind, what=what)
        for entry in entries
    ]
    return MappingProxyType({table.name: table for table in tables})


def parse_table(name: str, document: str, kind: type[N], *, what: str) -> N:
    """Parse one file.

    Raises:
        BadSetting: a key is unknown or missing, or a value is invalid; the message names it.
    """
    try:
        return msgspec.convert({**tomllib.loads(document), "name": name}, kind)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise BadSetting(f"{what} {name}: {error}") from error
