"""Landed rows into Delta tables in the lake; no Spark job is needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from streamkeeper import names
from streamkeeper.manifest import Manifest
from streamkeeper.settings import Settings
from streamkeeper.spec.models import Spec
from streamkeeper.spec.sinks import DeltaSink
from streamkeeper_io.delta import (
    DeltaMark,
    DeltaWriter,
    Plan,
    chosen_files,
    delta_version,
    live_files,
    may_hold,
)
from streamkeeper_io.delta_files import DeltaFile
from streamkeeper_io.delta_sinks import raw_shape
from streamkeeper_io.lake import published_batches, read_rows, use_lake, with_columns


class DeltaRaw:
    """Applies published batches of landed rows, each exactly once: rows and mark move together.

    The table has one row a coordinate: what a later generation reads again takes the place of what
    was there, as `_write_number` tells.

    Parameters: spec; sink, the declaration; where, the settings, or the address of the table's
    lake; lake, in which batches are published.
    """

    def __init__(self, spec: Spec, sink: DeltaSink, where: Settings | str, lake: str) -> None:
        self.name = f"delta:{sink.path}"
        self._spec, self._lake = spec, lake
        table_lake = where if isinstance(where, str) else use_lake(where)
        shape = raw_shape(spec, sink)
        about = f"landed rows of the stream {spec.name}"
        self._writer = DeltaWriter(table_lake, sink.path, shape, about)
        self._columns = [n for n in shape.columns.names if n != names.WRITE_NUMBER]

    def close(self) -> None:
        """Nothing is held open."""

    def mark(self) -> Mapping[str, int]:
        """Return the mark that lies in the table's log."""
        table = self._writer.table()
        found = {g: delta_version(table, self._app_id(g)) for g in self._generations()}
        return {generation: batch for generation, batch in found.items() if batch >= 0}

    def apply(self, manifest: Manifest, folder: str) -> int:
        """Write one published batch and move the mark, in one commit."""
        if manifest.read == 0:
            return 0
        mark = DeltaMark(self._app_id(manifest.generation), manifest.batch)
        self._writer.write(mark, lambda table: self._plan(table, manifest, folder))
        return manifest.valid

    def _app_id(self, generation: str) -> str:
        return names.delta_app_id(self._spec.name, generation)

    def _generations(self) -> set[str]:
        return {b.generation for b in published_batches(self._lake, names.raw_path(self._spec))}

    def _plan(self, table: DeltaTable, manifest: Manifest, folder: str) -> Plan:
        rows = self._rows(manifest, folder)
        others = self._generations() - {manifest.generation}
        if all(delta_version(table, self._app_id(g)) < 0 for g in others):
            return Plan(rows)
        removed, kept, newer = self._read_before(table, manifest)
        return Plan([*(_without(part, newer) for part in rows), *kept], removed)

    def _rows(self, manifest: Manifest, folder: str) -> Iterator[pa.Table]:
        """Yield the valid rows of a batch file by file."""
        wanted = [*self._columns, names.ERRORS]
        for name in manifest.files if manifest.valid else ():
            (landed,) = read_rows(self._lake, [f"{folder}/{name}"], wanted)
            landed = with_columns(landed, wanted)
            if landed[names.ERRORS].null_count < landed.num_rows:
                landed = landed.filter(pc.is_null(landed[names.ERRORS]))
            number = pa.repeat(pa.scalar(manifest.write_number, pa.int64()), landed.num_rows)
            yield landed.drop_columns([names.ERRORS]).append_column(names.WRITE_NUMBER, number)

    def _read_before(
        self, table: DeltaTable, manifest: Manifest
    ) -> tuple[list[DeltaFile], list[pa.Table], set[tuple[int, int]]]:
        """Return what the table has of a batch's messages from other generations.

        Returns the files that hold rows of older writes, the rows of these files that stay, and
        the coordinates of rows of newer writes.
        """
        files = live_files(table)
        removed: list[DeltaFile] = []
        kept: list[pa.Table] = []
        newer: set[tuple[int, int]] = set()
        for file in chosen_files(table, files.filter(_may_overlap(files, manifest))):
            there = self._writer.files.read(file)
            within = _in_span(there, manifest)
            number, written = there[names.WRITE_NUMBER], manifest.write_number
            older = pc.and_(within, pc.less(number, written))
            if pc.any(older).as_py():
                removed.append(file)
                kept.append(there.filter(pc.invert(older)))
            later = there.filter(pc.and_(within, pc.greater(number, written)))
            newer.update(_coordinates(later))
        return removed, kept, newer


def _may_overlap(files: pa.Table, manifest: Manifest) -> pa.ChunkedArray:
    """Return which files may have rows of a batch's messages."""
    topic = manifest.topic_id
    of_topic = may_hold(files, names.TOPIC_ID, topic, topic + "\0")
    parts = [
        pc.and_(
            may_hold(files, names.PARTITION, partition, partition + 1),
            may_hold(files, names.OFFSET, *ends),
        )
        for partition, ends in manifest.span.items()
    ]
    return pc.and_(of_topic, reduce(pc.or_, parts))


def _in_span(rows: pa.Table, manifest: Manifest) -> pa.ChunkedArray:
    """Return which rows are of a batch's messages."""
    partition, offset = rows[names.PARTITION], rows[names.OFFSET]
    parts = [
        reduce(
            pc.and_,
            (pc.equal(partition, p), pc.greater_equal(offset, first), pc.less(offset, end)),
        )
        for p, (first, end) in manifest.span.items()
    ]
    same_topic = pc.equal(rows[names.TOPIC_ID], manifest.topic_id)
    return pc.fill_null(pc.and_(same_topic, reduce(pc.or_, parts)), False)


def _coordinates(rows: pa.Table) -> Iterator[tuple[int, int]]:
    return zip(rows[names.PARTITION].to_pylist(), rows[names.OFFSET].to_pylist(), strict=True)


def _without(rows: pa.Table, newer: set[tuple[int, int]]) -> pa.Table:
    """Return the rows of which the table has no newer writes."""
    if not newer:
        return rows
    return rows.filter(pa.array([found not in newer for found in _coordinates(rows)], pa.bool_()))
