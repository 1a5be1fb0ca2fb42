"""Looking into a Delta table: its newest rows, columns and counts, without Spark."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from streamkeeper import names
from streamkeeper.showing import HourRange
from streamkeeper_io.delta import chosen_files, delta_columns, live_files, may_hold, open_delta
from streamkeeper_io.delta_files import DeltaFile, DeltaFiles
from streamkeeper_io.tables import instants, put_together, within

_AT_ONCE = 8


def open_view(lake: str, path: str, event_time: str) -> DeltaView | None:
    """Return a table as it is now; None if there is none.

    Parameters: event_time, the column by which rows are of an hour. Raises LakeUnavailable,
    TableDiffers.
    """
    table = open_delta(lake, path)
    if table is None:
        return None
    by = tuple(table.metadata().partition_columns)
    files = DeltaFiles(lake, path, pa.schema(table.schema().to_arrow()), by)
    return DeltaView(table, files, live_files(table), event_time)


@dataclass(frozen=True)
class DeltaView:
    """A table at one version.

    Parameters: table; reader, of its files; live, the files that are part of it; event_time.
    """

    table: DeltaTable
    reader: DeltaFiles
    live: pa.Table
    event_time: str

    @property
    def version(self) -> int:
        """The version of the log."""
        return int(self.table.version())

    @property
    def partition_by(self) -> tuple[str, ...]:
        """The columns that part the files."""
        return self.reader.partition_by

    @property
    def columns(self) -> Mapping[str, str]:
        """The types of the columns, as Delta names them."""
        return delta_columns(self.table)

    @property
    def files(self) -> int:
        """How many files there are."""
        return self.live.num_rows

    @property
    def mib(self) -> float:
        """The size of all files in MiB."""
        return float(sum(self.live["size_bytes"].to_pylist())) / 2**20

    def newest(self, limit: int, hours: HourRange | None) -> pa.Table | None:
        """Return the rows that were written last, of some hours or any; None if there are none."""
        kept: list[pa.Table] = []
        found = 0
        for rows in self._read(self._by_age(hours)):
            mine = rows.filter(within(rows[self.event_time], hours)) if hours else rows
            kept.insert(0, mine)
            found += mine.num_rows
            if found >= limit:
                break
        if not found:
            return None
        rows = put_together(kept)
        if names.WRITE_NUMBER in rows.column_names:
            order = [names.WRITE_NUMBER, names.PARTITION, names.OFFSET]
            rows = rows.sort_by([(name, "ascending") for name in order])
        return rows.slice(found - min(found, limit))

    def count_by_hour(self, hours: HourRange | None) -> dict[datetime, int]:
        """Count the rows of each hour; only files whose bounds span several are read."""
        live = self._by_age(hours)
        sure = self._of_one_hour(live)
        told = live.filter(sure)
        counts: Counter[datetime] = Counter()
        if told.num_rows:
            starts = _hours_of(told[f"min.{self.event_time}"])
            _add(counts, pa.table({"hour": starts, "rows": told["num_records"]}))
        unsure = chosen_files(self.table, live.filter(pc.invert(sure)))
        for rows in self._read_all(unsure, [self.event_time]):
            starts = _hours_of(rows[self.event_time])
            _add(counts, pa.table({"hour": starts, "rows": pa.array([1] * rows.num_rows)}))
        return {h: n for h, n in sorted(counts.items()) if hours is None or h in hours}

    def _by_age(self, hours: HourRange | None) -> pa.Table:
        """Return the files from the newest on, without those that have no row of the hours."""
        live = self.live
        if hours is not None:
            live = live.filter(may_hold(live, self.event_time, *hours))
        newest = f"max.{names.WRITE_NUMBER}"
        by = newest if newest in live.column_names else "modification_time"
        return live.sort_by([(by, "descending")])

    def _of_one_hour(self, live: pa.Table) -> pa.ChunkedArray:
        """Return which files surely hold rows of one hour alone."""
        bounds = [f"{end}.{self.event_time}" for end in ("min", "max")]
        if any(name not in live.column_names for name in bounds):
            return pa.chunked_array([pa.array([False] * live.num_rows)])
        least, most = (_hours_of(live[name]) for name in bounds)
        no_nulls = pc.equal(live[f"null_count.{self.event_time}"], 0)
        counted = pc.is_valid(live["num_records"])
        found = pc.and_(pc.and_(pc.equal(least, most), no_nulls), counted)
        return pc.fill_null(found, False)

    def _read(self, live: pa.Table) -> Iterator[pa.Table]:
        """Yield the rows of files, some of which are read ahead."""
        for start in range(0, live.num_rows, _AT_ONCE):
            files = chosen_files(self.table, live.slice(start, _AT_ONCE))
            yield from self._read_all(files, None)

    def _read_all(self, files: list[DeltaFile], columns: list[str] | None) -> list[pa.Table]:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(lambda file: self.reader.read(file, columns), files))


def _hours_of(times: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.floor_temporal(times, unit="hour")


def _add(counts: Counter[datetime], rows: pa.Table) -> None:
    """Add up rows by hour; those without one are of none."""
    sums = rows.group_by("hour").aggregate([("rows", "sum")])
    for hour, number in zip(instants(sums["hour"]), sums["rows_sum"].to_pylist(), strict=True):
        if hour is not None:
            counts[hour] += number
