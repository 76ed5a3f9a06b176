"""Measure tokens per second of the CPU engine in this process; prints one JSON line per number of streams.

``python bench/engine/throughput.py CHECKPOINT CACHE --weights int4 --streams 1 16``. All streams start together with
random prompts and run greedily to their last token; the time is from the first ``add`` to the last token, prompts
included.
"""

import argparse
import json
import random
import sys
import time
from pathlib import Path
from statistics import median

from corral.core.generation import Sampling
from corral.engines.base import EngineRequest
from corral.engines.openvino.options import KvPrecision, OpenVinoOptions, WeightsFormat
from corral.engines.openvino.stepper import OpenVinoStepper, build_stepper
from corral.engines.stepper import Progress


def main() -> None:
    """Parse the arguments, build once, measure each number of streams."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("cache", type=Path)
    parser.add_argument("--weights", type=WeightsFormat, default=WeightsFormat.INT8)
    parser.add_argument("--kv", type=KvPrecision, default=None)
    parser.add_argument("--no-prefix-caching", action="store_true")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--prompt-tokens", type=int, default=16)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    options = OpenVinoOptions(
        checkpoint=str(arguments.checkpoint),
        cache_dir=str(arguments.cache),
        weights=arguments.weights,
        kv_precision=arguments.kv,
        prefix_caching=not arguments.no_prefix_caching,
    )
    started = time.monotonic()
    stepper = build_stepper(options, show)
    facts = {"weights": arguments.weights, "start_s": round(time.monotonic() - started, 2), **process_memory()}
    dice = random.Random(0)
    for streams in arguments.streams:
        runs = [
            measure(stepper, streams, arguments.prompt_tokens, arguments.new_tokens, dice)
            for _ in range(arguments.runs)
        ]
        tokens_per_s = [round(streams * arguments.new_tokens / seconds, 1) for seconds in runs]
        print(json.dumps({**facts, "streams": streams, "median": median(tokens_per_s), "runs": tokens_per_s}))


def measure(stepper: OpenVinoStepper, streams: int, prompt_tokens: int, new_tokens: int, dice: random.Random) -> float:
    """Seconds from the first ``add`` to the last token."""
    requests = [
        EngineRequest(
            prompt_ids=tuple(dice.randrange(3, stepper.info.vocab_size) for _ in range(prompt_tokens)),
            max_new_tokens=new_tokens,
            min_new_tokens=0,
            seed=0,
            sampling=Sampling(temperature=0),
            stop_ids=frozenset(),
        )
        for _ in range(streams)
    ]
    started = time.monotonic()
    for key, request in enumerate(requests):
        stepper.add(key, request)
    while stepper.sequences():
        stepper.step()
    return time.monotonic() - started


def process_memory() -> dict[str, float]:
    """Resident and peak memory of this process in GB (10**9), anonymous and file-backed apart."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    names = {"VmHWM": "peak_gb", "RssAnon": "anonymous_gb", "RssFile": "file_gb"}
    return {key: round(int(fields[name].split()[0]) * 1024 / 1e9, 2) for name, key in names.items()}


def show(progress: Progress) -> None:
    """Print progress to stderr."""
    if progress.done in (0, progress.total):
        print(progress.stage, file=sys.stderr)


if __name__ == "__main__":
    main()
