"""One stream handed from launch to launch, each of them frozen at a point of its own."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from drivers import Drivers, RunningDriver, landed, manifests, send, wait_for
from faults import (
    WINDOW,
    all_sinks,
    assert_stores_equal_lake,
    behind,
    delta_table,
    drain_when_all_is_done,
    read_table,
    rows_by_coordinates,
    sent_to,
    tables_of,
)
from readings import reading
from test_driver_landing import checkpoint_of

from streamkeeper import names
from streamkeeper.launches import EXIT_FENCED
from streamkeeper.settings import Settings
from streamkeeper.spec.sinks import CassandraSink, DeltaSink, PostgresSink
from streamkeeper_io import processes

SCRIPT = Path(__file__).parent / "driver_that_freezes.py"
# Points that only a launch's start passes, and those of them that only the first one passes.
AT_START, AT_FIRST = ("begin", "take", "delta_sink.make"), ("begin", "delta_sink.make")


class Relay:
    """Hands one stream over from frozen launches to new ones, and looks at what the woken do."""

    def __init__(self, drivers: Drivers, settings: Settings) -> None:
        self.drivers, self.settings = drivers, settings
        self.spec = all_sinks(settings, consoles=False)
        self.owner: RunningDriver | None = None

    def launch(self, point: str = "") -> RunningDriver:
        """Start a launch, which waits for `go` once Spark runs; it freezes at the point."""
        driver = self.drivers.start([self.spec], script=SCRIPT)
        if point:
            self.arm(driver, point)
        return driver

    def arm(self, driver: RunningDriver, point: str) -> None:
        """Tell a launch where to freeze: `PLACE:WHEN` or `PLACE:WHEN:N`, several joined by `+`."""
        new = driver.folder / "armed.new"
        new.write_text("+".join(p if p.count(":") == 2 else f"{p}:1" for p in point.split("+")))
        new.rename(driver.folder / "armed")

    def go(self, driver: RunningDriver) -> None:
        """Let a launch take over."""
        (driver.folder / "go").touch()

    def go_through(self, points: Sequence[str]) -> None:
        """Freeze a launch at every point, let another take over, wake the first."""
        if not points[0].startswith(AT_FIRST):
            self.owner = self.launch()
            self.go(self.owner)
        for point in points:
            woken = [] if self.owner is None else [self.owner]
            if point.startswith(AT_START):
                woken.append(self.launch(point))
            following = self.launch()
            self._freeze(woken[-1], point)
            self._take_over(following, woken, point)
        self.finish()

    def _freeze(self, driver: RunningDriver, point: str) -> None:
        """Feed a launch until it is frozen."""
        self.arm(driver, point)
        self.go(driver)
        self.feed_until((driver.folder / "frozen").exists, driver, f"a freeze at {point}")
        print((driver.folder / "frozen").read_text())

    def feed_until(self, condition: Callable[[], Any], driver: RunningDriver, what: str) -> None:
        """Send readings until a condition holds."""

        def look() -> bool:
            code = processes.exit_code(driver.folder)
            assert code is None, f"it ended with {code} before {what}:\n{driver.log[-4000:]}"
            if condition():
                return True
            send(self.settings, self.spec.source.kafka.topic, [reading(n) for n in range(60)])
            return False

        wait_for(look, what, 120)

    def _take_over(self, driver: RunningDriver, woken: list[RunningDriver], point: str) -> None:
        self.go(driver)
        self.caught_up(driver)
        before = self.everything_that_counts()
        for other in woken:
            # One that was not frozen, but lost its checkpoint, has ended by itself.
            if processes.exit_code(other.folder) is None:
                other.signal(signal.SIGCONT)
        for other in woken:
            assert other.exit_code() == EXIT_FENCED, f"{point}: {other.log[-4000:]}"
            assert other.row().exit_code == EXIT_FENCED
        after = self.everything_that_counts()
        for what, found in before.items():
            assert after[what] == found, f"{point}: {what}: {found} became {after[what]}"
        assert_stores_equal_lake(self.drivers, self.settings, self.spec)
        self.owner = driver

    def caught_up(self, driver: RunningDriver) -> None:
        """Wait until a launch owns all queries and all that was sent is in the lake and tables."""

        def done() -> bool:
            assert processes.exit_code(driver.folder) is None, driver.log[-4000:]
            sent = sent_to(self.settings, self.spec)
            for zone in ("", WINDOW):
                found = manifests(self.settings, self.spec, zone)
                if sum(e - s for m in found for s, e in m.span.values()) != sent:
                    return False
            # Queries that have published have a checkpoint.
            if set(self.owners()) != {f"e{driver.launch.epoch}"}:
                return False
            return not behind(self.drivers, self.settings, self.spec)

        wait_for(done, "the new launch to have caught up", 120)

    def everything_that_counts(self) -> dict[str, Any]:
        """Return batches, the tables with their writes' order, the marks, the queries' owners."""
        marks = self.drivers.store.mark
        return {
            "batches": [manifests(self.settings, self.spec, of) for of in ("", WINDOW)],
            "tables": [self._content(sink) for sink in tables_of(self.spec).values()],
            "marks": [marks(self.spec.name, name) for name in tables_of(self.spec)],
            "owners": self.owners(),
        }

    def _content(self, sink: CassandraSink | DeltaSink | PostgresSink) -> Any:
        """Return a table's rows; of a Delta table its version and files, which never change."""
        if isinstance(sink, DeltaSink):
            table = delta_table(self.settings, sink)
            return table.version(), sorted(table.file_uris())
        if isinstance(sink, PostgresSink):
            return rows_by_coordinates(self.settings, self.spec, sink)
        columns = {
            WINDOW: "city, window_start, num_readings, avg_temp, writetime(num_readings)",
            "raw": "sensor_id, timestamp, temperature, writetime(temperature)",
        }
        return sorted(map(tuple, read_table(self.settings, sink, columns[sink.of])))

    def owners(self) -> list[str]:
        """Return the owner of each query that has a checkpoint."""
        return [self.owner_of(query) for query in (names.LAND, names.window_query(WINDOW))]

    def owner_of(self, query: str) -> str:
        """Return the checkpoint of a query's owner: `e<epoch>`.

        A woken launch may have made its own folder anew, with a state file that it had in hand;
        nobody reads it, for the newest epoch owns.
        """
        return checkpoint_of(self.settings, self.spec, query).rpartition("/")[2]

    def finish(self) -> None:
        """Let the last owner land some more, undisturbed, and drain."""
        assert self.owner is not None
        send(self.settings, self.spec.source.kafka.topic, [reading(n) for n in range(60)])
        self.caught_up(self.owner)
        drain_when_all_is_done(self.owner, self.drivers, self.settings, self.spec)
        assert_stores_equal_lake(self.drivers, self.settings, self.spec)
        for query in (names.LAND, names.window_query(WINDOW)):
            assert self.owner_of(query) == f"e{self.owner.launch.epoch}"

    def wake_early(self, point: str, other: str) -> None:
        """Freeze a launch, and the one that takes over before it has done anything; wake both.

        The first ends while the stream is in nobody's hand: what it publishes then must be whole.
        """
        first, second = self.launch(), self.launch(other)
        self.go(first)
        self.feed_until(lambda: landed(self.settings, self.spec) > 0, first, "rows of the first")
        self._freeze(first, point)
        self.go(second)
        wait_for((second.folder / "frozen").exists, f"a freeze at {other}")
        first.signal(signal.SIGCONT)
        assert first.exit_code() == EXIT_FENCED
        second.signal(signal.SIGCONT)
        self.owner = second
        self.finish()
