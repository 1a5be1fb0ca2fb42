"""Files of a close: written aside for all its hours at once, moved into their places one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from pyspark.sql import DataFrame, SparkSession

from streamkeeper import names
from streamkeeper.closing import CLOSE_COLUMN, Task, is_garbage, staged_hour
from streamkeeper.csv_text import csv_text
from streamkeeper.errors import Fenced, LakeDisagreement
from streamkeeper.generations import Counted
from streamkeeper.hours import Revision
from streamkeeper.names import (
    CLOSED_CSV,
    CLOSED_FILE,
    CURATED,
    TEMPORARY,
    closed_file,
    csv_zone,
    kpi_zone,
    parse_hour,
)
from streamkeeper.spec.models import Spec
from streamkeeper_io.closed import read_closed, read_footer
from streamkeeper_io.tables import python_rows
from streamkeeper_spark import hours
from streamkeeper_spark.files import LakeFiles
from streamkeeper_spark.kpis import zones_of

_AT_ONCE = 8
S = TypeVar("S")
T = TypeVar("T")


@dataclass
class Staging:
    """Writes closed hours below `curated/_tmp/<epoch>/r<k>/` and moves them from there."""

    spark: SparkSession
    files: LakeFiles
    spec: Spec

    @property
    def root(self) -> str:
        """The folder of all that is written aside."""
        return f"{names.curated_path(self.spec)}/{TEMPORARY}"

    def folder(self, epoch: int, number: int) -> str:
        """The folder of one close's files of one revision number."""
        return f"{self.root}/{epoch}/r{number}"

    def write(
        self, tasks: Sequence[Task], folder: str, counted: Counted
    ) -> dict[datetime, dict[str, int]]:
        """Write the files of hours that are all at the same revision; one Spark job a zone.

        Parameters: counted, which batches count.
        Returns the rows of each hour by zone; a zone that has no rows and had none is left out.
        Raises Fenced when another close has cleared the files away.
        """
        spec, wanted = self.spec, [task.hour for task in tasks]
        landed = hours.batch_files(spec, (m for task in tasks for m in task.manifests))
        before = [closed_file(spec, CURATED, t.hour) for t in tasks if t.holds(CURATED)]
        if landed or before:
            rows = hours.merge(
                hours.read_landed(self.spark, self.files, spec, landed),
                hours.read_curated(self.spark, self.files, spec, before),
                spec,
                wanted,
                counted,
            )
            number = tasks[0].number
            curated = self.files.url(f"{folder}/{CURATED}")
            hours.write_hours(rows, curated, number)
            staged = hours.read_staged(self.spark, curated, spec)
            for zone, made in zones_of(spec).items():
                hours.write_hours(made(staged), self.files.url(f"{folder}/{zone}"), number)
            self._write_emptied(tasks, folder, staged)
        return self._written(tasks, folder)

    def _write_emptied(self, tasks: Sequence[Task], folder: str, staged: DataFrame) -> None:
        """Write a file without rows for each zone of an hour that had some and has none now.

        It takes the visible file's place like any other; to delete that one would need a look
        first, and a close that froze after its look would delete a later revision.
        """
        zones = zones_of(self.spec)
        for zone in (CURATED, *zones):
            held = [task for task in tasks if task.holds(zone) and task.change.replaced]
            there = set(self._hours(folder, zone)) if held else set()
            for task in held:
                if task.hour in there:
                    continue
                rows = staged if zone == CURATED else zones[zone](staged)
                place = self.files.url(staged_hour(folder, zone, task.hour))
                hours.write_emptied(rows, place, task.number)

    def _written(self, tasks: Sequence[Task], folder: str) -> dict[datetime, dict[str, int]]:
        """Give each file its lasting name and return its rows."""
        written: dict[datetime, dict[str, int]] = {task.hour: {} for task in tasks}
        for zone in (CURATED, *zones_of(self.spec)):
            places = [(folder, zone, hour) for hour in self._hours(folder, zone)]
            for hour, rows in self.name_files(places):
                written[hour][zone] = rows
        for zone, of in self._csv_zones.items():
            places = [(folder, of, hour) for hour in self._hours(folder, of)]
            for hour, rows in _each(self._write_csv, places):
                written[hour][zone] = rows
        for task in tasks:
            if task.has_rows and CURATED not in written[task.hour]:
                raise Fenced(
                    f"{self.spec.name}: {folder} lacks the hour {names.format_hour(task.hour)}; "
                    "another close has closed it meanwhile and cleared the files away"
                )
        return written

    @property
    def _csv_zones(self) -> dict[str, str]:
        """The zones of CSV files, and those of the same rows as Parquet."""
        return {csv_zone(k.name): kpi_zone(k.name) for k in self.spec.kpis if k.csv}

    def _write_csv(self, place: tuple[str, str, datetime]) -> tuple[datetime, int]:
        """Write an hour's named file once more, as CSV."""
        folder, zone, hour = place
        file = f"{staged_hour(folder, zone, hour)}/{CLOSED_FILE}"
        found = read_closed(self.files.lake, file)
        if found is None:
            raise Fenced(f"{file} is gone; another close cleared it away")
        table = found[1]
        text = csv_text(table.column_names, python_rows(table))
        self.files.write(f"{staged_hour(folder, f'{zone}_csv', hour)}/{CLOSED_CSV}", text)
        return hour, table.num_rows

    def _hours(self, folder: str, zone: str) -> list[datetime]:
        prefix = f"{CLOSE_COLUMN}="
        found = self.files.names(f"{folder}/{zone}")
        return [parse_hour(n.removeprefix(prefix)) for n in found if n.startswith(prefix)]

    def name_files(self, places: Iterable[tuple[str, str, datetime]]) -> list[tuple[datetime, int]]:
        """Give each file written aside its lasting name; return its hour and rows.

        Parameters: places, of each file the folder of its revision, its zone and hour.
        Raises Fenced when another close has cleared it away.
        """
        return _each(self._name_file, places)

    def _name_file(self, place: tuple[str, str, datetime]) -> tuple[datetime, int]:
        folder = staged_hour(*place)
        (file,) = [n for n in self.files.names(folder) if n.endswith(".parquet")]
        self.files.rename(f"{folder}/{file}", f"{folder}/{CLOSED_FILE}")
        footer = read_footer(self.files.lake, f"{folder}/{CLOSED_FILE}")
        if footer is None:
            raise Fenced(f"{folder}/{CLOSED_FILE} is gone; another close cleared it away")
        return place[2], footer.rows

    def check_visible(self, tasks: Iterable[Task]) -> list[Task]:
        """Return the tasks whose hour's visible file is not of the revision to go on from."""
        before = [task for task in tasks if task.holds(CURATED)]
        footers = _each(
            lambda t: read_footer(self.files.lake, closed_file(self.spec, CURATED, t.hour)), before
        )
        return [
            task
            for task, footer in zip(before, footers, strict=True)
            if footer is None or footer.revision != task.number - 1
        ]

    def move(self, revisions: Iterable[Revision]) -> None:
        """Move the files of committed revisions into their places; repeating it changes nothing.

        Raises LakeDisagreement when a file is neither aside nor in its place.
        """
        moves = [(r, zone, file) for r in revisions for zone, fs in r.files.items() for file in fs]
        _each(self._move, (move for move in moves if move[2] != CLOSED_CSV))
        # A CSV carries no revision. It follows the Parquet file of the same rows, which tells it.
        _each(self._move, (move for move in moves if move[2] == CLOSED_CSV))

    def _move(self, move: tuple[Revision, str, str]) -> None:
        revision, zone, file = move
        source = f"{staged_hour(revision.staging, zone, revision.hour)}/{file}"
        carrier = closed_file(self.spec, zone, revision.hour)
        target = f"{carrier.rpartition('/')[0]}/{file}"
        if file == CLOSED_CSV:
            carrier = closed_file(self.spec, zone.removesuffix("_csv"), revision.hour)
        try:
            # A zone that had no rows, or a new KPI, has no folder of this hour yet.
            self.files.make_folder(target.rpartition("/")[0])
            self.files.replace(source, target)
        except FileNotFoundError:
            # Another close has moved it, and perhaps a later one over it.
            footer = read_footer(self.files.lake, carrier)
            there = carrier == target or self.files.exists(target)
            if not there or footer is None or footer.revision < revision.revision:
                raise LakeDisagreement(
                    f"{self.spec.name}: revision {revision.revision} of {target} is committed, but "
                    f"neither there nor at {source}; restore one of them from a backup"
                ) from None

    def clear(self, latest: Mapping[datetime, Revision]) -> None:
        """Delete what closes that died have left aside and what can never become visible.

        Parameters: latest, the last revision of every closed hour.
        """
        committed = {revision.epoch for revision in latest.values()}
        for epoch in filter(str.isdigit, self.files.names(self.root)):
            left = 0
            for number in self.files.names(f"{self.root}/{epoch}"):
                folder = f"{self.root}/{epoch}/{number}"
                for hour in self._hours(folder, CURATED):
                    if is_garbage(hour, int(number[1:]), int(epoch), latest.get(hour)):
                        self._delete(folder, hour)
                    else:
                        left += 1
            if int(epoch) in committed and not left:
                # A close commits once, after all of its writing.
                self.files.delete(f"{self.root}/{epoch}")

    def _delete(self, folder: str, hour: datetime) -> None:
        # The curated rows last: by them the hour is found.
        anomalies = (kpi_zone(anomaly.name) for anomaly in self.spec.anomalies)
        for zone in (*zones_of(self.spec), *anomalies, *self._csv_zones, CURATED):
            self.files.delete(staged_hour(folder, zone, hour))


def _each(function: Callable[[S], T], items: Iterable[S]) -> list[T]:
    """Call a function for many things, several at a time."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(function, items))
