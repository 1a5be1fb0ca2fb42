"""Arrow's tables: put together, of some hours only, as Python's values."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds_of

from streamkeeper.showing import HourRange, cell_text

_EPOCH, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
_TIME = pa.timestamp("us", "UTC")


def put_together(parts: list[pa.Table]) -> pa.Table:
    """Return tables as one; a column whose types have nothing in common becomes a text.

    A declaration may have changed between two files: a column that one lacks is null there.
    """
    try:
        return pa.concat_tables(parts, promote_options="permissive")
    except pa.ArrowException:
        kinds: dict[str, set[pa.DataType]] = {}
        for column in (column for part in parts for column in part.schema):
            kinds.setdefault(column.name, set()).add(column.type)
        mixed = {name for name, found in kinds.items() if len(found) > 1}
        texts = [
            pa.table({n: _texts(part[n]) if n in mixed else part[n] for n in part.column_names})
            for part in parts
        ]
        return pa.concat_tables(texts, promote_options="permissive")


def _texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        return column.cast(pa.string())
    except pa.ArrowException:
        # Lists have no cast, and bytes need not be UTF-8.
        texts = [None if value is None else cell_text(value) for value in column.to_pylist()]
        return pa.chunked_array([pa.array(texts, pa.string())])


def only(rows: pa.Table, columns: Iterable[str]) -> pa.Table:
    """Return the columns that are there, in this order."""
    return rows.select([name for name in columns if name in rows.column_names])


def within(column: pa.ChunkedArray, hours: HourRange) -> pa.ChunkedArray:
    """Return which instants of a column lie in hours."""
    return within_instants(column, *hours)


def within_instants(column: pa.ChunkedArray, begin: datetime, after: datetime) -> pa.ChunkedArray:
    """Return which instants of a column lie from `begin` up to, not including, `after`."""
    first, end = (instant_scalar(at).cast(column.type) for at in (begin, after))
    return pc.and_(pc.greater_equal(column, first), pc.less(column, end))


# pyarrow imports pandas, which takes half a second, as soon as it is given a value of Python's or
# asked for an instant. So it gets bytes, and is asked for microseconds since 1970.
def instant_scalar(at: datetime) -> pa.Scalar:
    """Return an instant as Arrow's."""
    micros = (at - _EPOCH) // _MICROSECOND
    data = pa.py_buffer(micros.to_bytes(8, sys.byteorder, signed=True))
    return pa.Array.from_buffers(_TIME, 1, [None, data])[0]


def instants(column: pa.ChunkedArray) -> list[datetime | None]:
    """Return a column of instants as Python's."""
    numbers = column.cast(_TIME).cast(pa.int64()).to_pylist()
    return [None if n is None else _EPOCH + n * _MICROSECOND for n in numbers]


def python_rows(rows: pa.Table) -> Iterator[Sequence[Any]]:
    """Yield rows as Python's values; what takes fewer digits than a double is told in its own."""
    columns: list[list[Any]] = []
    for column in rows.columns:
        if kinds_of.is_timestamp(column.type):
            columns.append([*instants(column)])
        elif kinds_of.is_float32(column.type):
            texts = column.cast(pa.string()).to_pylist()
            columns.append([None if text is None else float(text) for text in texts])
        else:
            columns.append(column.to_pylist())
    return zip(*columns, strict=True)
