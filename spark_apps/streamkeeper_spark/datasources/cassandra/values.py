"""Arrow columns as the values that the driver writes."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa
from cassandra.util import Duration

from streamkeeper_spark.datasources.cassandra.kinds import Kind

_DAY_OFFSET = 2**31


class _Pairs(list[tuple[Any, Any]]):
    """A map whose keys need not be hashable."""

    def items(self) -> Iterator[tuple[Any, Any]]:
        """Yield key and value."""
        return iter(self)


def bound_values(column: pa.Array, kind: Kind) -> list[Any]:
    """Return a column's values as the driver takes them for a CQL type.

    Times are cut to whole milliseconds, as Cassandra keeps no more.
    """
    make = _NESTED.get(kind.name)
    if make is not None:
        return make(column, kind)
    if kind.name == "timestamp":
        micros = column.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_pylist()
        return [None if value is None else value // 1000 for value in micros]
    if kind.name == "date":
        days = column.cast(pa.date32()).cast(pa.int32()).to_pylist()
        return [None if value is None else value + _DAY_OFFSET for value in days]
    values = column.to_pylist()
    convert = _CONVERTED.get(kind.name)
    return values if convert is None else [v if v is None else convert(v) for v in values]


def _lists(column: pa.Array, kind: Kind, make: Callable[[list[Any]], Any]) -> list[Any]:
    edges = column.offsets.to_pylist()
    # What lies between the edges, also where the column is a part of a longer one.
    inner = column.values.slice(edges[0], edges[-1] - edges[0])
    values = bound_values(inner, kind)
    there = column.is_valid().to_pylist()
    return [
        make(values[low - edges[0] : high - edges[0]]) if valid else None
        for low, high, valid in zip(edges, edges[1:], there, strict=False)
    ]


def _tuples(
    column: pa.Array, kinds: Sequence[Kind], make: Callable[[tuple[Any, ...]], Any]
) -> list[Any]:
    # Not strict: a map's entries are a struct too, and have no nulls.
    parts = [bound_values(part, k) for part, k in zip(column.flatten(), kinds, strict=True)]
    there = column.is_valid().to_pylist()
    rows = zip(*parts, strict=True)
    return [make(row) if valid else None for row, valid in zip(rows, there, strict=True)]


def _duration(values: tuple[Any, ...]) -> Duration:
    return Duration(*values)


_DURATION = (Kind("int"), Kind("int"), Kind("bigint"))
_NESTED: dict[str, Callable[[pa.Array, Kind], list[Any]]] = {
    "list": lambda column, kind: _lists(column, kind.args[0], list),
    "set": lambda column, kind: _lists(column, kind.args[0], list),
    "map": lambda column, kind: _lists(column, Kind("tuple", kind.args), _Pairs),
    "tuple": lambda column, kind: _tuples(column, kind.args, tuple),
    "udt": lambda column, kind: _tuples(column, kind.args, tuple),
    "duration": lambda column, _: _tuples(column, _DURATION, _duration),
}
_CONVERTED: dict[str, Callable[[Any], Any]] = {
    "uuid": uuid.UUID,
    "timeuuid": uuid.UUID,
    "varint": int,
}
