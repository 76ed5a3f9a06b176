"""How values become JSON in a column: short, the same on every database, and able to hold any text.

Not orjson: a lone surrogate, which a caller can send as an escape, must come through.
"""

import json
from typing import Any


def dumps(value: Any) -> str:
    """Compact ASCII JSON, in which NUL and surrogates are escapes."""
    return json.dumps(value, separators=(",", ":"))
