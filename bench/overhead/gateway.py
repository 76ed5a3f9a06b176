"""``corral serve`` with a scripted engine behind it, for ``overhead.py``.

``python bench/overhead/gateway.py '{"settings": {…}, "script": {…}}'``; everything but the worker's tokens is real.
"""

import json
import sys
from typing import Any

from corral import engine_kinds
from corral.cli.server.serve import serve
from corral.engines.subprocess.worker import SubprocessWorker, WorkerLaunch
from corral.settings import load_settings


def main() -> None:
    """Serve until stopped."""
    orders = json.loads(sys.argv[1])

    def scripted(launch: WorkerLaunch, **options: Any) -> SubprocessWorker:
        worker = WorkerLaunch(engine="scripted", options=orders["script"], environment=launch.environment)
        return SubprocessWorker(worker, **options)

    engine_kinds.SubprocessWorker = scripted
    serve(load_settings(orders["settings"], {}))


if __name__ == "__main__":
    main()
