"""``corral serve`` with a scripted engine behind it, for ``overhead.py``.

``python bench/overhead/gateway.py '{"settings": {…}, "script": {…}}'``; everything but the worker's tokens is real.
"""

import json
import sys
from typing import Any

from corral import bootstrap
from corral.cli.server.serve import serve
from corral.engines.supervisor import SupervisedEngine, WorkerLaunch
from corral.settings import load_settings


def main() -> None:
    """Serve until told to stop."""
    orders = json.loads(sys.argv[1])

    def scripted(launch: WorkerLaunch, **options: Any) -> SupervisedEngine:
        worker = WorkerLaunch(engine="scripted", options=orders["script"], environment=launch.environment)
        return SupervisedEngine(worker, **options)

    bootstrap.SupervisedEngine = scripted
    serve(load_settings(orders["settings"], {}))


if __name__ == "__main__":
    main()
