"""The embedded CPU engine: a Llama checkpoint as published, run by OpenVINO GenAI inside the worker process.

Python imports a package before any of its modules, so nothing here can import OpenVINO before the next statement.
"""

import sys

# `import openvino` reports itself to Google Analytics and writes an id into HOME. Marked as missing, the package that
# sends cannot be imported, and OpenVINO uses its own empty class in its place.
sys.modules["openvino_telemetry"] = None  # pyright: ignore[reportArgumentType] - what Python calls a blocked module
