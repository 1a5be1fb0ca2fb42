"""KPIs of days and of everything, computed anew from the rows of closed hours.

Files are written aside and moved over the visible ones, atomically each. A run first takes the
stream's lock of kind `periods` and deletes what older runs have left aside: one of them that was
frozen and wakes up finds its files gone, and changes nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from streamkeeper import names
from streamkeeper.closing import CLOSE_COLUMN as CLOSE
from streamkeeper.csv_text import csv_text
from streamkeeper.errors import Fenced, LakeDisagreement, StreamkeeperError
from streamkeeper.hours import Revision
from streamkeeper.launches import EXIT_DRAINED
from streamkeeper.names import CURATED, closed_file, period_csv, period_file
from streamkeeper.periods import PERIOD_KEY, Covered, Period, due_periods, wanted_periods
from streamkeeper.spec.models import Kpi, Spec
from streamkeeper_io.closed import read_footer
from streamkeeper_io.lake import read_rows
from streamkeeper_io.period_files import read_covered
from streamkeeper_io.store import Store
from streamkeeper_io.tables import python_rows
from streamkeeper_spark.files import LakeFiles
from streamkeeper_spark.hours import read_curated
from streamkeeper_spark.kpis import kpi_rows
from streamkeeper_spark.outcome import outcome_of

log = logging.getLogger(__name__)
_AT_ONCE = 8
_LONGEST_WAIT_S = 20.0


@dataclass
class PeriodAnalysis:
    """Computes the KPIs of periods of one stream."""

    spark: SparkSession
    store: Store
    spec: Spec
    files: LakeFiles

    def run(self, period: Period | None = None) -> list[Covered]:
        """Compute a period, or all that are due; return what they cover.

        Raises StreamkeeperError for a period without closed hours, or that no KPI declares;
        LaunchConflict and Fenced when another run began meanwhile; LakeDisagreement, Unavailable.
        """
        with self._launched() as epoch:
            if period is not None:
                self._refuse_undeclared(period)
            periods = [period] if period is not None else self.due()
            done = [self._compute(one, epoch) for one in periods]
        if not done:
            log.info("%s: no period is due", self.spec.name)
        return done

    def due(self) -> list[Period]:
        """Return the periods of which a file is missing, or was made of other revisions."""
        revisions = self.store.revisions(self.spec.name)
        kinds = self.spec.period_kinds()
        periods = wanted_periods(kinds, revisions, datetime.now(UTC))
        places = [(p, self._file(kpi, p)) for p in periods for kpi in self._kpis(p)]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            told = pool.map(lambda place: read_covered(self.files.lake, place[1]), places)
            visible: dict[Period, list[Covered | None]] = {p: [] for p in periods}
            for (period, _), covered in zip(places, told, strict=True):
                visible[period].append(covered)
        return due_periods(periods, revisions, visible)

    def _kpis(self, period: Period) -> list[Kpi]:
        return [kpi for kpi in self.spec.kpis if period.kind in kpi.periods]

    def _file(self, kpi: Kpi, period: Period) -> str:
        return period_file(self.spec, kpi.name, period)

    def _refuse_undeclared(self, period: Period) -> None:
        if not self._kpis(period):
            raise StreamkeeperError(
                f"{self.spec.name}: no KPI is declared for the period {period.kind!r}; add it to "
                "the `periods` of a KPI"
            )

    @contextmanager
    def _launched(self) -> Iterator[int]:
        """Take the stream's lock, clear away what older runs left, record the end."""
        name = self.spec.name
        holder = self.store.holder("periods", name)
        expected = holder.epoch if holder else None
        epoch = self.store.begin_launch("periods", name, expected=expected).epoch
        root = names.periods_staging(self.spec)
        code, reason = EXIT_DRAINED, "periods computed"
        try:
            for old in filter(str.isdigit, self.files.names(root)):
                if int(old) < epoch:
                    self.files.delete(f"{root}/{old}")
            yield epoch
        except Exception as error:
            code, reason = outcome_of(error, "", fenced=False)
            raise
        finally:
            self.files.delete(f"{root}/{epoch}")
            self.store.end_launch(epoch, code, reason)

    # One period
    def _compute(self, period: Period, epoch: int) -> Covered:
        folder = f"{names.periods_staging(self.spec)}/{epoch}/{period}"
        deadline = time.monotonic() + _LONGEST_WAIT_S
        while True:
            revisions = self._closed(period)
            covered = Covered.of(period, revisions)
            if self._visible(revisions):
                try:
                    self._write(period, revisions, covered, folder)
                except Exception:
                    # A close may have moved files over those that were being read.
                    if self._closed(period) == revisions:
                        raise
                if self._closed(period) == revisions and self._visible(revisions):
                    break
            if time.monotonic() > deadline:
                raise self._do_not_meet(period)
            self.files.delete(folder)
            time.sleep(0.5)
        self._move(period, epoch, folder)
        log.info("%s %s: %d hours", self.spec.name, period, len(revisions))
        return covered

    def _closed(self, period: Period) -> list[Revision]:
        closed = self.store.revisions(self.spec.name)
        found = [r for r in closed if period.holds(r.hour)]
        if not found:
            last = ", ".join(names.format_hour(r.hour) for r in closed[-24:]) or "none"
            raise StreamkeeperError(
                f"{self.spec.name}: no hour of the period {period} has been closed; closed hours: "
                f"{last}; close them with {names.hours_dag_id(self.spec.name)}"
            )
        return found

    def _visible(self, revisions: Sequence[Revision]) -> bool:
        """Tell whether the visible files are those of these revisions."""
        held = [r for r in revisions if CURATED in r.files]
        paths = [closed_file(self.spec, CURATED, r.hour) for r in held]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            footers = list(pool.map(lambda path: read_footer(self.files.lake, path), paths))
        return all(
            footer is not None and footer.revision == r.revision
            for r, footer in zip(held, footers, strict=True)
        )

    def _do_not_meet(self, period: Period) -> LakeDisagreement:
        return LakeDisagreement(
            f"{self.spec.name} {period}: the files of closed hours are not those of the revisions "
            "that the store tells; close the hours again, which finishes the moves"
        )

    def _write(
        self, period: Period, revisions: Sequence[Revision], covered: Covered, folder: str
    ) -> None:
        paths = [closed_file(self.spec, CURATED, r.hour) for r in revisions if CURATED in r.files]
        curated = read_curated(self.spark, self.files, self.spec, paths)
        rows = curated.withColumn(CLOSE, F.lit(str(period)))
        for kpi in self._kpis(period):
            found = kpi_rows(rows, self.spec, kpi).drop(CLOSE)
            self._write_file(found, covered, f"{folder}/{kpi.name}")
            if kpi.csv:
                self._write_csv(f"{folder}/{kpi.name}")

    def _write_file(self, rows: DataFrame, covered: Covered, folder: str) -> None:
        first, *others = [F.col(f"`{name}`") for name in rows.columns]
        told = covered.model_dump_json()
        marked = first.alias(rows.columns[0], metadata={PERIOD_KEY: told})
        # One partition has all rows in their order; of none there is still a file.
        writer = rows.select(marked, *others).coalesce(1).write.option("maxRecordsPerFile", 0)
        writer.parquet(self.files.url(f"{folder}/written"))
        (name,) = [n for n in self.files.names(f"{folder}/written") if n.endswith(".parquet")]
        self.files.rename(f"{folder}/written/{name}", f"{folder}/{names.CLOSED_FILE}")

    def _write_csv(self, folder: str) -> None:
        (table,) = read_rows(self.files.lake, [f"{folder}/{names.CLOSED_FILE}"])
        text = csv_text(table.column_names, python_rows(table))
        self.files.write(f"{folder}/{names.CLOSED_CSV}", text)

    # Publishing
    def _move(self, period: Period, epoch: int, folder: str) -> None:
        """Move a period's files over the visible ones; a CSV follows the file that tells for it."""
        self._refuse_overtaken(epoch)
        for kpi in self._kpis(period):
            moves: list[tuple[str, Callable[[Spec, str, Period], str]]]
            moves = [(names.CLOSED_FILE, period_file)]
            moves += [(names.CLOSED_CSV, period_csv)] if kpi.csv else []
            for name, place in moves:
                target = place(self.spec, kpi.name, period)
                self.files.make_folder(target.rpartition("/")[0])
                try:
                    self.files.replace(f"{folder}/{kpi.name}/{name}", target)
                except FileNotFoundError:
                    raise self._overtaken() from None

    def _refuse_overtaken(self, epoch: int) -> None:
        holder = self.store.holder("periods", self.spec.name)
        if holder is None or holder.epoch != epoch:
            raise self._overtaken()

    def _overtaken(self) -> Fenced:
        return Fenced(f"{self.spec.name}: a newer run computes the periods; this one ends")
