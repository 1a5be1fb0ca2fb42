"""A stream's rows wherever they lie, each once: closed hours, and what has landed since.

A row that was merged by a close lies in `curated` and, until retention, in `raw` too. Which batches
an hour's file has merged is told by its own rows, so that file and answer are of one revision.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from streamkeeper import names
from streamkeeper.generations import Counted, Generation
from streamkeeper.manifest import Manifest
from streamkeeper.names import BatchName, closed_file
from streamkeeper.showing import HourRange
from streamkeeper_io.closed import read_closed, read_footer
from streamkeeper_io.lake import folder_names, published_batches, read_last, read_text
from streamkeeper_io.tables import only, put_together, within
from streamkeeper_io.zones import ClosedCount, LakeView

_NAMES = (names.GENERATION, names.BATCH)


class HourCount(NamedTuple):
    """An hour of a stream: what its close holds, None before the first, and what landed since."""

    closed: ClosedCount | None
    since: int


@dataclass(frozen=True)
class RowsOnce:
    """The rows of a stream that count, each of them once.

    Parameters: view, what the stream holds; columns, only these besides the coordinates and the
    event time, None for all.
    """

    view: LakeView
    columns: tuple[str, ...] | None = None

    def newest(self, limit: int, hours: HourRange | None = None) -> pa.Table | None:
        """Return the last rows: of hours by their order, else as they landed; None if none.

        Parameters: hours, only rows of these event hours.
        """
        parts = self._everything(limit) if hours is None else self._of_hours(limit, hours)
        kept, wanted = list[pa.Table](), limit
        for part in parts:
            kept.insert(0, part.slice(max(0, part.num_rows - wanted)))
            wanted -= part.num_rows
            if wanted <= 0:
                break
        if not kept:
            return None
        return put_together([only(part, self._columns) for part in kept])

    def by_hour(
        self, hours: HourRange, begin: datetime | None = None, end: datetime | None = None
    ) -> Iterator[pa.Table]:
        """Yield the rows of each of these hours that has any, the oldest first.

        Parameters: begin and end, batches of which all rows lie before or behind are left out.
        """

        def needed(manifest: Manifest) -> bool:
            first, last = manifest.first_event, manifest.last_event
            if first is None or last is None:
                return True
            return (begin is None or last >= begin) and (end is None or first < end)

        for _, parts in self._hours(hours, sys.maxsize, newest_first=False, needed=needed):
            found = [only(part, self._columns) for part in parts]
            if found:
                yield put_together(found)

    def counts(self) -> dict[datetime, HourCount]:
        """Return what each hour holds. Rows that a rewind has read again count each time."""
        closed = self.view.closed_counts(names.CURATED)
        merged = {
            hour: self._merged(hour)[1] if count.merged is None else count.merged
            for hour, count in closed.items()
        }
        since: dict[datetime, int] = {}
        for manifest in self.view.manifests("raw"):
            for hour, rows in manifest.hours.items():
                if manifest.batch > merged.get(hour, {}).get(manifest.generation, -1):
                    since[hour] = since.get(hour, 0) + rows
        every = sorted(closed.keys() | since.keys())
        return {hour: HourCount(closed.get(hour), since.get(hour, 0)) for hour in every}

    def _everything(self, limit: int) -> Iterator[pa.Table]:
        """Yield parts from the last one on: what landed, then what only hours hold."""
        gone: set[BatchName] = set()
        for manifest in self.view.backwards("raw", self._published):
            yield from self._landed(manifest, limit, None, gone)
        published = set(self._published) - gone
        for hour in reversed(self.view.closed_hours(names.CURATED)):
            rows = self._curated(hour, None if published else limit)
            if rows is not None and published:
                # Batches that are still there have told their rows already.
                rows = rows.filter(pc.invert(_of_batches(rows, published)))
            if rows is not None and rows.num_rows:
                yield rows

    def _of_hours(self, limit: int, hours: HourRange) -> Iterator[pa.Table]:
        for _, parts in self._hours(hours, limit, newest_first=True):
            yield from parts

    def _hours(
        self,
        hours: HourRange,
        limit: int,
        *,
        newest_first: bool,
        needed: Callable[[Manifest], bool] = lambda _: True,
    ) -> Iterator[tuple[datetime, list[pa.Table]]]:
        landed = [m for m in self.view.manifests("raw", hours) if needed(m)]
        closed = self.view.closed_hours(names.CURATED, hours)
        there = {h for m in landed for h in m.hours if h in hours}
        for hour in sorted(there.union(closed), reverse=newest_first):
            yield hour, self._hour(hour, limit, [m for m in landed if hour in m.hours])

    def _hour(self, hour: datetime, limit: int, landed: list[Manifest]) -> list[pa.Table]:
        """Return parts of an hour from the last one on, all of one revision."""
        while True:
            revision, merged = self._merged(hour)
            parts, wanted = list[pa.Table](), limit
            for manifest in reversed(landed):
                if wanted > 0 and manifest.batch > merged.get(manifest.generation, -1):
                    found = list(self._landed(manifest, wanted, HourRange.one(hour)))
                    parts += found
                    wanted -= sum(rows.num_rows for rows in found)
            rows = self._curated(hour, wanted) if wanted > 0 and revision else None
            if rows is not None and rows.num_rows:
                parts.append(rows)
            # A close may have moved the next revision over the file meanwhile.
            footer = read_footer(self.view.lake, self._file(hour))
            if (footer.revision if footer else 0) == revision:
                return parts

    def _landed(
        self,
        manifest: Manifest,
        limit: int,
        hours: HourRange | None,
        gone: set[BatchName] | None = None,
    ) -> Iterator[pa.Table]:
        columns = [*self._columns, names.TOPIC_ID, *_NAMES, names.ERRORS, names.HOUR]

        def keep(rows: pa.Table) -> pa.Table:
            rows = rows.filter(pc.is_null(rows[names.ERRORS]))
            if hours:
                rows = rows.filter(within(rows[names.HOUR], hours))
            return self._that_count(rows)

        rows = self.view.rows_of([manifest], "raw", limit, columns, keep, gone=gone)
        if rows is not None:
            yield rows

    def _curated(self, hour: datetime, limit: int | None) -> pa.Table | None:
        columns = [*self._columns, names.TOPIC_ID, *_NAMES]
        path = self._file(hour)
        try:
            if limit is not None:
                return read_last(self.view.lake, path, columns, self._that_count, limit)
            found = read_closed(self.view.lake, path, columns)
            return self._that_count(found[1]) if found else None
        except FileNotFoundError:
            return None

    @property
    def _columns(self) -> list[str]:
        if self.columns is None:
            return self.view.columns()
        asked = (*self.columns, *names.COORDINATES[1:], names.EVENT_TIME)
        return list(dict.fromkeys(asked))

    def _file(self, hour: datetime) -> str:
        return closed_file(self.view.spec, names.CURATED, hour)

    def _merged(self, hour: datetime) -> tuple[int, dict[str, int]]:
        """Return an hour's revision, and the last batch of each generation that it holds rows of.

        A later one that its close has merged too had no rows of the hour that count. The revision
        of an hour without a file is 0.
        """
        found = read_closed(self.view.lake, self._file(hour), _NAMES)
        if found is None:
            return 0, {}
        if not set(_NAMES) <= set(found[1].column_names):
            return found[0].revision, {}
        generation, batch = (found[1][name] for name in _NAMES)
        # A group_by would do it too, and import pandas for it.
        return found[0].revision, {
            one.as_py(): pc.max(batch.filter(pc.equal(generation, one))).as_py()
            for one in pc.unique(generation)
        }

    # Generations
    @cached_property
    def _published(self) -> list[BatchName]:
        return published_batches(self.view.lake, self.view.folder("raw"))

    @cached_property
    def _counted(self) -> Counted | None:
        """What counts of several generations; None where one has made all that is published."""
        if len({name.generation for name in self._published}) < 2:
            return None
        manifests = self.view.manifests("raw")
        known = self._generations()
        for manifest in manifests:
            # Of a checkpoint that is gone only its batches tell; it began with the first of them.
            known.setdefault(manifest.generation, _from_batch(manifest))
        order = sorted(known.values(), key=lambda g: (g.epoch, g.request))
        return Counted(order, manifests)

    def _generations(self) -> dict[str, Generation]:
        folder = names.checkpoint_path(self.view.spec, names.LAND)
        found = {}
        for ident in folder_names(self.view.lake, folder):
            path = f"{folder}/{ident}/{names.GENERATION_FILE}"
            try:
                found[ident] = Generation.model_validate_json(read_text(self.view.lake, path))
            except FileNotFoundError:
                continue
        return found

    def _that_count(self, rows: pa.Table) -> pa.Table:
        """Leave out rows of a generation that does not count, and those that were read again."""
        if self._counted is None or not rows.num_rows:
            return rows
        mask: pa.Array = None
        for generation in self._counted.counting:
            mine = pc.and_(
                pc.equal(rows[names.GENERATION], generation.generation),
                pc.equal(rows[names.TOPIC_ID], generation.topic_id),
            )
            for partition, pieces in self._counted.replaced(generation.generation).items():
                for first, end in pieces:
                    mine = pc.and_(mine, pc.invert(_in_span(rows, partition, first, end)))
            mask = mine if mask is None else pc.or_(mask, mine)
        return rows.filter(mask) if mask is not None else rows.slice(0, 0)


def _in_span(rows: pa.Table, partition: int, first: int, end: int) -> pa.ChunkedArray:
    offset = rows[names.OFFSET]
    inside = pc.and_(pc.greater_equal(offset, first), pc.less(offset, end))
    return pc.and_(pc.equal(rows[names.PARTITION], partition), inside)


def _of_batches(rows: pa.Table, published: set[BatchName]) -> pa.Array:
    pairs = zip(rows[names.GENERATION].to_pylist(), rows[names.BATCH].to_pylist(), strict=True)
    return pa.array([BatchName(*pair) in published for pair in pairs], pa.bool_())


def _from_batch(manifest: Manifest) -> Generation:
    return Generation(
        stream=manifest.stream,
        query=names.LAND,
        generation=manifest.generation,
        topic=manifest.topic,
        topic_id=manifest.topic_id,
        start={p: first for p, (first, _) in manifest.span.items()},
        epoch=manifest.epoch,
    )
