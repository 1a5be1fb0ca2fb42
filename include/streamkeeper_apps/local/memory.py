"""How much memory a stack takes: the share (PSS) of all its processes."""

from __future__ import annotations

import os
import threading
from types import TracebackType
from typing import Self

from streamkeeper_apps.local.leftovers import belonging
from streamkeeper_apps.local.places import Places

_EVERY_S = 10.0


def pss_kib(pid: int) -> int:
    """Return the proportional share of memory of a process in KiB; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:  # noqa: PTH123 (no Path for each look)
            lines = file.readlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


class MemoryWatch:
    """Looks at the memory of a stack and of this process every 10 s; keeps the most.

    Parameters: places, of the stack. Used as a context manager; `most_gib` is the most seen.
    """

    def __init__(self, places: Places) -> None:
        self._places = places
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)
        self.most_gib = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(_EVERY_S):
            pids = {os.getpid(), *(process.pid for process in belonging(self._places))}
            now = sum(pss_kib(pid) for pid in pids) / (1 << 20)
            self.most_gib = max(self.most_gib, now)
