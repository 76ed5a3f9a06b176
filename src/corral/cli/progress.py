"""Progress bars on the terminal while the model starts; nothing where stderr is no terminal."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from corral.engines.stepper import Progress as Stage


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
