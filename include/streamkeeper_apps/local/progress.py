"""Tell how far several things are that happen at once."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn


class Told(Protocol):
    """Hears what happens to named steps."""

    def begin(self, name: str) -> None:
        """A step began."""

    def end(self, name: str, outcome: str) -> None:
        """A step ended, with a word for how."""


class Silent:
    """Tells nothing."""

    def begin(self, name: str) -> None:
        """A step began."""

    def end(self, name: str, outcome: str) -> None:
        """A step ended."""


class Steps:
    """Shows a spinner for each running step on a terminal, else one line when it ends.

    Parameters: console, where to show.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = console.is_terminal
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console, transient=True)
        self._tasks: dict[str, tuple[TaskID, float]] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        if self._live:
            self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._progress.stop()

    def begin(self, name: str) -> None:
        """Show a step as running."""
        with self._lock:
            self._tasks[name] = (self._progress.add_task(name, total=None), time.monotonic())

    def end(self, name: str, outcome: str) -> None:
        """Show how a step ended and how long it took."""
        with self._lock:
            task, began = self._tasks.pop(name, (None, time.monotonic()))
            if task is not None:
                self._progress.remove_task(task)
            seconds = time.monotonic() - began
            self._console.print(f"  {name:<22} {outcome:<10} {seconds:6.1f} s", highlight=False)
