"""Who installs the package has the catalog's data too."""

import zipfile
from pathlib import Path

import pytest
from flit_core import buildapi

ROOT = Path(__file__).parents[3]


def test_every_file_of_the_catalog_is_in_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    wheel = tmp_path / buildapi.build_wheel(str(tmp_path))
    source = ROOT / "src"
    data = {
        path.relative_to(source).as_posix()
        for path in (source / "corral" / "catalog").rglob("*")
        if path.suffix in {".toml", ".md", ".svg", ".json"}
    }
    assert len(data) > 15
    assert data <= set(zipfile.ZipFile(wheel).namelist())
