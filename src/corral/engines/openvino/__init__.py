"""CPU engine: runs checkpoints with OpenVINO GenAI in a worker process.

Python imports a package before its modules, so the statement below runs before any import of OpenVINO.
"""

import sys

# `import openvino` sends telemetry to Google Analytics and writes an id into HOME. None blocks the import of the
# telemetry package; OpenVINO then uses a stub.
sys.modules["openvino_telemetry"] = None  # pyright: ignore[reportArgumentType] - blocks the import
