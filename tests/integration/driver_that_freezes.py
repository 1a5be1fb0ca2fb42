"""Runs spark_apps/stream.py and stops all of its processes at one named point.

The point stands in a file `armed` in the launch's folder: `PLACE:WHEN:N`, N the how many-th time
from then on. There a file `frozen` is written and every process of the launch gets SIGSTOP. Of
several points, joined by `+`, each holds up its thread until the last one is reached. Once Spark
has started, the driver waits for a file `go`.
"""

from __future__ import annotations

import functools
import itertools
import os
import re
import runpy
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from streamkeeper.names import MANIFEST_FILE
from streamkeeper_io import cassandra, postgres, processes
from streamkeeper_io.delta import DeltaWriter
from streamkeeper_io.delta_files import DeltaFiles
from streamkeeper_io.lake import folder_names
from streamkeeper_io.postgres_tables import PostgresTable
from streamkeeper_io.store import Store
from streamkeeper_spark import landing
from streamkeeper_spark.driver import Driver
from streamkeeper_spark.files import LakeFiles
from streamkeeper_spark.landing import Publisher
from streamkeeper_spark.sinks.cassandra import CassandraRaw, CassandraWindows
from streamkeeper_spark.sinks.delta import DeltaRaw
from streamkeeper_spark.sinks.postgres import PostgresRaw

BEFORE, WITHIN, AFTER = "before", "within", "after"
# Once a batch is published: Spark's log, how many batches on, and whether an entry that is being
# written will do: Spark writes it aside and renames it.
LOGS = {
    "committing": ("commits", 0, True),
    "committed": ("commits", 0, False),
    "planning": ("offsets", 1, True),
    "planned": ("offsets", 1, False),
}


class Place(NamedTuple):
    """A method, and of which of its calls a point is one: told by its arguments as texts.

    owner: a class, or a module for one of its functions.
    """

    owner: Any
    method: str
    calls: str = ""


def of_zone(zone: str) -> dict[str, Place]:
    """The places at which a batch of a zone is under way."""
    return {
        # Spark has logged the batch's offsets, and nothing of it is done.
        "batch": Place(Publisher, "publish", zone),
        "write": Place(Publisher, "_write", zone),
        "manifest": Place(LakeFiles, "write", f"/{zone}.*{MANIFEST_FILE}"),
        "rename": Place(LakeFiles, "rename", f"/{zone}.*/batch="),
    }


PLACES = {
    **{f"land.{name}": place for name, place in of_zone("raw").items()},
    **{f"window.{name}": place for name, place in of_zone("windows").items()},
    "sink": Place(CassandraWindows, "apply"),
    "raw_sink": Place(CassandraRaw, "apply"),
    "sink.request": Place(cassandra._Requests, "send"),
    "delta_sink": Place(DeltaRaw, "apply"),
    "delta_sink.make": Place(DeltaWriter, "_made"),
    "delta_sink.file": Place(DeltaFiles, "_write"),
    # Within it the log's entry is written aside, and not renamed yet.
    "delta_sink.commit": Place(DeltaWriter, "_commit"),
    "delta_sink.mark": Place(Store, "set_mark", "'delta:"),
    "postgres_sink": Place(PostgresRaw, "apply"),
    "postgres_sink.copy": Place(postgres, "csv_bytes"),
    # The rows are written and the table is locked; nothing is committed.
    "postgres_sink.move_mark": Place(PostgresTable, "move_mark"),
    "mark": Place(Store, "set_mark", "'cassandra:"),
    "take": Place(LakeFiles, "rename", r"/e\d+'.*/e\d+'"),
    "begin": Place(LakeFiles, "rename", r"/_tmp-\d+'"),
}


@dataclass
class Freezer:
    """Freezes this launch once, at the points that the file `armed` names."""

    folder: Path
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _woken: threading.Event = field(default_factory=threading.Event)
    _reached: list[str] = field(default_factory=list)

    def install(self) -> None:
        """Wrap the methods of all points."""
        for name, place in PLACES.items():
            self._wrap(name, place)

    def _wrap(self, name: str, place: Place) -> None:
        original, counts = getattr(place.owner, place.method), itertools.count(1)

        @functools.wraps(original)
        def wrapped(this: Any, *arguments: Any, **more: Any) -> Any:
            when, at = self.armed.get(name, ("", 0))
            meant = when and self._is_meant(place, this, arguments)
            if not meant or next(counts) != at:
                return original(this, *arguments, **more)
            if when == BEFORE:
                self.freeze("nothing of it is done")
            elif when == WITHIN:
                self._watch(this, *arguments)
            found = original(this, *arguments, **more)
            if when == AFTER:
                self.freeze("all of it is done")
            elif when in LOGS:
                self._watch_log(this, arguments[1], *LOGS[when])
            return found

        setattr(place.owner, place.method, wrapped)

    @property
    def armed(self) -> dict[str, tuple[str, int]]:
        """When to freeze at each of the points, and at which call."""
        try:
            points = (self.folder / "armed").read_text().split("+")
        except FileNotFoundError:
            return {}
        return {name: (when, int(at)) for name, when, at in (p.split(":") for p in points)}

    def _is_meant(self, place: Place, this: Any, arguments: tuple[Any, ...]) -> bool:
        of = this.zone if isinstance(this, Publisher) else repr(arguments)
        return re.search(place.calls, of) is not None

    def _watch(self, this: Publisher | DeltaWriter, *arguments: Any) -> None:
        """Freeze as soon as a file of the write is there."""
        if isinstance(this, DeltaWriter):
            log, lake = f"{this._path}/_delta_log", this._lake
            old = folder_names(lake, log)
            # delta-rs writes an entry aside under a hidden name.
            new = lambda: (n for n in folder_names(lake, log) if n[0] == "." and n not in old)  # noqa: E731
            self._when(lambda: ", ".join(new()))
            return
        files, staging = this.files, arguments[2]
        self._when(lambda: ", ".join(n for n in files.names(staging) if n.endswith(".parquet")))

    def _watch_log(
        self, publisher: Publisher, batch: int, log: str, further: int, within: bool
    ) -> None:
        """Freeze as soon as Spark's entry of a batch is there, or begun."""
        entry = str(batch + further)

        def look() -> str:
            there = publisher.files.names(f"{publisher.checkpoint}/{log}")
            begun = [n for n in there if within and n.startswith(f".{entry}.")]
            return ", ".join([*begun, *(n for n in there if n == entry)])

        self._when(look)

    def _when(self, look: Callable[[], str]) -> None:
        def wait() -> None:
            while not (found := look()):
                time.sleep(0.002)
            self.freeze(found)

        threading.Thread(target=wait, daemon=True).start()

    def freeze(self, about: str) -> None:
        """Stop the JVM, the workers and this process, but not the shell that keeps the code."""
        with self._lock:
            self._reached.append(about)
            is_last = len(self._reached) == len(self.armed)
        if not is_last:
            self._woken.wait()
            return
        os.kill(os.getppid(), signal.SIGSTOP)
        shell = os.getsid(0)
        for other in processes.launch_processes(None, self.folder):
            if other.pid not in (shell, os.getpid()):
                other.send_signal(signal.SIGSTOP)
        (self.folder / "frozen").write_text(f"{self.armed}: {', '.join(self._reached)}")
        os.kill(os.getpid(), signal.SIGSTOP)
        self._woken.set()


def hold(folder: Path) -> None:
    """Let the driver wait for the file `go` before it does anything."""
    run = Driver.run

    def held(driver: Driver) -> Any:
        while not (folder / "go").exists():
            time.sleep(0.05)
        return run(driver)

    Driver.run = held  # type: ignore[method-assign]


def main() -> None:
    """Run the driver of the snapshot that is the last argument."""
    folder = Path(sys.argv[-1]).parent
    assert psutil.Process(os.getppid()).name() == "java"
    # Batches of several files, so that one can be cut between two of them.
    landing.ROWS_A_FILE = 10
    Freezer(folder).install()
    hold(folder)
    script = Path(__file__).parents[2] / "spark_apps" / "stream.py"
    runpy.run_path(str(script), run_name="__main__")


if __name__ == "__main__":
    main()
