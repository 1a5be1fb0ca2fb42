"""Landed rows and live window rows into PostgreSQL tables."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from streamkeeper import names
from streamkeeper.manifest import Manifest
from streamkeeper.settings import Settings
from streamkeeper.spec.models import Spec
from streamkeeper.spec.sinks import PostgresSink
from streamkeeper_io.lake import read_rows
from streamkeeper_io.postgres import Mark, Rank, TableWriter
from streamkeeper_io.postgres_sinks import raw_table, window_table
from streamkeeper_io.postgres_tables import PostgresTable

log = logging.getLogger(__name__)


class _PostgresRows(ABC):
    """Applies published batches, each exactly once in effect: rows and mark move together.

    Parameters: table; spec; sink, the declaration; where, the settings, or the database's URL;
    lake. `left_out` counts the rows that PostgreSQL would refuse.
    """

    def __init__(
        self,
        table: PostgresTable,
        spec: Spec,
        sink: PostgresSink,
        where: Settings | str,
        lake: str,
    ) -> None:
        self.name = f"postgresql:{sink.connection}/{table.schema}.{table.name}"
        self.left_out = 0
        self._stream, self._table, self._connection = spec.name, table, sink.connection
        self._where, self._lake = where, lake
        self._writer: TableWriter | None = None

    def close(self) -> None:
        """Close the connection."""
        if self._writer is not None:
            self._writer.close()
        self._writer = None

    def mark(self) -> dict[str, int]:
        """Return the mark that lies beside the rows."""
        return self._open().mark(self._stream)

    def apply(self, manifest: Manifest, folder: str) -> int:
        """Write one published batch and move the mark."""
        mark = Mark(self._stream, manifest.generation, manifest.batch)
        written = self._open().write(
            self._rows(manifest, folder), Rank(False, manifest.write_number), mark
        )
        self.left_out += written.left_out
        return written.rows

    def _open(self) -> TableWriter:
        if self._writer is None:
            where, name = self._where, self._connection
            url = where if isinstance(where, str) else where.postgres_url(name)
            self._writer = TableWriter(url, self._table, connection=name)
        return self._writer

    @abstractmethod
    def _rows(self, manifest: Manifest, folder: str) -> Iterator[pa.Table]:
        """Yield the rows to write of a published batch."""

    def _read(
        self, manifest: Manifest, folder: str, columns: list[str] | None
    ) -> Iterator[pa.Table]:
        """Yield the rows file by file: a large batch is never in memory whole."""
        for name in manifest.files:
            yield from read_rows(self._lake, [f"{folder}/{name}"], columns)


class PostgresWindows(_PostgresRows):
    """Applies published batches of a window.

    A later batch wins over an earlier one, and any close over all of them.
    """

    def __init__(self, spec: Spec, sink: PostgresSink, where: Settings | str, lake: str) -> None:
        super().__init__(window_table(spec, sink), spec, sink, where, lake)

    def write(self, tables: Iterable[pa.Table], number: int) -> int:
        """Write the windows of closed hours with the write number of their close."""
        return self._open().write(tables, Rank(True, number)).rows

    def remove(self, table: pa.Table, number: int) -> int:
        """Remove the window rows with these keys, unless a later close wrote them."""
        return self._open().remove([table], number)

    def _rows(self, manifest: Manifest, folder: str) -> Iterator[pa.Table]:
        return self._read(manifest, folder, None)


class PostgresRaw(_PostgresRows):
    """Applies published batches of landed rows: the valid ones, one a key.

    Of rows with one key the last by partition and offset is written; a later batch wins.
    """

    def __init__(self, spec: Spec, sink: PostgresSink, where: Settings | str, lake: str) -> None:
        super().__init__(raw_table(spec, sink), spec, sink, where, lake)

    def _rows(self, manifest: Manifest, folder: str) -> Iterator[pa.Table]:
        if manifest.valid == 0:
            return
        wanted = [*(name for name, _ in self._table.staged), names.ERRORS]
        for landed in self._read(manifest, folder, wanted):
            yield landed.filter(pc.is_null(landed[names.ERRORS]))


def postgres_sink(
    spec: Spec, sink: PostgresSink, where: Settings | str, lake: str
) -> PostgresRaw | PostgresWindows:
    """Return the sink of a declaration."""
    kind = PostgresRaw if sink.of == "raw" else PostgresWindows
    return kind(spec, sink, where, lake)
