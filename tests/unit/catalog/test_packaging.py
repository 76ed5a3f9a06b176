"""The wheel has the data files of the package: the catalog, the input tables of the doors, templates."""

import zipfile
from pathlib import Path

import pytest
from flit_core import buildapi

ROOT = Path(__file__).parents[3]


def test_every_data_file_is_in_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    wheel = tmp_path / buildapi.build_wheel(str(tmp_path))
    source = ROOT / "src"
    data = {
        path.relative_to(source).as_posix()
        for path in (source / "corral").rglob("*")
        if path.suffix in {".toml", ".md", ".svg", ".json", ".html", ".css", ".js"}
    }
    assert len(data) > 50
    assert data <= set(zipfile.ZipFile(wheel).namelist())
