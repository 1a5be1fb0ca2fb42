"""What a producer says: lines, and a progress bar where somebody looks."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)


class Display:
    """Prints lines with their time (UTC); a bar on a terminal, a line now and then elsewhere.

    Parameters: console, by default the standard output; every_s, seconds between lines of progress.
    """

    def __init__(self, console: Console | None = None, every_s: float = 10.0) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self.every_s = every_s
        self._next_line = time.monotonic() + every_s
        self._bar: Progress | None = None
        self._began: tuple[float, int] | None = None
        self._next_bar = 0.0

    def say(self, text: str) -> None:
        """Print a line."""
        now = datetime.now(UTC).strftime("%H:%M:%S")
        self.console.print(f"{now} {text}", markup=False)

    def due(self) -> bool:
        """Tell, once every `every_s`, that it is time for a line of progress."""
        if time.monotonic() < self._next_line:
            return False
        self._next_line = time.monotonic() + self.every_s
        return True

    def advance(self, what: str, done: int, total: int, told: str = "") -> None:
        """Show how much of a known amount is done, how fast it goes and how long it still takes.

        Parameters: told, what else is to be said, such as a count of another kind.
        """
        now = time.monotonic()
        if self._began is None:
            self._began = (now, done)
        if self.console.is_terminal:
            if self._bar is None:
                self._bar = Progress(
                    TextColumn("{task.description}"),
                    BarColumn(),
                    MofNCompleteColumn(),
                    TextColumn("{task.fields[told]}"),
                    TimeRemainingColumn(),
                    console=self.console,
                )
                self._bar.add_task(what, total=total, told="")
                self._bar.start()
            if now >= self._next_bar:
                self._next_bar = now + 0.1
                told = told or f"{self._rate(now, done):,.0f} a second"
                self._bar.update(self._bar.task_ids[0], completed=done, total=total, told=told)
        elif self.due():
            rate = self._rate(now, done)
            left = f", {(total - done) / rate:,.0f} s left" if rate > 0 else ""
            told = f"; {told}" if told else ""
            share = 100 * done / max(total, 1)
            self.say(
                f"{what}: {done:,} of {total:,} ({share:.0f} %), {rate:,.0f} a second{left}{told}"
            )

    def _rate(self, now: float, done: int) -> float:
        """Return how much was done a second since the amount began to grow."""
        began, first = self._began or (now, done)
        return (done - first) / max(now - began, 1e-3)

    def end_bar(self) -> None:
        """Take the bar away; lines follow."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        self._began = None
