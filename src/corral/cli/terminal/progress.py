"""Progress of long work: bars on a terminal, plain lines in a pipe."""

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
    """One progress bar per stage, shown until the work is done."""

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
        """Update the bar of a stage."""
        if stage.stage not in self._tasks:
            self._tasks[stage.stage] = self._bars.add_task(stage.stage, total=stage.total or None)
        self._bars.update(self._tasks[stage.stage], completed=stage.done)

    def stop(self) -> None:
        """Remove the bars."""
        self._bars.stop()


class PlainProgress:
    """Prints a line when a stage starts, and every 10 s during it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._stage = ""
        self._printed_s = 0.0

    def report(self, stage: Stage) -> None:
        """Print the progress of a stage, if a line is due."""
        now_s = time.monotonic()
        if stage.stage != self._stage:
            self._print(stage.stage)
        elif stage.total and now_s - self._printed_s >= _LINE_EVERY_S:
            self._print(f"{stage.stage}: {100 * stage.done / stage.total:.0f} %")
        else:
            return
        self._stage, self._printed_s = stage.stage, now_s

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def watch() -> Generator[Report]:
    """Show progress reports on standard error while the block is active."""
    console = Console(stderr=True)
    if console.is_terminal and not console.is_dumb_terminal:
        with StartProgress(console) as bars:
            yield bars.report
    else:
        yield PlainProgress(console).report
