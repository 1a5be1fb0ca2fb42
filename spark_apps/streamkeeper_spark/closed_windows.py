"""Windows of closed hours: computed anew from the curated rows, above all that was written live."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from streamkeeper.closing import closed_windows, in_groups, lies_in_one_hour
from streamkeeper.hours import Revision
from streamkeeper.manifest import Manifest
from streamkeeper.names import CURATED, HOUR, closed_file
from streamkeeper.settings import Settings
from streamkeeper.spec.models import Spec, Window
from streamkeeper.spec.sinks import CassandraSink, PostgresSink, Sink
from streamkeeper_spark.checks import valid_rows
from streamkeeper_spark.files import LakeFiles
from streamkeeper_spark.hours import batch_files, read_curated, read_landed
from streamkeeper_spark.sinks.cassandra import CassandraWindows
from streamkeeper_spark.sinks.postgres import PostgresWindows
from streamkeeper_spark.windows import window_rows

# Window rows are brought to the driver; they are no more than the readings.
_READINGS_AT_ONCE = 2_000_000


class _Made(NamedTuple):
    """Window rows with their write number.

    replaced: hours that may have lost windows; starts: of the windows in question, None for all.
    """

    rows: pa.Table
    number: int
    replaced: Sequence[datetime]
    starts: list[datetime] | None = None


@dataclass
class ClosedWindows:
    """Writes the windows of closed hours into the tables of the stream's sinks.

    draw: returns a write number that no launch has had before; published: returns the manifests of
    all published raw batches with rows in an hour.
    """

    spark: SparkSession
    settings: Settings
    files: LakeFiles
    spec: Spec
    draw: Callable[[], int]
    published: Callable[[datetime], list[Manifest]]

    def write(self, revisions: Sequence[Revision], closed: dict[datetime, Revision]) -> int:
        """Write every window that overlaps these hours and whose other hours are closed too.

        Parameters: revisions, complete, with their files moved; closed, the last revision of every
        hour of the stream that is complete, these included.
        Returns how many rows. Raises Unavailable, TableDiffers; repeating is harmless.
        """
        written = 0
        for sink in self.spec.sinks:
            table = self._table(sink)
            if table is None:
                continue
            window = self.spec.window(sink.of)
            alone = lies_in_one_hour(window.size, window.step)
            each = self._within if alone else self._across
            try:
                for made in each(window, revisions, closed):
                    written += table.write([made.rows], made.number)
                    if made.replaced:
                        table.remove(self._gone(window, made), made.number)
            finally:
                table.close()
        return written

    def _table(self, sink: Sink) -> CassandraWindows | PostgresWindows | None:
        """Return the table of a window's sink; None for any other sink."""
        if sink.of != "raw" and isinstance(sink, CassandraSink):
            return CassandraWindows(self.spec, sink, self.settings, self.files.lake)
        if sink.of != "raw" and isinstance(sink, PostgresSink):
            return PostgresWindows(self.spec, sink, self.settings, self.files.lake)
        return None

    def _within(
        self, window: Window, revisions: Sequence[Revision], _: dict[datetime, Revision]
    ) -> Iterator[_Made]:
        """Yield the rows of windows that lie in one hour each, and their revision's number.

        A later revision has a higher number, so a close that froze here is outranked.
        """
        by_number = itertools.groupby(
            sorted(revisions, key=lambda r: (r.write_number, r.hour)), lambda r: r.write_number
        )
        for number, group in by_number:
            for members in _together(group):
                yield _Made(self._rows(window, members).toArrow(), number, _replaced(members))

    def _across(
        self, window: Window, revisions: Sequence[Revision], closed: dict[datetime, Revision]
    ) -> Iterator[_Made]:
        """Yield the rows of windows that may overlap several hours, and a new number.

        The number is drawn before the rows are read. So of two closes of neighbouring hours the
        one that writes with the higher number has seen both hours' last rows.
        """
        mine = {r.hour: r for r in revisions}
        wanted = closed_windows(window.size, mine, closed, window.step)
        # Each reading is in so many windows.
        most = _READINGS_AT_ONCE * window.step // window.size
        for starts in in_groups(wanted, lambda hour: closed[hour].counts["valid"], most):
            number = self.draw()
            over = sorted({hour for start in starts for hour in wanted[start]})
            rows = self._rows(window, [closed[hour] for hour in over])
            # What an hour has lost may be missing in each window that overlaps it.
            lost = _replaced(mine[hour] for hour in over if hour in mine)
            replaced = over if lost else []
            yield _Made(_of_starts(rows, starts).toArrow(), number, replaced, starts)

    def _gone(self, window: Window, made: _Made) -> pa.Table:
        """Return the windows of all that ever landed in hours which now have no reading left.

        Rows that were read again may have left an hour; a window of theirs may stand in the table.
        """
        batches = [m for hour in made.replaced for m in self.published(hour)]
        paths = batch_files(self.spec, batches)
        landed = valid_rows(read_landed(self.spark, self.files, self.spec, paths))
        ever = window_rows(landed.where(F.col(HOUR).isin(list(made.replaced))), window)
        if made.starts is not None:
            ever = _of_starts(ever, made.starts)
        keys = [*window.by, "window_start"]
        rows = ever.toArrow()
        there = set(zip(*(made.rows[key].to_pylist() for key in keys), strict=True))
        found = zip(*(rows[key].to_pylist() for key in keys), strict=True)
        return rows.filter(pa.array([key not in there for key in found], pa.bool_()))

    def _rows(self, window: Window, revisions: Iterable[Revision]) -> DataFrame:
        paths = [closed_file(self.spec, CURATED, r.hour) for r in revisions if CURATED in r.files]
        return window_rows(read_curated(self.spark, self.files, self.spec, paths), window)


def _of_starts(rows: DataFrame, starts: Sequence[datetime]) -> DataFrame:
    """Return the window rows with these starts."""
    # A list of thousands would take Spark longer to plan than all rows to compute.
    listed = rows.sparkSession.createDataFrame([(s,) for s in starts], "window_start timestamp")
    kept = rows.join(F.broadcast(listed), "window_start", "left_semi")
    return kept.select(*[F.col(f"`{name}`") for name in rows.columns])


def _replaced(revisions: Iterable[Revision]) -> list[datetime]:
    """Return the hours whose rows newer ones have replaced."""
    return [r.hour for r in revisions if r.counts.get("replaced")]


def _together(revisions: Iterable[Revision]) -> Iterator[list[Revision]]:
    """Yield hours in groups of few enough readings; an hour with more than that is alone."""
    group: list[Revision] = []
    readings = 0
    for revision in revisions:
        readings += revision.counts["valid"]
        if group and readings > _READINGS_AT_ONCE:
            yield group
            group, readings = [], revision.counts["valid"]
        group.append(revision)
    if group:
        yield group
