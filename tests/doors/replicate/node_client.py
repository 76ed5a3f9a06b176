"""Runs the scripts in ``tests/node`` that use Replicate's official Node client."""

import asyncio
import json
import os
from typing import Any

from tests.doors.live_server import SECRET
from tests.official_validators import FOLDER, NODE


async def node(script: str, *, key: str = SECRET, **orders: Any) -> Any:
    """Run *script* with *orders* as its JSON argument and *key* as REPLICATE_API_TOKEN; returns its JSON output."""
    process = await asyncio.create_subprocess_exec(
        *(NODE, script, json.dumps(orders)),
        cwd=FOLDER,
        env={"PATH": os.defpath, "REPLICATE_API_TOKEN": key},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(60):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, errors.decode()
    return json.loads(output)
