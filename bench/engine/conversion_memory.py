"""Measure the peak memory of converting a checkpoint in a subprocess; prints one JSON line.

``python bench/engine/conversion_memory.py CHECKPOINT CACHE --weights int4``. Watches the anonymous and the file-backed
part of the resident memory every 20 ms; the file-backed part is the mapped output, which the kernel may drop at will.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

_CONVERT = """
import sys
from pathlib import Path
from corral.engines.openvino.cache import ModelCache
from corral.engines.openvino.checkpoint import open_checkpoint
from corral.engines.openvino.convert import obtain_model
from corral.engines.openvino.options import WeightsFormat
from corral.engines.openvino.quantize import plan_tensors

with open_checkpoint(Path(sys.argv[1])) as checkpoint:
    weights = WeightsFormat(sys.argv[3])
    plan = plan_tensors(checkpoint.shape, weights)
    obtain_model(checkpoint, weights, plan, ModelCache(Path(sys.argv[2])), lambda progress: None)
"""


def main() -> None:
    """Parse the arguments, convert in a subprocess, measure its memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("cache", type=Path, help="an empty directory: what is converted already is not converted again")
    parser.add_argument("--weights", default="int4")
    arguments = parser.parse_args()
    started = time.monotonic()
    command = [sys.executable, "-c", _CONVERT, str(arguments.checkpoint), str(arguments.cache), arguments.weights]
    peaks = {"RssAnon": 0, "RssFile": 0, "VmRSS": 0}
    with subprocess.Popen(command) as child:
        while child.poll() is None:
            for name, size_bytes in resident(child.pid).items():
                peaks[name] = max(peaks[name], size_bytes)
            time.sleep(0.02)
    output = sum(path.stat().st_size for path in arguments.cache.glob("models/*/*"))
    print(
        json.dumps(
            {
                "weights": arguments.weights,
                "exit_status": child.returncode,
                "seconds": round(time.monotonic() - started, 1),
                "output_gb": round(output / 1e9, 2),
                **{f"peak_{name}_gb": round(size_bytes / 1e9, 2) for name, size_bytes in peaks.items()},
            }
        )
    )


def resident(pid: int) -> dict[str, int]:
    """Resident bytes by kind; empty if the process has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    fields = dict(line.split(":", 1) for line in lines)
    wanted = ("RssAnon", "RssFile", "VmRSS")
    return {name: int(fields[name].split()[0]) * 1024 for name in wanted if name in fields}


if __name__ == "__main__":
    main()
