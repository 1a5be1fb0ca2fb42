"""Landed rows and live window rows into Cassandra tables."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from cassandra.cluster import Session

from streamkeeper import names
from streamkeeper.launches import LIVE_RANK
from streamkeeper.manifest import Manifest
from streamkeeper.settings import Settings
from streamkeeper.spec.models import Spec
from streamkeeper.spec.sinks import CassandraSink
from streamkeeper_io.cassandra import GroupedWriter, connect, ensure_table
from streamkeeper_io.cassandra_sinks import DAY, raw_table, window_table
from streamkeeper_io.cassandra_tables import KEY_BYTES, CassandraTable
from streamkeeper_io.lake import read_rows, with_columns
from streamkeeper_spark.datasources.cassandra.kinds import parse_kind
from streamkeeper_spark.datasources.cassandra.values import bound_values

log = logging.getLogger(__name__)
Values = tuple[Any, ...]


class _CassandraRows:
    """Applies published batches: at least once, and repeating them changes nothing.

    Parameters: table; sink, the declaration; where, the settings, or contact points; lake.
    `left_out` counts the rows that Cassandra would refuse.
    """

    def __init__(
        self, table: CassandraTable, sink: CassandraSink, where: Settings | str, lake: str
    ) -> None:
        self.name = f"cassandra:{sink.keyspace}.{sink.table}"
        self.left_out = 0
        self._table, self._consistency = table, sink.consistency
        self._where, self._lake = where, lake
        self._session: Session | None = None
        self._writer: GroupedWriter | None = None

    def close(self) -> None:
        """Close the connection."""
        if self._session is not None:
            self._session.cluster.shutdown()
        self._session = self._writer = None

    def _open(self) -> GroupedWriter:
        if self._writer is None:
            self._session = connect(self._where)
            ensure_table(self._session, self._table)
            self._writer = GroupedWriter(self._session, self._table, consistency=self._consistency)
        return self._writer

    def _read(self, manifest: Manifest, folder: str, columns: list[str] | None) -> list[pa.Table]:
        return read_rows(self._lake, [f"{folder}/{name}" for name in manifest.files], columns)

    def _accepted(self, rows: Iterable[Values]) -> Iterator[Values]:
        """Yield the rows whose keys Cassandra takes; the others stay in the lake alone.

        It would refuse them and, as batches are applied in order, all that comes after them.
        """
        partition = [self._table.names.index(name) for name in self._table.partition]
        clustering = [self._table.names.index(name) for name in self._table.clustering]
        left_out: Counter[str] = Counter()
        for row in rows:
            parts = [row[place] for place in partition]
            others = [_bytes(row[place]) for place in clustering]
            longest = max([sum(_bytes(part) for part in parts), *others])
            if None in (*parts, *(row[place] for place in clustering)):
                left_out["without their whole key"] += 1
            elif longest > KEY_BYTES:
                left_out[f"with a key longer than {KEY_BYTES} bytes"] += 1
            elif parts == [""]:
                left_out["with an empty key"] += 1
            else:
                yield row
        self.left_out += left_out.total()
        for what, count in left_out.items():
            log.warning("%s: %d rows %s are left out; they are in the lake", self.name, count, what)


class CassandraWindows(_CassandraRows):
    """Applies published batches of a window.

    A cell's write timestamp is the batch's write number less LIVE_RANK: a later batch wins, and
    any close outranks all of them.
    """

    def __init__(self, spec: Spec, sink: CassandraSink, where: Settings | str, lake: str) -> None:
        super().__init__(window_table(spec, sink), sink, where, lake)

    def apply(self, manifest: Manifest, folder: str) -> int:
        """Write one published batch."""
        if manifest.read == 0:
            return 0
        tables = self._read(manifest, folder, None)
        return self.write(tables, manifest.write_number - LIVE_RANK)

    def write(self, tables: Iterable[pa.Table], timestamp: int) -> int:
        """Write window rows with a write timestamp; a cell keeps the highest."""
        writer = self._open()
        rows = (row for table in tables for row in self._rows(table))
        return writer.write(self._accepted(rows), timestamp)

    def remove(self, table: pa.Table, timestamp: int) -> int:
        """Remove the window rows with these keys, unless written with a higher timestamp."""
        return self._open().remove(self._accepted(self._rows(table)), timestamp)

    def _rows(self, table: pa.Table) -> Iterator[Values]:
        columns = [
            _days(table) if name == DAY else table[name].to_pylist() for name in self._table.names
        ]
        return zip(*columns, strict=True)


class CassandraRaw(_CassandraRows):
    """Applies published batches of landed rows: the valid ones, one a key.

    Of rows with one key the last by partition and offset is written, with the batch's write number
    as write timestamp: a later batch wins.
    """

    def __init__(self, spec: Spec, sink: CassandraSink, where: Settings | str, lake: str) -> None:
        super().__init__(raw_table(spec, sink), sink, where, lake)
        names_ = self._table.names
        self._key = [names_.index(n) for n in (*self._table.partition, *self._table.clustering)]
        self._kinds = [parse_kind(kind, {}) for _, kind in self._table.columns]

    def apply(self, manifest: Manifest, folder: str) -> int:
        """Write one published batch."""
        if manifest.valid == 0:
            return 0
        order = [names.PARTITION, names.OFFSET]
        wanted = list(dict.fromkeys([*self._table.names, *order, names.ERRORS]))
        files = self._read(manifest, folder, wanted)
        landed = pa.concat_tables([with_columns(rows, wanted) for rows in files])
        valid = landed.filter(pc.is_null(landed[names.ERRORS]))
        rows = valid.sort_by([(name, "ascending") for name in order])
        return self._open().write(
            self._accepted(self._last_of_each_key(rows)), manifest.write_number
        )

    def _last_of_each_key(self, rows: pa.Table) -> Sequence[Values]:
        # The values as Cassandra keeps them: two times may differ in what it cuts off.
        columns = [
            bound_values(rows[name], kind)
            for name, kind in zip(self._table.names, self._kinds, strict=True)
        ]
        last = {tuple(row[place] for place in self._key): row for row in zip(*columns, strict=True)}
        return list(last.values())


def cassandra_sink(
    spec: Spec, sink: CassandraSink, where: Settings | str, lake: str
) -> CassandraRaw | CassandraWindows:
    """Return the sink of a declaration."""
    kind = CassandraRaw if sink.of == "raw" else CassandraWindows
    return kind(spec, sink, where, lake)


def _bytes(value: Any) -> int:
    return len(value.encode()) if isinstance(value, str) else 16


def _days(table: pa.Table) -> list[Any]:
    starts: list[datetime] = table["window_start"].to_pylist()
    return [start.date() for start in starts]
