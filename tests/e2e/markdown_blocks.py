"""Fenced code blocks of Markdown pages, and a shell that runs them in order."""

import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHELL: Final = ("sh", "console")
PROGRAMS: Final = (*SHELL, "python", "toml")
DATA: Final = ("json", "text")
"""Languages of blocks that are not run."""
_FENCE: Final = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^\n]+) -->\n)?```(?P<language>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_IDS: Final = tuple(
    map(re.compile, (r"\bacct_[a-z0-9]{16}\b", r"\bkey_[a-z0-9]{16}\b", r"\b[a-z0-9]{26}\b", r"\bck_(?:\w{8,}|…)"))
)
"""Patterns of ids and secrets, which differ between a page and a run of it."""
_STEP_S: Final = 120
_PORT: Final = "127.0.0.1:8000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced code block of a page."""

    page: str
    line: int
    language: str
    text: str
    reason: str | None
    """Reason not to run it, from the comment before the block."""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page=str(page.relative_to(ROOT)),
            line=text.count("\n", 0, found.start()) + 1,
            language=found["language"],
            text=found["text"],
            reason=found["reason"],
        )
        for found in _FENCE.finditer(text)
    ]


def steps(block: Block) -> Iterator[tuple[str, str, str]]:
    """Yield each command of a block with its input and its documented output."""
    if block.language != "console":
        yield block.text, "", ""
        return
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, *shown = part.splitlines()
        while command.endswith("\\"):
            command += "\n" + shown.pop(0)
        typed = "".join(f"{line[2:]}\n" for line in shown if line.startswith("> "))
        yield command, typed, "\n".join(shown)


@dataclass(kw_only=True)
class Shell:
    """A shell in a fresh clone. Keeps the working directory and variables between steps."""

    clone: Path
    port: int
    environ: dict[str, str]
    state: Path
    """File with the variables between steps."""
    python: str = ".venv-client/bin/python"
    replacements: dict[str, str] = field(default_factory=dict[str, str])
    """Ids and secrets of this run, by their documented value."""

    def run(self, block: Block) -> None:
        """Run a block to its end; fail with its page and line."""
        if block.language == "toml":
            tomllib.loads(block.text)
            return
        for command, typed, shown in steps(block):
            code = self._here(command)
            if block.language == "python":
                printed = self._step(f"{self.python} -", code, str(block))
            else:
                printed = self._step(code, typed, str(block))
            for kind in _IDS:
                self.replacements |= dict(zip(kind.findall(shown), kind.findall(printed), strict=False))

    def _here(self, text: str) -> str:
        """*text* with this server's port, and with this run's ids in the place of the page's."""
        for page, real in self.replacements.items():
            text = text.replace(page, real)
        return text.replace(_PORT, f"127.0.0.1:{self.port}")

    def _step(self, code: str, typed: str, where: str) -> str:
        state = shlex.quote(str(self.state))
        # curl returns 0 for HTTP errors too.
        curl = 'curl() { command curl --fail-with-body "$@"; }'
        script = f"set -e\ntouch {state}\n. {state}\n{curl}\n{code}\nexport -p > {state}\n"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.clone,
            env=self.environ,
            input=typed,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_STEP_S,
            check=False,
        )
        assert done.returncode == 0, f"{where}: {code}\n{done.stdout}"
        return done.stdout
