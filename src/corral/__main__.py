"""``python -m corral``."""

from corral.cli.main import run

run()
