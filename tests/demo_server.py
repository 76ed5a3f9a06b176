"""Settings of servers with the demo model."""

from pathlib import Path
from typing import Any

from corral.catalog.catalog import DEMO
from corral.settings import Settings, load_settings


def demo_settings(data_dir: Path, **chosen: Any) -> Settings:
    """Settings with the demo model, whatever the environment says and whatever model is installed."""
    return load_settings({"model": DEMO, "data_dir": data_dir, **chosen}, {})
