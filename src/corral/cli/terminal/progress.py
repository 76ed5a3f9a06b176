"""Progress of what takes longer than a second: bars on a terminal; for long commands, plain lines in a pipe."""

import time
from collections.abc import Generator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from corral.engines.stepper import Progress as Stage
from corral.engines.stepper import Report

_LINE_EVERY_S = 10.0


class StartProgress:
    """One bar per stage of the start, each shown until the server answers."""

    def __init__(self, console: Console) -> None:
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def report(self, stage: Stage) -> None:
        """Show how far a stage is."""
        if stage.stage not in self._tasks:
            self._tasks[stage.stage] = self._bars.add_task(stage.stage, total=stage.total or None)
        self._bars.update(self._tasks[stage.stage], completed=stage.done)

    def stop(self) -> None:
        """Take the bars away."""
        self._bars.stop()


class PlainProgress:
    """A line when a stage begins, and one now and then while it lasts."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._stage = ""
        self._said_s = 0.0

    def report(self, stage: Stage) -> None:
        """Say how far a stage is, if it is time to."""
        now_s = time.monotonic()
        if stage.stage != self._stage:
            self._say(stage.stage)
        elif stage.total and now_s - self._said_s >= _LINE_EVERY_S:
            self._say(f"{stage.stage}: {100 * stage.done / stage.total:.0f} %")
        else:
            return
        self._stage, self._said_s = stage.stage, now_s

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def watch() -> Generator[Report]:
    """Show on standard error what is reported within the block."""
    console = Console(stderr=True)
    if console.is_terminal and not console.is_dumb_terminal:
        with StartProgress(console) as bars:
            yield bars.report
    else:
        yield PlainProgress(console).report
