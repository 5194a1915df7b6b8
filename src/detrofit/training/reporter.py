"""What a person sees while a training runs: a bar with time left, a line for each epoch."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Reporter:
    """A progress bar over all steps, with the loss; silent on processes other than the main one."""

    def __init__(self, total_steps: int, done: int, visible: bool, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.visible = visible
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=self.console,
            disable=not visible or not self.console.is_terminal,
        )
        self._task = self._bar.add_task("training", total=total_steps, completed=done)

    def __enter__(self) -> Reporter:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def step(self, epoch: int, epochs: int, loss: float) -> None:
        """One update is done."""
        self._bar.update(self._task, advance=1, description=f"epoch {epoch + 1}/{epochs}  loss {loss:.2f}")

    def say(self, line: str) -> None:
        """A line above the bar."""
        if self.visible:
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)
