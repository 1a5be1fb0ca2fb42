"""The questions of the dashboard as SQL, for PostgreSQL and for DuckDB over rows of the lake.

Each question can be asked of parts of the rows, hour by hour; `merge` puts the answers together.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any, ClassVar

import sqlglot

from streamkeeper.dashboards import EPOCH, Group, Hits, Pair, Span, Stat, Variable, merged
from streamkeeper.spec.models import Alert

ROWS = "rows"
"""The name of the rows that are asked."""
AT = "_at"
"""DuckDB's column of event times, in microseconds since 1970."""
MOST_KEYS = 1000
_MICROSECOND = timedelta(microseconds=1)
Answer = Sequence[tuple[Any, ...]]


@dataclass(frozen=True)
class Dialect:
    """How one database writes times.

    Parameters: name, sqlglot's; rows, the quoted table; time, the quoted column of event times.
    """

    name: str
    rows: str
    time: str

    def instant(self, at: datetime) -> str:
        """Return an instant as a literal."""
        if self.name == "duckdb":
            return str((at - EPOCH) // _MICROSECOND)
        return f"TIMESTAMPTZ '{at.astimezone(UTC).isoformat()}'"

    def bucket(self, step: timedelta) -> str:
        """Return the begin of the step that holds a row's time."""
        if self.name == "duckdb":
            size = step // _MICROSECOND
            return f"({self.time} - (({self.time} % {size}) + {size}) % {size})"
        return (
            f"date_bin(INTERVAL '{step.total_seconds():.0f} seconds', {self.time}, "
            f"{self.instant(EPOCH)})"
        )

    def within(self, span: Span) -> str:
        """Return the condition that a row is of a time."""
        begin, end = map(self.instant, span)
        return f"{self.time} >= {begin} AND {self.time} < {end}"

    def number(self, variable: Variable) -> str:
        """Return a variable as a number, null in rows that do not meet its condition."""
        number = _number(variable.column)
        if variable.where is None:
            return number
        return f"CASE WHEN {self.condition(variable.where.sql)} THEN {number} END"

    def breaks(self, alert: Alert) -> str:
        """Return the condition that a row lies beyond the limit of an alert on a field."""
        value = _number(str(alert.field))
        above = alert.above is not None
        limit = f"{value} > {alert.above!r}" if above else f"{value} < {alert.below!r}"
        return limit if alert.where is None else f"{limit} AND ({self.condition(alert.where.sql)})"

    def condition(self, spark: str) -> str:
        """Return a condition of a declaration, which is SQL for Spark, as this database has it."""
        return sqlglot.transpile(spark, read="spark", write=self.name)[0]


def postgres(table: str, time: str) -> Dialect:
    """Return the dialect of a PostgreSQL table, whose name is quoted; time is a column's name."""
    return Dialect("postgres", table, quoted(time))


DUCKDB = Dialect("duckdb", ROWS, f'"{AT}"')


def quoted(name: str) -> str:
    """Write a name so that case and reserved words stay as they are."""
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _number(name: str) -> str:
    return f"CAST({quoted(name)} AS double precision)"


def instant(value: Any) -> datetime | None:
    """Return an instant as a database tells it: a time, or microseconds since 1970."""
    return EPOCH + value * _MICROSECOND if isinstance(value, int) else value


class Question(ABC):
    """What is asked of the rows of a time."""

    columns: tuple[str, ...]
    """The columns that it reads besides the event time."""

    @abstractmethod
    def sql(self, dialect: Dialect, span: Span) -> str:
        """Return the question as SQL."""

    @abstractmethod
    def merge(self, parts: Iterable[Answer]) -> list[Any]:
        """Return the answer from those about parts of the rows."""


@dataclass(frozen=True)
class Means(Question):
    """How many readings, and statistics of variables: by steps of time, by a column, or both.

    Parameters: only, of these values of the column; most, the most frequent values.
    """

    variables: tuple[Variable, ...]
    step: timedelta | None = None
    by: str | None = None
    only: tuple[str, ...] | None = None
    most: int = MOST_KEYS

    @property
    def columns(self) -> tuple[str, ...]:  # type: ignore[override]
        return (*_columns(self.variables), *((self.by,) if self.by else ()))

    def sql(self, dialect: Dialect, span: Span) -> str:
        numbers = map(dialect.number, self.variables)
        stats = "".join(f", count({n}), avg({n}), min({n}), max({n})" for n in numbers)
        where = dialect.within(span)
        if self.by and self.only is not None:
            named = ", ".join(map(_text, self.only)) or "NULL"
            where += f" AND CAST({quoted(self.by)} AS text) IN ({named})"
        return _grouped(self, dialect, f"count(*){stats}", where)

    def merge(self, parts: Iterable[Answer]) -> list[Any]:
        found = [
            Group(instant(at), key, rows, tuple(Stat(*s) for s in _in_fours(stats)))
            for at, key, rows, *stats in _flat(parts)
        ]
        together = [
            Group(
                place[0],
                place[1],
                sum(g.rows for g in groups),
                tuple(merged(g.stats[i] for g in groups) for i in range(len(self.variables))),
            )
            for place, groups in _by_place(found)
        ]
        if self.step is None and self.by:
            together.sort(key=lambda g: (-g.rows, g.key is None, g.key))
            return together[: self.most]
        return sorted(together, key=lambda g: (g.at or EPOCH, g.key or ""))


@dataclass(frozen=True)
class Broken(Question):
    """Readings beyond the limit of an alert on a field: in all, by steps, by a column."""

    alert: Alert
    step: timedelta | None = None
    by: str | None = None
    most: int = MOST_KEYS

    @property
    def columns(self) -> tuple[str, ...]:  # type: ignore[override]
        return (*_watched(self.alert), *((self.by,) if self.by else ()))

    def sql(self, dialect: Dialect, span: Span) -> str:
        where = f"{dialect.within(span)} AND {dialect.breaks(self.alert)}"
        worst = "max" if self.alert.above is not None else "min"
        what = f"count(*), {worst}({_number(str(self.alert.field))}), max({dialect.time})"
        return _grouped(self, dialect, what, where)

    def merge(self, parts: Iterable[Answer]) -> list[Any]:
        worst = max if self.alert.above is not None else min
        found = [Hits(instant(a), k, n, w, instant(t)) for a, k, n, w, t in _flat(parts) if n]
        together = [
            Hits(
                place[0],
                place[1],
                sum(h.readings for h in hits),
                worst((h.worst for h in hits if h.worst is not None), default=None),
                max((h.last for h in hits if h.last is not None), default=None),
            )
            for place, hits in _by_place(found)
        ]
        if self.step is None:
            return sorted(together, key=lambda h: (-h.readings, h.key or ""))[: self.most]
        return sorted(together, key=lambda h: (h.at or EPOCH, h.key or ""))


@dataclass(frozen=True)
class Last(Question):
    """The last reading of each value of a column that has values in others, with its time.

    Each is told as time, value, whether it breaks an alert, and the numbers.

    Parameters: by, the column; needs, columns that must not be null; alerts, on fields; shown,
    further numbers.
    """

    by: str
    needs: tuple[str, ...]
    shown: tuple[Variable, ...] = ()
    alerts: tuple[Alert, ...] = ()
    most: int = MOST_KEYS

    @property
    def columns(self) -> tuple[str, ...]:  # type: ignore[override]
        watched = (name for alert in self.alerts for name in _watched(alert))
        return (self.by, *self.needs, *_columns(self.shown), *watched)

    def sql(self, dialect: Dialect, span: Span) -> str:
        needed = "".join(f" AND {quoted(n)} IS NOT NULL" for n in (self.by, *self.needs))
        numbers = (*map(_number, self.needs), *map(dialect.number, self.shown))
        values = ", ".join(numbers)
        key = f"CAST({quoted(self.by)} AS text)"
        broken = " OR ".join(f"({dialect.breaks(alert)})" for alert in self.alerts) or "false"
        beyond = f"coalesce({broken}, false)"
        told = f"{dialect.time}, {key}, {beyond}, {values}"
        return (
            f"SELECT DISTINCT ON ({key}) {told} FROM {dialect.rows} "
            f"WHERE {dialect.within(span)}{needed} ORDER BY {key}, {dialect.time} DESC "
            f"LIMIT {self.most}"
        )

    def merge(self, parts: Iterable[Answer]) -> list[Any]:
        last: dict[str, tuple[Any, ...]] = {}
        for at, key, *values in _flat(parts):
            when = instant(at)
            if key not in last or when > last[key][0]:
                last[key] = (when, key, *values)
        return [last[key] for key in sorted(last)]


@dataclass(frozen=True)
class Pairs(Question):
    """What the correlation of each two of some variables is made of, in `combinations` order."""

    variables: tuple[Variable, ...]

    _OF: ClassVar = ("count", "avgx", "avgy", "sxx", "syy", "sxy")

    @property
    def columns(self) -> tuple[str, ...]:  # type: ignore[override]
        return _columns(self.variables)

    @property
    def pairs(self) -> list[tuple[Variable, Variable]]:
        """The pairs, as they are told."""
        return list(combinations(self.variables, 2))

    def sql(self, dialect: Dialect, span: Span) -> str:
        told = [
            f"regr_{of}({dialect.number(y)}, {dialect.number(x)})"
            for x, y in self.pairs
            for of in self._OF
        ]
        what = ", ".join(told) or "count(*)"
        return f"SELECT {what} FROM {dialect.rows} WHERE {dialect.within(span)}"

    def merge(self, parts: Iterable[Answer]) -> list[Any]:
        found = [Pair() for _ in self.pairs]
        for row in _flat(parts):
            for i in range(len(found)):
                n, *sums = row[6 * i : 6 * i + 6]
                found[i] = found[i].plus(Pair(n, *(s or 0.0 for s in sums)))
        return found


@dataclass(frozen=True)
class Keys(Question):
    """Which values some columns have together, where none of them is null."""

    names: tuple[str, ...]
    most: int = 10 * MOST_KEYS

    @property
    def columns(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.names

    def sql(self, dialect: Dialect, span: Span) -> str:
        known = "".join(f" AND {quoted(name)} IS NOT NULL" for name in self.names)
        return (
            f"SELECT DISTINCT {', '.join(map(quoted, self.names))} FROM {dialect.rows} "
            f"WHERE {dialect.within(span)}{known} LIMIT {self.most}"
        )

    def merge(self, parts: Iterable[Answer]) -> list[Any]:
        return sorted(set(_flat(parts)))[: self.most]


def _watched(alert: Alert) -> tuple[str, ...]:
    return (str(alert.field), *(alert.where.fields if alert.where else ()))


def _columns(variables: Iterable[Variable]) -> tuple[str, ...]:
    return tuple(name for variable in variables for name in variable.columns)


def _grouped(question: Means | Broken, dialect: Dialect, what: str, where: str) -> str:
    step, by = question.step, question.by
    at = dialect.bucket(step) if step else "NULL"
    key = f"CAST({quoted(by)} AS text)" if by else "NULL"
    groups = [str(i) for i, given in ((1, step), (2, by)) if given]
    sql = f"SELECT {at} AS at, {key} AS key, {what} FROM {dialect.rows} WHERE {where}"
    if groups:
        sql += f" GROUP BY {', '.join(groups)}"
    if by and not step:
        sql += f" ORDER BY count(*) DESC, 2 LIMIT {question.most}"
    return sql


def _flat(parts: Iterable[Answer]) -> Iterator[tuple[Any, ...]]:
    for part in parts:
        yield from part


def _in_fours(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (values[i : i + 4] for i in range(0, len(values), 4))


def _by_place(found: Iterable[Any]) -> list[tuple[Any, list[Any]]]:
    """Return what has the same time and key together."""
    groups: dict[Hashable, list[Any]] = {}
    for one in found:
        groups.setdefault((one.at, one.key), []).append(one)
    return list(groups.items())
