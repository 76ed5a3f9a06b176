"""The ways in which requests spell a model."""

import pytest

from corral.api.deploy_ids import deploy_id
from corral.api.doors.openai.names import find_model
from corral.api.doors.replicate.faults import InvalidVersion
from corral.api.doors.replicate.names import find_version
from corral.catalog.catalog import demo_catalog
from corral.core.errors import UnknownModel


def test_openai_routes_take_a_name_with_or_without_version_or_a_deploy_id() -> None:
    catalog = demo_catalog()
    for model in catalog.models():
        for spelling in (
            model.id,
            model.id.upper(),
            f"{model.id}:{model.version}",
            f"{model.id}:{model.versions[0].short_id}",
            f"deploy_id:{deploy_id(model)}",
        ):
            assert find_model(catalog, spelling) == model
    assert len({deploy_id(model) for model in catalog.models()}) == len(catalog.models())
    for unknown in ("corral/demo:", "corral/demo:0", "deploy_id:", "deploy_id:corral/demo", ":", "corral/none:x"):
        with pytest.raises(UnknownModel):
            find_model(catalog, unknown)


def test_replicates_version_is_an_id_a_name_or_both() -> None:
    catalog = demo_catalog()
    for model in catalog.models():
        current, *older = model.versions
        for spelling in (model.id, current.id, current.id.upper(), f"{model.id}:{current.id}"):
            assert find_version(catalog, spelling) == (model, current)
        for version in older:
            assert find_version(catalog, version.id) == (model, version)
            assert find_version(catalog, f"{model.id}:{version.id}") == (model, version)
    for unknown in ("", ":", "corral/none", "corral/demo:0", f"demo:{catalog.models()[0].version}", "0" * 64):
        with pytest.raises(InvalidVersion):
            find_version(catalog, unknown)
