"""Deploy ids of DeepInfra's API, which its native routes and its OpenAI routes take."""

import hashlib
from typing import Final

from corral.catalog.catalog import Catalog
from corral.catalog.model import CatalogModel

_ALPHANUMERICS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_CHARS: Final = 16


def deploy_id(model: CatalogModel) -> str:
    """16 letters and digits that follow from the model's name: the same on every server and after every start."""
    number = int.from_bytes(hashlib.sha256(f"deploy\n{model.id}".encode()).digest())
    text = ""
    for _ in range(_CHARS):
        number, digit = divmod(number, len(_ALPHANUMERICS))
        text += _ALPHANUMERICS[digit]
    return text


def find_deploy(catalog: Catalog, wanted: str) -> CatalogModel | None:
    """The model whose deploy id is *wanted*; None if no served model has it."""
    return next((model for model in catalog.models() if deploy_id(model) == wanted), None)
