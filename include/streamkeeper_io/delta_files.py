"""The data files of a Delta table: split by partition, written side by side, read again."""

from __future__ import annotations

import hashlib
import json
import re
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pyarrow.types as kinds_of
from deltalake.transaction import AddAction, RemoveAction

from streamkeeper import names
from streamkeeper_io.lake import ARROW_THREADS, arrow_filesystem, columns_there, with_columns

# hdfs-native waits about half a second at each close, so files are closed side by side.
_AT_ONCE = 16
ROWS_A_FILE = 1_000_000
_PLAIN = re.compile(r"^[A-Za-z0-9_.-]{1,100}$")
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
_EPOCH, _MILLISECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)
_LAST = datetime(9999, 12, 31, tzinfo=UTC)
# Readers skip files by the bounds of these; of texts only the topic's id is worth them.
_BOUNDED_TEXTS = (names.TOPIC_ID,)


class DeltaFile(NamedTuple):
    """A file that is part of a table: its path as the log has it, partition values, size, rows."""

    path: str
    partition: dict[str, Any]
    size: int
    rows: int

    def removal(self, *, data_change: bool) -> RemoveAction:
        """Return what removes it from the table."""
        now_ms = time.time_ns() // 1_000_000
        texts = {name: _text(value) for name, value in self.partition.items()}
        return RemoveAction(self.path, data_change, now_ms, self.size, texts)


@dataclass(frozen=True)
class DeltaFiles:
    """Writes and reads the data files of one table.

    Parameters: lake; path, the table's folder; schema, its columns; partition_by.
    """

    lake: str
    path: str
    schema: pa.Schema
    partition_by: tuple[str, ...]

    def write(self, rows: Iterable[pa.Table]) -> list[AddAction]:
        """Write rows, a file for each partition among them; nothing is part of the table yet.

        Parameters: rows, tables that may lack columns, which are null then.
        """
        made: list[AddAction] = []
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for some in _gathered(rows):
                parts = _by_partition(self._typed(some), self.partition_by)
                made += pool.map(lambda part: self._write(*part), parts)
        return made

    def read(self, file: DeltaFile, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the rows of a file, with the columns of its partition.

        Parameters: columns, only these; None for all.
        """
        with self._filesystem.open_input_file(f"{self.path}/{unquote(file.path)}") as source:
            found = pq.ParquetFile(source)
            wanted = columns_there(found, columns)
            rows = found.read(columns=wanted, use_threads=ARROW_THREADS)
        for name, value in file.partition.items():
            kind = self.schema.field(name).type
            rows = rows.append_column(name, pa.array([value] * rows.num_rows, kind))
        return self._typed(rows, columns)

    @property
    def _filesystem(self) -> pafs.FileSystem:
        return arrow_filesystem(self.lake)

    def _typed(self, rows: pa.Table, columns: Sequence[str] | None = None) -> pa.Table:
        wanted = self.schema.names if columns is None else columns
        kinds = pa.schema([self.schema.field(name) for name in wanted])
        return with_columns(rows, wanted).cast(kinds)

    def _write(self, values: tuple[Any, ...], rows: pa.Table) -> AddAction:
        partition = dict(zip(self.partition_by, values, strict=True))
        folder = "".join(f"{n}={_folder_name(v)}/" for n, v in partition.items())
        path = f"{folder}part-{uuid.uuid4()}.snappy.parquet"
        if isinstance(self._filesystem, pafs.LocalFileSystem):
            self._filesystem.create_dir(f"{self.path}/{folder}", recursive=True)
        with self._filesystem.open_output_stream(f"{self.path}/{path}") as out:
            pq.write_table(rows.drop_columns(list(partition)), out, compression="snappy")
            size = out.tell()
        texts = {name: _text(value) for name, value in partition.items()}
        now_ms = time.time_ns() // 1_000_000
        return AddAction(path, size, texts, now_ms, True, _statistics(rows, self.partition_by))


def _gathered(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Put tables together up to the rows of a file, so that a batch makes few files."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        if sum(t.num_rows for t in held) >= ROWS_A_FILE:
            yield pa.concat_tables(held, promote_options="permissive")
            held = []
    if sum(t.num_rows for t in held):
        yield pa.concat_tables(held, promote_options="permissive")


def _by_partition(
    rows: pa.Table, columns: Sequence[str]
) -> Iterator[tuple[tuple[Any, ...], pa.Table]]:
    """Yield the rows of each partition with its values."""
    if not columns:
        yield (), rows
        return
    for name in columns:
        if kinds_of.is_string(rows[name].type):
            # Delta's protocol knows no empty text as the value of a partition: it is null.
            place = rows.column_names.index(name)
            given = pc.if_else(pc.equal(rows[name], ""), pa.scalar(None, pa.string()), rows[name])
            rows = rows.set_column(place, name, given)
    order = [(name, "ascending") for name in columns]
    ordered = rows.sort_by(order)
    # Groups come in any order, so they are put into that of the rows.
    groups = ordered.group_by(list(columns)).aggregate([([], "count_all")]).sort_by(order)
    start = 0
    for *values, count in zip(
        *(groups[name].to_pylist() for name in [*columns, "count_all"]), strict=True
    ):
        yield tuple(values), ordered.slice(start, count)
        start += count


def _folder_name(value: Any) -> str:
    """Return the name of a partition's folder, for people: the log has the exact value."""
    text = _text(value)
    if text is None:
        return _NO_VALUE
    if _PLAIN.match(text):
        return text
    told = re.sub(r"[^A-Za-z0-9_.-]", "_", text)[:60]
    return f"{told}~{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _text(value: Any) -> str | None:
    """Return a partition's value as Delta's log writes it."""
    if value is None:
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)


def _statistics(rows: pa.Table, partition_by: Sequence[str]) -> str:
    """Return what the log tells of a file: rows, and the bounds by which readers skip it."""
    told: dict[str, Any] = {"numRecords": rows.num_rows}
    least: dict[str, Any] = {}
    most: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    for name in rows.column_names:
        column = rows[name]
        if name in partition_by or not _is_bounded(name, column.type):
            continue
        nulls[name] = column.null_count
        found = _bounds(column)
        if found is not None:
            least[name], most[name] = found
    return json.dumps(told | {"minValues": least, "maxValues": most, "nullCount": nulls})


def _is_bounded(name: str, kind: pa.DataType) -> bool:
    return kinds_of.is_integer(kind) or kinds_of.is_timestamp(kind) or name in _BOUNDED_TEXTS


def _bounds(column: pa.ChunkedArray) -> tuple[Any, Any] | None:
    if column.null_count == len(column):
        return None
    is_time = kinds_of.is_timestamp(column.type)
    found = pc.min_max(column.cast(pa.int64()) if is_time else column).as_py()
    low, high = found["min"], found["max"]
    if not is_time:
        return low, high
    # Readers differ in what they make of digits below a millisecond, so both ends are rounded.
    first = _EPOCH + low // 1000 * _MILLISECOND
    if first >= _LAST or _EPOCH + high // 1000 * _MILLISECOND >= _LAST:
        return None
    last = _EPOCH + -(-high // 1000) * _MILLISECOND
    return _instant(first), _instant(last)


def _instant(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
