"""KPIs computed from a sink's table, held against those of closed hours: pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from streamkeeper.names import format_hour

RELATIVE_ERROR = 1e-9
"""Sums of doubles differ in their last digits with the order in which rows come."""
MOST_DIFFERENCES = 50
Row = Sequence[Any]


@dataclass(frozen=True)
class KpiOfHour:
    """One KPI of one hour as the table has it, and how the lake's differs.

    differences: a text each, at most `MOST_DIFFERENCES`; skipped: why it could not be computed.
    """

    kpi: str
    hour: datetime
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...] = ()
    differences: tuple[str, ...] = ()
    skipped: str = ""


@dataclass(frozen=True)
class Analysis:
    """What was analysed and what came out.

    table: keyspace and table; key: the conditions on the table's key, by column; rows: how many
    readings the table has of these hours; lake_rows: how many the lake has.
    """

    stream: str
    table: str
    hours: tuple[datetime, ...]
    key: dict[str, Any]
    rows: int
    lake_rows: int
    kpis: tuple[KpiOfHour, ...] = field(default=())

    @property
    def differences(self) -> list[str]:
        """Every difference."""
        found = [told for kpi in self.kpis for told in kpi.differences]
        if self.rows != self.lake_rows:
            told = f"{self.rows:,} readings in Cassandra, {self.lake_rows:,} in the lake"
            found.insert(0, told)
        return found

    @property
    def verdict(self) -> str:
        """Whether table and lake agree."""
        found = len(self.differences)
        if found:
            return f"{found} difference{'s' if found > 1 else ''} between Cassandra and the lake"
        return f"Cassandra and the lake agree: {self.rows:,} readings"


def compare(
    kpi: str,
    hour: datetime,
    columns: Sequence[str],
    keys: Sequence[str],
    *,
    lake: Iterable[Row],
    table: Iterable[Row],
) -> tuple[str, ...]:
    """Return how one KPI of one hour differs between the lake and a table.

    Doubles are equal within `RELATIVE_ERROR`, times to the millisecond, all else exactly.

    Parameters: columns, of the rows; keys, the columns that name a row, none for rows that are
    compared as a whole, in any order.
    """
    where = f"{kpi} {format_hour(hour)}"
    if not keys:
        told = _compare_whole(where, columns, list(lake), list(table))
    else:
        told = _compare_by_key(where, columns, keys, lake, table)
    found = list(told)
    if len(found) > MOST_DIFFERENCES:
        more = f"{where}: and {len(found) - MOST_DIFFERENCES:,} more"
        found = [*found[:MOST_DIFFERENCES], more]
    return tuple(found)


def _compare_whole(
    where: str, columns: Sequence[str], lake: Sequence[Row], table: Sequence[Row]
) -> Iterable[str]:
    if len(lake) == len(table) == 1:
        yield from _cells(where, columns, lake[0], table[0])
        return
    left, right = (Counter(tuple(map(_kept, row)) for row in rows) for rows in (lake, table))
    for rows, where_only in ((left - right, "the lake"), (right - left, "Cassandra")):
        for row in rows.elements():
            shown = ", ".join(f"{c} {v}" for c, v in zip(columns, row, strict=True))
            yield f"{where}: only in {where_only}: {shown}"


def _compare_by_key(
    where: str,
    columns: Sequence[str],
    keys: Sequence[str],
    lake: Iterable[Row],
    table: Iterable[Row],
) -> Iterable[str]:
    places = [columns.index(key) for key in keys]
    left, right = (
        {tuple(_kept(row[place]) for place in places): row for row in rows}
        for rows in (lake, table)
    )
    for key in sorted(left.keys() | right.keys(), key=repr):
        named = ", ".join(f"{k} {v}" for k, v in zip(keys, key, strict=True))
        if key not in right:
            yield f"{where}, {named}: only in the lake"
        elif key not in left:
            yield f"{where}, {named}: only in Cassandra"
        else:
            yield from _cells(f"{where}, {named}", columns, left[key], right[key])


def _cells(where: str, columns: Sequence[str], lake: Row, table: Row) -> Iterable[str]:
    for column, one, other in zip(columns, lake, table, strict=True):
        if not _equal(one, other):
            yield f"{where}: {column} is {one} in the lake, {other} in Cassandra"


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        both_nan = math.isnan(one) and math.isnan(other)
        return both_nan or math.isclose(one, other, rel_tol=RELATIVE_ERROR, abs_tol=1e-12)
    return bool(_kept(one) == _kept(other))


def _kept(value: Any) -> Any:
    """Return a value as Cassandra keeps it: times end at the millisecond."""
    if isinstance(value, datetime):
        return value.replace(microsecond=value.microsecond // 1000 * 1000)
    return value


def to_markdown(found: Analysis) -> str:
    """Return an analysis as a Markdown page."""
    hours = ", ".join(map(format_hour, found.hours))
    lines = [f"# {found.stream}: {found.table}", "", f"Hours (UTC): {hours}"]
    if found.key:
        lines += ["", "Key: " + ", ".join(f"{k} = {v}" for k, v in found.key.items())]
    lines += ["", f"**{found.verdict}**", "", *(f"- {told}" for told in found.differences)]
    for kpi in found.kpis:
        lines += ["", f"## {kpi.kpi}, {format_hour(kpi.hour)}", ""]
        if kpi.skipped:
            lines.append(f"Not computed: {kpi.skipped}")
            continue
        lines.append(_line(kpi.columns))
        lines.append(_line(["---"] * len(kpi.columns)))
        lines += [_line(map(_shown, row)) for row in kpi.rows]
    return "\n".join(lines) + "\n"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value).replace("\n", " ")
