"""Anomalies of hours that a close has written aside: judged, and written beside their KPIs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import types as T

from streamkeeper.anomalies import Judged, KpiValue, history_hours, judge, verdict_types
from streamkeeper.closing import CLOSE_COLUMN as CLOSE
from streamkeeper.closing import Task, staged_hour
from streamkeeper.detectors import detector
from streamkeeper.errors import Fenced
from streamkeeper.hours import Revision
from streamkeeper.names import CLOSED_FILE, closed_file, format_hour, kpi_zone
from streamkeeper.spec.anomalies import Anomaly
from streamkeeper.spec.models import Spec
from streamkeeper_io.closed import read_again
from streamkeeper_io.tables import python_rows
from streamkeeper_spark.hours import write_emptied, write_hours
from streamkeeper_spark.schema import spark_type
from streamkeeper_spark.staging import Staging

_AT_ONCE = 8
_PLACE = "_place"


@dataclass
class HourAnomalies:
    """Judges the KPI rows of hours of one close.

    Parameters: folders, by revision number where the close writes its files aside; written, the
    rows of each hour by zone, to which those of the anomalies are added; closed, the last revision
    of every closed hour.
    """

    staging: Staging
    tasks: Sequence[Task]
    folders: Mapping[int, str]
    written: dict[datetime, dict[str, int]]
    closed: Mapping[datetime, Revision]
    found: dict[datetime, dict[str, int]] = field(default_factory=dict)

    def write(self) -> dict[datetime, dict[str, int]]:
        """Write a file an hour with KPI rows for each of the declared anomalies.

        History are the visible rows of closed, complete hours, and those of this close's own.
        Returns how many rows of each hour are anomalous, by the anomalies' names.
        Raises Fenced when another close has cleared the files away; StreamkeeperError for a method
        that is not installed here; LakeUnavailable.
        """
        self.found = {task.hour: {} for task in self.tasks}
        for anomaly in self._spec.anomalies:
            rows = list(self._judged(anomaly))
            for hour in {row.hour for row in rows}:
                anomalous = sum(bool(row.anomalous) for row in rows if row.hour == hour)
                self.found[hour][anomaly.name] = anomalous
            self._write(anomaly, rows)
        return self.found

    @property
    def _spec(self) -> Spec:
        return self.staging.spec

    # Judging
    def _judged(self, anomaly: Anomaly) -> Iterator[Judged]:
        kpi, zone = self._spec.kpi(anomaly.kpi), kpi_zone(anomaly.kpi)
        mine = [task for task in self.tasks if self.written[task.hour].get(zone)]
        files = {task.hour: f"{self._aside(task, zone)}/{CLOSED_FILE}" for task in mine}
        values = dict(self._read(anomaly, files))
        if gone := sorted(files.keys() - values.keys()):
            raise Fenced(f"{files[gone[0]]} is gone; another close cleared it away")
        complete = [values[task.hour] for task in mine if task.done.complete]
        before = dict(self._read(anomaly, self._visible(anomaly, zone)))
        return judge(
            anomaly,
            kpi,
            detector(anomaly.method, anomaly.above),
            history=[value for rows in (*before.values(), *complete) for value in rows],
            judged=[value for rows in values.values() for value in rows],
        )

    def _visible(self, anomaly: Anomaly, zone: str) -> dict[datetime, str]:
        """Return the visible files of the hours before, but for those that this close replaces."""
        mine = {task.hour for task in self.tasks}
        reached = (h for h in history_hours(anomaly, mine) if h in self.closed and h not in mine)
        held = [h for h in reached if self.closed[h].state == "complete"]
        return {h: closed_file(self._spec, zone, h) for h in held if zone in self.closed[h].files}

    def _read(
        self, anomaly: Anomaly, files: Mapping[datetime, str]
    ) -> Iterator[tuple[datetime, list[KpiValue]]]:
        """Yield the values of hours whose file is there and has the judged column."""
        wanted = (*self._spec.kpi(anomaly.kpi).by, anomaly.column)
        lake = self.staging.files.lake
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            tables = pool.map(lambda path: read_again(lake, path, wanted), files.values())
            for hour, read in zip(files, tables, strict=True):
                rows = None if read is None else _as_numbers(read[1], wanted)
                if rows is not None:
                    yield hour, [KpiValue(hour, tuple(k), v) for *k, v in python_rows(rows)]

    # Writing
    def _write(self, anomaly: Anomaly, rows: Sequence[Judged]) -> None:
        zone, hours = kpi_zone(anomaly.name), {row.hour for row in rows}
        for number, folder in self.folders.items():
            group = {task.hour for task in self.tasks if task.number == number}
            if wanted := [row for row in rows if row.hour in group]:
                url = self.staging.files.url(f"{folder}/{zone}")
                write_hours(self._frame(anomaly, wanted), url, number)
        for task in self.tasks:
            if task.holds(zone) and task.hour not in hours:
                # Its rows were replaced: the file that was visible must go, as that of any zone.
                url = self.staging.files.url(self._aside(task, zone))
                write_emptied(self._frame(anomaly, []), url, task.number)
                hours.add(task.hour)
        places = [(self.folders[t.number], zone, t.hour) for t in self.tasks if t.hour in hours]
        for hour, count in self.staging.name_files(places):
            self.written[hour][zone] = count

    def _aside(self, task: Task, zone: str) -> str:
        return staged_hour(self.folders[task.number], zone, task.hour)

    def _frame(self, anomaly: Anomaly, rows: Iterable[Judged]) -> DataFrame:
        """Return rows in the KPI's order, each hour whole in one partition."""
        types = verdict_types(self._spec, anomaly)
        columns = {CLOSE: T.StringType(), **{n: spark_type(k) for n, k in types.items()}}
        schema = T.StructType([T.StructField(n, k) for n, k in columns.items()])
        placed: list[tuple[Any, ...]] = [
            (format_hour(row.hour), *row.keys, *row[2:], place) for place, row in enumerate(rows)
        ]
        made = self.staging.spark.createDataFrame(placed, schema.add(_PLACE, T.LongType()))
        hourly = made.repartition(CLOSE).sortWithinPartitions(CLOSE, _PLACE)
        return hourly.select(*[f"`{name}`" for name in columns])


def _as_numbers(rows: pa.Table, wanted: Sequence[str]) -> pa.Table | None:
    """Return a KPI's rows with the judged column, the last one, as doubles.

    None if an older declaration made them, without one of the columns or of another type.
    """
    if rows.column_names != list(wanted):
        return None
    last = len(wanted) - 1
    try:
        values = rows.column(last).cast(pa.float64(), safe=False)
    except pa.ArrowException:
        return None
    return rows.set_column(last, wanted[last], values)
