"""Closing hours: merge what landed, write the files, commit, move them, write the windows.

The order is the guarantee. Files are written aside; the store commits a revision by compare-and-set
from the one before; only then the files move over the visible ones, each in one step. A close that
dies between commit and move is finished by the next close of the hour. A frozen one that wakes up
fails at the compare-and-set, or finds its files moved.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from pyspark.sql import SparkSession

from streamkeeper import names
from streamkeeper.closing import Task, plan_close
from streamkeeper.errors import LakeDisagreement, RevisionConflict
from streamkeeper.generations import Counted
from streamkeeper.hours import Revision
from streamkeeper.launches import EXIT_DRAINED, write_number
from streamkeeper.names import CURATED, closed_file, closed_name, format_hour, kpi_zone
from streamkeeper.settings import Settings
from streamkeeper.spec.models import Spec
from streamkeeper_io.batch_index import sync_index
from streamkeeper_io.store import Store
from streamkeeper_spark import hours as hour_rows
from streamkeeper_spark.anomalies import HourAnomalies
from streamkeeper_spark.closed_tables import ClosedTables
from streamkeeper_spark.closed_windows import ClosedWindows
from streamkeeper_spark.files import LakeFiles
from streamkeeper_spark.outcome import outcome_of
from streamkeeper_spark.staging import Staging

log = logging.getLogger(__name__)


@dataclass
class Close:
    """Closes hours of one stream, any number of them in one session."""

    spark: SparkSession
    settings: Settings
    spec: Spec
    store: Store
    files: LakeFiles
    _counted: Counted = field(default_factory=lambda: Counted([], []))

    @property
    def _staging(self) -> Staging:
        return Staging(self.spark, self.files, self.spec)

    def run(self, hours: Iterable[datetime]) -> list[Revision]:
        """Close hours; return the revisions that were committed.

        Raises RevisionConflict when another close was faster with an hour, LakeDisagreement,
        Unavailable. What was committed before an error is finished by the next close.
        """
        hours = sorted(set(hours))
        sync_index(self.store, self.settings.need("lake"), self.spec)
        self.finish(self._latest(hours).values())
        self._staging.clear(self._latest())
        tasks = [task for task in self._plan(hours) if self._is_needed(task)]
        if not tasks:
            return []
        # Begun after the revisions were read: so a later revision has a higher write number.
        launch = self.store.begin_close(self.spec.name)
        code, reason = EXIT_DRAINED, f"hours closed: {len(tasks)}"
        try:
            return self._close(tasks, launch.epoch)
        except Exception as error:
            code, reason = outcome_of(error, "", fenced=False)
            raise
        finally:
            self.store.end_launch(launch.epoch, code, reason)

    def finish(self, revisions: Iterable[Revision]) -> None:
        """Move the files of committed revisions and write their windows, where that is pending."""
        pending = [revision for revision in revisions if revision.stores_pending]
        if not pending:
            return
        self._staging.move(pending)
        complete = [revision for revision in pending if revision.state == "complete"]
        written = 0
        if complete:
            closed = {h: r for h, r in self._latest().items() if r.state == "complete"}
            windows = ClosedWindows(
                self.spark,
                self.settings,
                self.files,
                self.spec,
                self._draw_number,
                lambda hour: self.store.manifests(self.spec.name, "raw", hour),
            )
            written = windows.write(complete, closed)
        ClosedTables(self.spec, self.files.lake).write(pending)
        for revision in pending:
            self.store.stores_done(self.spec.name, revision.hour, revision.revision)
        log.info("%s: %d hours are visible, %d window rows", self.spec.name, len(pending), written)

    # What is to do
    def _latest(self, hours: Iterable[datetime] | None = None) -> dict[datetime, Revision]:
        wanted = None if hours is None else set(hours)
        found = self.store.revisions(self.spec.name)
        return {r.hour: r for r in found if wanted is None or r.hour in wanted}

    def _plan(self, hours: Sequence[datetime]) -> list[Task]:
        name = self.spec.name
        generations = self.store.generations(name, names.LAND)
        self._counted = Counted(generations, self.store.manifests(name, "raw"))
        return plan_close(
            hours,
            latest=self._latest(hours),
            counted=self._counted,
            looks={hour: self.store.look(name, hour) for hour in hours},
            lost=self.store.lost(name),
        )

    def _is_needed(self, task: Task) -> bool:
        if not task.needed and task.before is not None:
            told = "nothing landed since revision %d (%s)"
            self._tell(task.hour, told, task.before.revision, task.before.state)
        return task.needed

    def _draw_number(self) -> int:
        launch = self.store.begin_close(self.spec.name)
        self.store.end_launch(launch.epoch, EXIT_DRAINED, "a number for windows over several hours")
        return write_number(launch.epoch, 0)

    # Closing
    def _close(self, tasks: Sequence[Task], epoch: int) -> list[Revision]:
        root = f"{self._staging.root}/{epoch}"
        try:
            self._go_on_from_visible(tasks)
            revisions = self._write(tasks, epoch)
        except Exception as error:
            self._refuse_overtaken(tasks, error)
            raise
        committed = self.store.commit_revisions(revisions)
        self.finish(committed)
        # All that this launch has committed is moved; the rest of its files is of no use.
        self.files.delete(root)
        for task, revision in zip(tasks, revisions, strict=True):
            if revision in committed:
                self._tell(task.hour, "%s", _summary(task, revision))
        self._refuse_conflicts(revisions, committed)
        return committed

    def _go_on_from_visible(self, tasks: Sequence[Task]) -> None:
        wrong = self._staging.check_visible(tasks)
        if wrong:
            places = ", ".join(closed_file(self.spec, CURATED, t.hour) for t in wrong)
            raise LakeDisagreement(
                f"{self.spec.name}: not at the revision that the store tells: {places}; restore "
                "these files from a backup"
            )

    def _write(self, tasks: Sequence[Task], epoch: int) -> list[Revision]:
        quarantined = self._quarantined([task.hour for task in tasks])
        folders = {n: self._staging.folder(epoch, n) for n in sorted({t.number for t in tasks})}
        written: dict[datetime, dict[str, int]] = {}
        for number, folder in folders.items():
            group = [task for task in tasks if task.number == number]
            written |= self._staging.write(group, folder, self._counted)
        found = HourAnomalies(self._staging, tasks, folders, written, self._latest()).write()
        made = []
        for task in tasks:
            rows = written[task.hour]
            counts = _counts(task, rows, quarantined[task.hour]) | {"anomalies": found[task.hour]}
            made.append(self._revision(task, epoch, folders[task.number], rows, counts))
        return made

    def _quarantined(self, hours: Sequence[datetime]) -> dict[datetime, Counter[str]]:
        # A record that arrived in an hour was written after the hour's start. The broker's clock
        # and the driver's may differ a little.
        since = min(hours) - timedelta(minutes=10)
        batches = [m for m in self._counted.manifests if m.quarantined and m.written_at >= since]
        paths = hour_rows.batch_files(self.spec, batches)
        if not paths:
            return {hour: Counter() for hour in hours}
        landed = hour_rows.read_landed(self.spark, self.files, self.spec, paths)
        standing = hour_rows.without_replaced(landed, self._counted)
        return hour_rows.quarantined_by_hour(standing, hours)

    def _revision(
        self,
        task: Task,
        epoch: int,
        folder: str,
        written: dict[str, int],
        counts: dict[str, Any],
    ) -> Revision:
        return Revision(
            stream=self.spec.name,
            hour=task.hour,
            revision=task.number,
            epoch=epoch,
            write_number=write_number(epoch, 0),
            state="complete" if task.done.complete else "partial",
            merged=dict(task.merged),
            files={zone: [closed_name(self.spec, zone)] for zone in written},
            staging=folder,
            counts=counts,
            missing=task.done.missing,
            committed_at=datetime.now(UTC),
        )

    def _refuse_overtaken(self, tasks: Sequence[Task], error: Exception) -> None:
        """Raise RevisionConflict if another close has moved the ground that this one stood on."""
        latest = self._latest([task.hour for task in tasks])
        taken = [format_hour(t.hour) for t in tasks if _number(latest.get(t.hour)) >= t.number]
        if taken:
            raise RevisionConflict(
                f"{self.spec.name}: another close was faster with {', '.join(taken)}; nothing was "
                "changed by this one, run it again"
            ) from error

    def _refuse_conflicts(self, made: Sequence[Revision], committed: Sequence[Revision]) -> None:
        hours = {revision.hour for revision in committed}
        lost = [format_hour(r.hour) for r in made if r.hour not in hours]
        if lost:
            raise RevisionConflict(
                f"{self.spec.name}: another close was faster with {', '.join(lost)}; these hours "
                "were not changed by this one, run it again"
            )

    def _tell(self, hour: datetime, text: str, *values: object) -> None:
        log.info(f"%s %s: {text}", self.spec.name, format_hour(hour), *values)


def _number(revision: Revision | None) -> int:
    return revision.revision if revision else 0


def _counts(task: Task, written: dict[str, int], quarantined: Counter[str]) -> dict[str, Any]:
    """Return what a report tells of an hour: valid rows by event time, the others by arrival."""
    valid, bad = written.get(CURATED, 0), quarantined[""]
    return {
        "read": valid + bad,
        "valid": valid,
        "added": valid - (task.before.counts["valid"] if task.before else 0),
        "batches": len(task.manifests),
        "quarantined": bad,
        "quarantined_by_rule": {rule: n for rule, n in sorted(quarantined.items()) if rule},
        "rows": written,
        # Kept until windows are written, which a partial hour's are not.
        "replaced": task.change.replaced or _still_replaced(task.before),
        "reason": task.done.reason,
    }


def _still_replaced(before: Revision | None) -> bool:
    return before is not None and before.state == "partial" and bool(before.counts.get("replaced"))


def _summary(task: Task, revision: Revision) -> str:
    counts = revision.counts
    told = (
        f"revision {revision.revision}, {revision.state}: {counts['valid']:,} readings "
        f"({counts['added']:+,} from {counts['batches']} batches), "
        f"{counts['quarantined']:,} quarantined on arrival"
    )
    kpis = ", ".join(
        f"{zone.rpartition('/')[2]} {rows}"
        for zone, rows in counts["rows"].items()
        if zone.startswith(kpi_zone(""))
    )
    missing = "; ".join(
        f"partition {p}: " + ", ".join(f"{first}..{end - 1}" for first, end in holes)
        for p, holes in revision.missing.items()
    )
    told += f"; KPI rows: {kpis}" if kpis else "; no rows"
    if any(counts["anomalies"].values()):
        told += f"; anomalies: {', '.join(f'{k} {n}' for k, n in counts['anomalies'].items() if n)}"
    if revision.state == "partial":
        told += f"; {task.done.reason}" + (f", missing {missing}" if missing else "")
    return told
