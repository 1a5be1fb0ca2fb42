"""Looking into a stream's zones in the lake: rows, columns and counts, without Spark."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from streamkeeper import names
from streamkeeper.errors import StoreUnavailable
from streamkeeper.hours import Revision
from streamkeeper.manifest import Manifest
from streamkeeper.names import BatchName, closed_file, parse_hour
from streamkeeper.settings import Settings
from streamkeeper.showing import HourRange
from streamkeeper.spec.models import Spec
from streamkeeper_io.closed import Footer, read_footer, read_head
from streamkeeper_io.lake import folder_names, published_batches, read_last, read_manifest, use_lake
from streamkeeper_io.tables import only, put_together, within

if TYPE_CHECKING:
    from streamkeeper_io.store import Store

T = TypeVar("T")
log = logging.getLogger(__name__)
_AT_ONCE = 8
# So many manifests are read in less time than the store's client takes to be imported.
_FEW = 100
QUARANTINE_COLUMNS = (
    names.ERRORS,
    names.VALUE,
    names.TIMESTAMP,
    names.PARTITION,
    names.OFFSET,
)


@dataclass(frozen=True)
class LakeView:
    """What a stream holds in the lake.

    The store's index of batches is used where there are many; the lake alone is enough.
    `without_files` gets the folders of batches that were looked into and lacked a file: retention
    deletes files, or one was lost.
    """

    settings: Settings
    spec: Spec
    without_files: set[str] = field(default_factory=set, compare=False, repr=False)
    _away: list[Exception] = field(default_factory=list, compare=False, repr=False)

    @property
    def lake(self) -> str:
        return use_lake(self.settings)

    # Published batches
    def landed(self, limit: int, hours: HourRange | None = None) -> pa.Table | None:
        """Return the valid rows that landed last, of event hours or any; None if there are none.

        The declared fields come first, then the coordinates.
        """
        columns = self.columns()
        read = [*columns, names.ERRORS, names.HOUR]

        def keep(rows: pa.Table) -> pa.Table:
            rows = rows.filter(pc.is_null(rows[names.ERRORS]))
            return rows.filter(within(rows[names.HOUR], hours)) if hours else rows

        found = self._newest("raw", hours, limit, read, keep)
        return None if found is None else only(found, columns)

    def columns(self) -> list[str]:
        """Return the columns of a valid row that people look at."""
        return [*self.spec.columns(), *names.COORDINATES[1:], names.EVENT_TIME, names.TIMESTAMP]

    def quarantined(self, limit: int, hours: HourRange | None = None) -> pa.Table | None:
        """Return the quarantined records that landed last, of some arrival hours or any."""

        def keep(rows: pa.Table) -> pa.Table:
            rows = rows.filter(pc.is_valid(rows[names.ERRORS]))
            return rows.filter(within(rows[names.TIMESTAMP], hours)) if hours else rows

        batches = [m for m in self.manifests("raw") if m.quarantined]
        return self.rows_of(reversed(batches), "raw", limit, list(QUARANTINE_COLUMNS), keep)

    def live_windows(
        self, window: str, limit: int, hours: HourRange | None = None
    ) -> pa.Table | None:
        """Return the last state of a window's newest rows, by window start downwards.

        A close outranks them: its windows are in the sinks' tables.
        """
        keys = ["window_start", *self.spec.window(window).by]

        def keep(rows: pa.Table) -> pa.Table:
            return rows.filter(within(rows["window_start"], hours)) if hours else rows

        # A window's row is written again with each batch that changes it.
        found = self._newest(f"windows/{window}", hours, 4 * limit + 200, None, keep)
        if found is None:
            return None
        found = found.drop_columns([n for n in found.column_names if n.startswith("_")])
        numbered = found.append_column("_n", pa.array(range(found.num_rows)))
        last = numbered.group_by(keys).aggregate([("_n", "max")])["_n_max"]
        order = [("window_start", "descending"), *((k, "ascending") for k in keys[1:])]
        return found.take(last).sort_by(order).slice(0, limit)

    def landed_by_hour(self, zone: str = "raw") -> dict[datetime, int]:
        """Count the valid rows of each event hour, or a window's rows by the hour of their start.

        Parameters: zone, `raw` or `windows/<window>`.
        """
        counts: dict[datetime, int] = {}
        for manifest in self.manifests(zone):
            for hour, rows in manifest.hours.items():
                counts[hour] = counts.get(hour, 0) + rows
        return dict(sorted(counts.items()))

    def quarantined_by_rule(self) -> tuple[int, dict[str, int]]:
        """Count the quarantined records: all of them, and those that broke each rule."""
        rules: dict[str, int] = {}
        manifests = self.manifests("raw")
        for manifest in manifests:
            for rule, records in manifest.quarantined_by_rule.items():
                rules[rule] = rules.get(rule, 0) + records
        return sum(m.quarantined for m in manifests), dict(sorted(rules.items()))

    def folder(self, zone: str) -> str:
        """Return the folder of a zone of published batches."""
        if zone == "raw":
            return names.raw_path(self.spec)
        return names.window_path(self.spec, zone.removeprefix("windows/"))

    def manifests(self, zone: str, hours: HourRange | None = None) -> list[Manifest]:
        """Return the manifests of a zone in the order of their batches.

        Parameters: hours, only of batches with valid rows in these event hours.
        """
        batches, found = published_batches(self.lake, self.folder(zone)), None
        if len(batches) > _FEW:
            found = self.ask_store(lambda store: self._indexed(store, zone, hours))
        if found is None:
            read = partial(read_manifest, self.lake, self.folder(zone))
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                found = list(pool.map(read, batches))
            first: dict[str, int] = {}
            for manifest in found:
                first[manifest.generation] = min(
                    manifest.epoch, first.get(manifest.generation, manifest.epoch)
                )
            found.sort(key=lambda m: (first[m.generation], m.generation, m.batch))
        return [m for m in found if hours is None or any(hour in hours for hour in m.hours)]

    def _indexed(self, store: Store, zone: str, hours: HourRange | None) -> list[Manifest]:
        from streamkeeper_io.batch_index import sync_index

        sync_index(store, self.lake, self.spec, zone)
        single = hours.first if hours and len(hours.hours) == 1 else None
        return store.manifests(self.spec.name, zone, single)

    def ask_store(self, question: Callable[[Store], T]) -> T | None:
        """Return the store's answer; None when there is no store, or it is away.

        One that was away is not waited for again.
        """
        if not self.settings.store or self._away:
            return None
        # Imported where they are needed: a look at the newest rows does without the store.
        from sqlalchemy.exc import SQLAlchemyError

        from streamkeeper_io.store import Store

        store = Store(self.settings.store)
        try:
            return question(store)
        except (StoreUnavailable, SQLAlchemyError) as error:
            log.debug("the lake is read without the store: %s", error)
            self._away.append(error)
            return None
        finally:
            store.close()

    def _newest(
        self,
        zone: str,
        hours: HourRange | None,
        limit: int,
        columns: list[str] | None,
        keep: Callable[[pa.Table], pa.Table],
    ) -> pa.Table | None:
        """Return rows of the newest batches, in the order in which they landed."""
        if hours is not None:
            batches: Iterable[Manifest] = reversed(self.manifests(zone, hours))
        else:
            batches = self.backwards(zone)
        return self.rows_of(batches, zone, limit, columns, keep)

    def backwards(self, zone: str, batches: list[BatchName] | None = None) -> Iterator[Manifest]:
        """Yield manifests from the newest one, reading no more than are asked for.

        Parameters: batches, of these; by default of all that are published.
        """
        folder = self.folder(zone)
        found = published_batches(self.lake, folder) if batches is None else batches
        by_generation: dict[str, list[BatchName]] = {}
        for name in found:
            by_generation.setdefault(name.generation, []).append(name)
        last = [read_manifest(self.lake, folder, batches[-1]) for batches in by_generation.values()]
        for manifest in sorted(last, key=lambda m: m.epoch, reverse=True):
            for name in reversed(by_generation[manifest.generation]):
                yield read_manifest(self.lake, folder, name)

    def rows_of(
        self,
        batches: Iterable[Manifest],
        zone: str,
        limit: int,
        columns: list[str] | None,
        keep: Callable[[pa.Table], pa.Table],
        *,
        gone: set[BatchName] | None = None,
    ) -> pa.Table | None:
        """Read batches, given from the newest on, until `limit` rows are kept.

        Parameters: gone, gets the batches that lack a file; their manifests stay.
        """
        kept: list[pa.Table] = []
        wanted = limit
        for manifest in batches:
            name = BatchName(manifest.generation, manifest.batch)
            folder = f"{self.folder(zone)}/{name.folder}"
            for file in reversed(manifest.files):
                try:
                    rows = read_last(self.lake, f"{folder}/{file}", columns, keep, wanted)
                except FileNotFoundError:
                    self.without_files.add(folder)
                    if gone is not None:
                        gone.add(name)
                    continue
                if rows is not None:
                    kept.insert(0, rows)
                    wanted -= rows.num_rows
                if wanted <= 0:
                    return put_together(kept)
        return put_together(kept) if kept else None

    # Closed hours
    def closed_hours(self, zone: str, hours: HourRange | None = None) -> list[datetime]:
        """Return the hours that have a file in a zone, `curated` or a KPI's, oldest first.

        Parameters: hours, only of these.
        """
        root = f"{self.spec.lake.path}/{zone}"
        days = [name for name in folder_names(self.lake, root) if name.startswith("dt=")]
        if hours is not None:
            asked = {names.hour_folder(hour).partition("/")[0] for hour in hours.hours}
            days = [day for day in days if day in asked]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            inside = pool.map(lambda day: folder_names(self.lake, f"{root}/{day}"), days)
        found = [
            parse_hour(f"{day[3:]}T{name[5:]}")
            for day, inner in zip(days, inside, strict=True)
            for name in inner
            if name.startswith("hour=")
        ]
        return found if hours is None else [hour for hour in found if hour in hours]

    def last_closed(self, zone: str, most: int) -> list[datetime]:
        """Return the last hours that have a file in a zone, oldest first."""
        root = f"{self.spec.lake.path}/{zone}"
        days = [name for name in folder_names(self.lake, root) if name.startswith("dt=")]
        found: list[datetime] = []
        for day in reversed(days):
            inside = (n for n in folder_names(self.lake, f"{root}/{day}") if n.startswith("hour="))
            found = [*(parse_hour(f"{day[3:]}T{name[5:]}") for name in inside), *found]
            if len(found) >= most:
                break
        return found[-most:]

    def closed(self, zone: str, hour: datetime, limit: int) -> tuple[Footer, pa.Table] | None:
        """Return the footer and the first rows of a closed hour; None if it has no file."""
        return read_head(self.lake, closed_file(self.spec, zone, hour), limit)

    def closed_rows(self, zone: str) -> dict[datetime, tuple[int, int]]:
        """Return revision and rows of every closed hour of a zone, as its file tells them."""
        hours = self.closed_hours(zone)
        read = partial(closed_file, self.spec, zone)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            footers = pool.map(lambda hour: read_footer(self.lake, read(hour)), hours)
        found = zip(hours, footers, strict=True)
        return {hour: (footer.revision, footer.rows) for hour, footer in found if footer}

    def revision(self, hour: datetime) -> Revision | None:
        """Return the last revision of an hour that the store knows."""
        return self.ask_store(lambda store: store.revision(self.spec.name, hour))

    def closed_counts(self, zone: str) -> dict[datetime, ClosedCount]:
        """Return what is known of every closed hour of a zone, without reading rows.

        The store tells revisions, rows and states at once; where it is away, footers tell the
        first two. An hour that only one of the two knows is in.
        """
        told = self.ask_store(lambda store: store.revisions(self.spec.name))
        if told is None:
            footers = self.closed_rows(zone)
            return {hour: ClosedCount(k, n) for hour, (k, n) in footers.items()}
        counts = {
            r.hour: ClosedCount(r.revision, r.counts["rows"].get(zone, 0), r.state, r.merged)
            for r in told
            if "rows" in r.counts
        }
        for hour in self.closed_hours(zone):
            # The store was lost or emptied; the files remain.
            if hour not in counts:
                footer = read_footer(self.lake, closed_file(self.spec, zone, hour))
                if footer:
                    counts[hour] = ClosedCount(footer.revision, footer.rows)
        return dict(sorted(counts.items()))


class ClosedCount(NamedTuple):
    """A closed hour: its revision and its rows in a zone.

    `state` is complete or partial, `merged` the last batch of each generation that is in; None
    where the store does not tell.
    """

    revision: int
    rows: int
    state: str | None = None
    merged: Mapping[str, int] | None = None
