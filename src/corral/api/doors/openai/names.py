"""How a body's ``model`` may name a model: ``NAME``, ``NAME:VERSION`` or ``deploy_id:ID``, as on DeepInfra."""

from typing import Final

from corral.api.deploy_ids import find_deploy
from corral.catalog.catalog import Catalog
from corral.catalog.model import CatalogModel
from corral.core.errors import UnknownModel

_DEPLOY_PREFIX: Final = "deploy_id:"


def find_model(catalog: Catalog, spelling: str) -> CatalogModel:
    """Get the model that *spelling* names.

    Raises:
        UnknownModel: it is not served, or not in that version.
    """
    if spelling.startswith(_DEPLOY_PREFIX):
        deployed = find_deploy(catalog, spelling.removeprefix(_DEPLOY_PREFIX))
        if deployed is None:
            raise UnknownModel(spelling)
        return deployed
    name, colon, version = spelling.partition(":")
    model = catalog.get(name if colon else spelling)
    if colon:
        model.find_version(version)
    return model
