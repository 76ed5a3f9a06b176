"""How a body's ``version`` may name a model: a version id, ``owner/name:id`` or ``owner/name``."""

from corral.api.doors.replicate.faults import InvalidVersion
from corral.catalog.catalog import Catalog
from corral.catalog.model import CatalogModel
from corral.catalog.versions import ModelVersion
from corral.core.errors import UnknownModel


def find_version(catalog: Catalog, spelling: str) -> tuple[CatalogModel, ModelVersion]:
    """Get the model and the version that *spelling* names.

    Raises:
        InvalidVersion: it is not served.
    """
    name, _, version = spelling.rpartition(":") if ":" in spelling else (spelling, "", "")
    try:
        if "/" not in name:
            model = catalog.get_by_version(spelling)
            return model, model.find_version(spelling)
        model = catalog.get(name)
        return model, model.find_version(version) if version else model.versions[0]
    except UnknownModel:
        raise InvalidVersion("The specified version does not exist.") from None
