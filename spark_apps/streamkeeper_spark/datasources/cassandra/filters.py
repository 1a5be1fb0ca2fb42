"""Which of a query's conditions Cassandra answers itself, and how the rest is divided: pure."""

from __future__ import annotations

import itertools
import math
import socket
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from pyspark.sql import datasource as D

from streamkeeper_io.cassandra_tables import quoted
from streamkeeper_spark.datasources.cassandra.kinds import Kind
from streamkeeper_spark.datasources.cassandra.tables import FIRST_TOKEN, LAST_TOKEN, Table

# More partition keys than these are found faster by a scan.
MOST_KEYS = 10_000
_MOST_VALUES = 100
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_OFFSET = 2**31
_DAY_NS = 24 * 3600 * 10**9
_RANGES: dict[type[D.Filter], str] = {
    D.GreaterThan: ">",
    D.GreaterThanOrEqual: ">=",
    D.LessThan: "<",
    D.LessThanOrEqual: "<=",
}
# Their order in Spark is their order in Cassandra. Of floats neither order nor equality is the
# same (NaN, -0.0), of uuids and inets only the equality.
_ORDERED = {
    *("ascii", "text", "varchar", "bigint", "int", "smallint", "tinyint", "varint"),
    *("timestamp", "date", "time"),
}
_EQUAL = _ORDERED | {"boolean", "uuid", "timeuuid", "inet", "blob"}


@dataclass(frozen=True)
class Condition:
    """A condition on a column as CQL has it: `=`, `IN`, `<`, ...; values as they are bound."""

    column: str
    operator: str
    values: tuple[Any, ...]

    @property
    def cql(self) -> str:
        """The condition with a mark for each value."""
        if self.operator == "IN":
            return f"{quoted(self.column)} IN ({', '.join('?' for _ in self.values)})"
        return f"{quoted(self.column)} {self.operator} ?"


@dataclass(frozen=True)
class Plan:
    """How a table is read.

    keys: the partitions to read, None: all of them by token ranges; clustering: conditions within
    a partition.
    """

    keys: tuple[tuple[Any, ...], ...] | None = None
    clustering: tuple[Condition, ...] = ()

    def statement(self, table: Table, columns: Sequence[str]) -> str:
        """Return the statement that a task runs, once a key or token range."""
        names = ", ".join(quoted(name) for name in columns)
        key = ", ".join(quoted(name) for name in table.partition)
        if self.keys is None:
            where = [f"token({key}) > ?", f"token({key}) <= ?"]
        else:
            where = [f"{quoted(name)} = ?" for name in table.partition]
        where += [condition.cql for condition in self.clustering]
        # Within a token range too, each partition is read from the clustering range on.
        filtering = " ALLOW FILTERING" if self.keys is None and self.clustering else ""
        return f"SELECT {names} FROM {table.full_name} WHERE {' AND '.join(where)}{filtering}"

    def clustering_values(self) -> tuple[Any, ...]:
        """Return what is bound after a key or token range."""
        return tuple(value for condition in self.clustering for value in condition.values)


def plan(table: Table, filters: Sequence[D.Filter]) -> tuple[Plan, list[D.Filter]]:
    """Return how to read a table under Spark's filters, and the filters that Spark must apply.

    The whole partition key by `=` or `IN` names the partitions; then, and in scans, clustering
    columns by `=` or `IN` in their order, and one more by a range, as CQL allows.
    """
    left = list(filters)
    keys = _keys(table, left)
    return Plan(keys, tuple(_clustering(table, left))), left


def _keys(table: Table, left: list[D.Filter]) -> tuple[tuple[Any, ...], ...] | None:
    chosen = []
    for name in table.partition:
        found = _equality(table, name, left)
        if found is None:
            return None
        chosen.append(found)
    if math.prod(len(values) for _, values in chosen) > MOST_KEYS:
        return None
    for one, _ in chosen:
        left.remove(one)
    return tuple(itertools.product(*(values for _, values in chosen)))


def _clustering(table: Table, left: list[D.Filter]) -> Iterable[Condition]:
    for name in table.clustering:
        found = _equality(table, name, left)
        if found is not None and 0 < len(found[1]) <= _MOST_VALUES:
            left.remove(found[0])
            yield Condition(name, "=" if len(found[1]) == 1 else "IN", tuple(found[1]))
            continue
        yield from _range(table, name, left)
        return


def _equality(
    table: Table, name: str, left: Sequence[D.Filter]
) -> tuple[D.Filter, list[Any]] | None:
    """Return the first filter that names a column's values, and these without repetition.

    A value that no cell can have, such as a fraction of a millisecond, is left out.
    """
    kind = table.columns[name]
    if kind.name not in _EQUAL:
        return None
    for one in left:
        if isinstance(one, D.EqualTo | D.EqualNullSafe) and one.attribute == (name,):
            given: Sequence[Any] = [one.value]
        elif isinstance(one, D.In) and one.attribute == (name,):
            given = one.value
        else:
            continue
        bound = [_exact(kind, value) for value in given if value is not None]
        return one, list(dict.fromkeys(value for value in bound if value is not None))
    return None


def _range(table: Table, name: str, left: list[D.Filter]) -> Iterable[Condition]:
    kind = table.columns[name]
    sides: set[str] = set()
    for one in list(left):
        operator = _RANGES.get(type(one))
        if operator is None or one.attribute != (name,) or kind.name not in _ORDERED:  # type: ignore[attr-defined]
            continue
        value = _bound(kind, operator, one.value)  # type: ignore[attr-defined]
        if operator[0] in sides or value is None:
            continue
        sides.add(operator[0])
        left.remove(one)
        yield Condition(name, operator, (value,))


def _exact(kind: Kind, value: Any) -> Any:
    """Return a value as it is bound; None if no cell of this type can have it."""
    if kind.name == "timestamp":
        millis, rest = divmod(_micros(value), 1000)
        return None if rest else millis
    if kind.name in ("uuid", "timeuuid"):
        return _canonical_uuid(value)
    if kind.name == "inet":
        return _canonical_inet(value)
    return _whole(kind, value)


def _canonical_uuid(value: str) -> uuid.UUID | None:
    try:
        found = uuid.UUID(value)
    except ValueError:
        return None
    # A uuid is read as its canonical text; Spark compares texts.
    return found if str(found) == value else None


def _canonical_inet(value: str) -> str | None:
    family = socket.AF_INET6 if ":" in value else socket.AF_INET
    try:
        same = socket.inet_ntop(family, socket.inet_pton(family, value)) == value
    except OSError:
        return None
    return value if same else None


def _bound(kind: Kind, operator: str, value: Any) -> Any:
    """Return the bound of a range; None if Cassandra has no such value."""
    if kind.name == "timestamp":
        # Cells are whole milliseconds: t > 1.5 is t > 1, and t >= 1.5 is t >= 2.
        micros = _micros(value)
        return micros // 1000 if operator in (">", "<=") else -(-micros // 1000)
    return _whole(kind, value)


def _whole(kind: Kind, value: Any) -> Any:
    if kind.name == "date":
        return (value - date(1970, 1, 1)).days + _DAY_OFFSET
    if kind.name == "varint":
        whole = Decimal(value)
        return int(whole) if whole == whole.to_integral_value() else None
    if kind.name == "time":
        return value if 0 <= value < _DAY_NS else None
    if kind.name == "blob":
        return bytes(value)
    return value


def _micros(value: datetime) -> int:
    since = (value if value.tzinfo else value.replace(tzinfo=UTC)) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def token_ranges(tokens: Sequence[int], splits: int) -> list[list[tuple[int, int]]]:
    """Divide all tokens into about `splits` parts of ranges (after, up to).

    No range goes across a node's boundary; where there are more boundaries than parts, a part has
    several ranges.
    """
    edges = sorted({FIRST_TOKEN, *tokens, LAST_TOKEN})
    share = -(-(LAST_TOKEN - FIRST_TOKEN) // splits)
    pieces: list[tuple[int, int]] = []
    for low, high in itertools.pairwise(edges):
        parts = -(-(high - low) // share)
        cuts = [low + (high - low) * n // parts for n in range(parts + 1)]
        pieces += itertools.pairwise(cuts)
    size = math.ceil(len(pieces) / splits) if len(edges) - 1 > splits else 1
    return [pieces[at : at + size] for at in range(0, len(pieces), size)]
