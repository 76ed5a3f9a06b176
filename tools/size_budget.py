"""Check the size of files and functions: ``python tools/size_budget.py`` lists those over the limit."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50
ROOTS = ("src", "tests", "tools", "bench", "training")


def over_budget(path: Path) -> Iterator[str]:
    """List the file and its functions that are too long, one line each."""
    source = path.read_text(encoding="utf-8")
    if (lines := len(source.splitlines())) > MAX_FILE_LINES:
        yield f"{path}: {lines} lines, at most {MAX_FILE_LINES}"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                yield f"{path}:{node.lineno}: {node.name} has {length} lines, at most {MAX_FUNCTION_LINES}"


def main() -> int:
    """Print files and functions over the limit; exit with status 1 if there are any."""
    found = [line for root in ROOTS for path in sorted(Path(root).rglob("*.py")) for line in over_budget(path)]
    print("\n".join(found) if found else "size budget: ok")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
