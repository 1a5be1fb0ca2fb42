"""The report of a closed hour: its model, the alert conditions that it broke, its Markdown."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from streamkeeper.hours import HOUR, Revision
from streamkeeper.spec.expressions import Expression
from streamkeeper.spec.models import Alert, Kpi, Spec

Cell = bool | int | float | str | None
WORST_SHOWN = 5
COUNT_COLUMN = "_count"
"""In the rows of an alert's zone: how many readings of the hour broke the condition."""
_LONGEST_TEXT = 120
_SPECIAL = re.compile(r"[\\`*\[\]<>|&~!#]|(?<![^\W_])_|_(?![^\W_])")
_FUNCTIONS = {
    "avg": "mean",
    "max": "highest",
    "min": "lowest",
    "sum": "sum of",
    "count": "count of",
    "stddev": "spread of",
    "median": "median",
    "approx_count_distinct": "about how many different",
}
# Of these a value is no reading of the field, so it has not the field's unit.
_WITHOUT_UNIT = ("count", "approx_count_distinct", "variance")


class Part(BaseModel):
    """Base of a report's parts: frozen; infinite numbers stay what they are in JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class KpiTable(Part):
    """The rows of one KPI; `units` gives the unit of a column that has one."""

    name: str
    kind: Literal["single", "by_key", "top"]
    columns: tuple[str, ...]
    units: dict[str, str] = {}
    rows: tuple[tuple[Cell, ...], ...] = ()


class Broken(Part):
    """A declared alert condition that readings, or KPI rows, of the hour have broken.

    `count` of them did; `of` is what they are; `worst` is the value farthest beyond the limit;
    `rows` holds the worst ones, worst first, with the columns of `columns`; `distance` is how far
    beyond the limit the worst one lies, as a share of the limit.
    """

    name: str
    condition: str
    of: Literal["readings", "KPI rows"]
    count: int
    worst: float
    distance: float
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


class HourReport(Part):
    """What the report of one revision of an hour tells."""

    stream: str
    title: str
    hour: datetime
    revision: int
    state: Literal["complete", "partial"]
    reason: str = ""
    missing: dict[int, list[tuple[int, int]]] = {}
    closed_at: datetime
    valid: int
    added: int
    quarantined: int
    quarantined_by_rule: dict[str, int] = {}
    tables: tuple[KpiTable, ...] = ()
    broken: tuple[Broken, ...] = ()


def hour_report(
    spec: Spec,
    revision: Revision,
    kpis: Mapping[str, Sequence[Mapping[str, Any]]],
    broken: Iterable[Broken],
) -> HourReport:
    """Put the report of a revision together.

    Parameters: kpis, the rows of each KPI by its name, in their order; broken, the conditions that
    readings have broken; those of KPI values are found here.
    """
    counts = revision.counts
    of_kpis = (broken_by_kpi(spec, a, kpis) for a in spec.alerts if a.kpi is not None)
    found = [*broken, *(b for b in of_kpis if b is not None)]
    return HourReport(
        stream=spec.name,
        title=spec.report.title if spec.report else spec.name,
        hour=revision.hour,
        revision=revision.revision,
        state=revision.state,
        reason=counts.get("reason", ""),
        missing=revision.missing,
        closed_at=revision.committed_at,
        valid=counts["valid"],
        added=counts["added"],
        quarantined=counts["quarantined"],
        quarantined_by_rule=counts["quarantined_by_rule"],
        tables=tuple(_kpi_table(spec, kpi, kpis.get(kpi.name, ())) for kpi in spec.kpis),
        broken=worst_first(spec, found),
    )


# Alerts
def breaks(alert: Alert, value: float | None) -> bool:
    """Tell whether a value lies beyond an alert's limit; the limit itself does not."""
    if value is None:
        return False
    return value > alert.above if alert.above is not None else value < _limit(alert)


def distance(alert: Alert, value: float) -> float:
    """Return how far a value lies beyond the limit, as a share of the limit.

    So conditions on fields of different units compare. A limit of 0 counts as 1.
    """
    return abs(value - _limit(alert)) / (abs(_limit(alert)) or 1.0)


def worst_first(spec: Spec, broken: Iterable[Broken]) -> tuple[Broken, ...]:
    """Sort conditions: the farthest beyond its limit first, then the most often broken one.

    Among equals the declared order counts.
    """
    declared = {alert.name: place for place, alert in enumerate(spec.alerts)}
    return tuple(sorted(broken, key=lambda b: (-b.distance, -b.count, declared[b.name])))


def broken_by_readings(
    spec: Spec, alert: Alert, count: int, worst: Sequence[Mapping[str, Any]]
) -> Broken | None:
    """Return the condition on a field, if `count` readings broke it; `worst` ones, worst first."""
    return _broken(spec, alert, str(alert.field), count=count, rows=worst, of="readings")


def broken_by_kpi(
    spec: Spec, alert: Alert, kpis: Mapping[str, Sequence[Mapping[str, Any]]]
) -> Broken | None:
    """Return the condition on a KPI's column, if rows of the hour broke it."""
    kpi, _, column = str(alert.kpi).partition(".")
    found = [row for row in kpis.get(kpi, ()) if breaks(alert, row.get(column))]
    found.sort(key=lambda row: distance(alert, float(row[column])), reverse=True)
    return _broken(spec, alert, column, count=len(found), rows=found, of="KPI rows")


def _broken(
    spec: Spec,
    alert: Alert,
    column: str,
    *,
    count: int,
    rows: Sequence[Mapping[str, Any]],
    of: Literal["readings", "KPI rows"],
) -> Broken | None:
    if not count:
        return None
    # The value that broke the limit comes first, then what tells whose it is.
    columns = (column, *(name for name in rows[0] if name != column))
    return Broken(
        name=alert.name,
        condition=condition_text(spec, alert),
        of=of,
        count=count,
        worst=float(rows[0][column]),
        distance=distance(alert, float(rows[0][column])),
        columns=columns,
        rows=tuple(tuple(_cell(row[c]) for c in columns) for row in rows[:WORST_SHOWN]),
    )


def condition_text(spec: Spec, alert: Alert) -> str:
    """Write a condition, such as `temperature above 40 °C`."""
    if alert.field is not None:
        unit = spec.units().get(alert.field)
    else:
        kpi, _, column = str(alert.kpi).partition(".")
        unit = measure_unit(spec, _kpi(spec, kpi).measures[column])
    side = "above" if alert.above is not None else "below"
    limit = f"{_limit(alert):g}{' ' + unit if unit else ''}"
    where = f" where {alert.where}" if alert.where is not None else ""
    return f"{alert.field or alert.kpi} {side} {limit}{where}"


def _limit(alert: Alert) -> float:
    limit = alert.above if alert.above is not None else alert.below
    assert limit is not None
    return limit


# KPIs
def measure_unit(spec: Spec, measure: Expression) -> str | None:
    """Return the unit of a measure that is one aggregate of one column, unless it counts."""
    if measure.field is None or measure.function in _WITHOUT_UNIT:
        return None
    return spec.units().get(measure.field)


def measure_text(spec: Spec, measure: Expression) -> str:
    """Write a measure for people, such as `mean temperature (°C)`; others as declared."""
    if measure.function not in _FUNCTIONS:
        return measure.text
    unit = measure_unit(spec, measure)
    what = "readings" if measure.field is None else measure.field
    distinct = "different " if measure.distinct else ""
    text = f"{_FUNCTIONS[measure.function]} {distinct}{what}"
    return text + (f" ({unit})" if unit else "")


def _kpi(spec: Spec, name: str) -> Kpi:
    return next(kpi for kpi in spec.kpis if kpi.name == name)


def _kpi_table(spec: Spec, kpi: Kpi, rows: Sequence[Mapping[str, Any]]) -> KpiTable:
    if kpi.of_readings:
        columns = tuple(spec.columns())
        units: dict[str, str | None] = dict(spec.units())
    else:
        columns = (*kpi.by, *kpi.measures)
        units = {name: spec.units().get(name) for name in kpi.by}
        units |= {name: measure_unit(spec, m) for name, m in kpi.measures.items()}
    return KpiTable(
        name=kpi.name,
        kind="top" if kpi.of_readings else "by_key" if kpi.by else "single",
        columns=columns,
        units={name: unit for name, unit in units.items() if unit},
        rows=tuple(tuple(_cell(row.get(name)) for name in columns) for row in rows),
    )


def _cell(value: Any) -> Cell:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    return value if isinstance(value, bool | int | float | str | None) else str(value)


# Texts
def subject(report: HourReport) -> str:
    """Return the mail's subject: `[2 alerts] temperature 14:00`, without a bracket if all is well.

    The number is that of the conditions broken; the time is the hour's start in UTC.
    """
    number = len(report.broken)
    bracket = f"[{number} alert{'s' if number > 1 else ''}] " if number else ""
    return f"{bracket}{report.stream} {report.hour:%H:%M}"


def plain(value: str, longest: int = _LONGEST_TEXT) -> str:
    """Return a value as one line of printable text, shortened to `longest` characters."""
    text = "".join(
        " " if c.isspace() else "\ufffd" if unicodedata.category(c) in ("Cc", "Cs") else c
        for c in value
    )
    return text if len(text) <= longest else text[: longest - 1] + "…"


def escape(value: str) -> str:
    """Return a value as Markdown that shows it as it is, also within a table."""
    return _SPECIAL.sub(r"\\\g<0>", plain(value))


def show(value: Cell) -> str:
    """Write a value for people, as Markdown: 12,345 and 23.46; a dash for null."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.2f}" if isinstance(value, float) else escape(value)


def markdown(report: HourReport, picture: str | None = None) -> str:
    """Return the report in Markdown.

    Parameters: picture, the file name of the picture beside it.
    """
    end = report.hour + HOUR
    parts = [
        f"# {escape(report.title)}",
        f"**{report.hour:%d %B %Y, %H:%M} to {end:%H:%M} UTC** · {show(report.valid)} readings"
        f" · revision {report.revision}, {report.state}",
        *_partial(report),
        *_alerts(report),
    ]
    if not report.valid:
        parts.append("No readings of this hour have landed, so it has no KPIs.")
    elif picture:
        parts.append(f"![{escape(report.title)}: the hour in pictures]({picture})")
    parts += [text for table in report.tables if table.rows for text in _kpi_texts(table)]
    parts += _records(report)
    return "\n\n".join(parts) + "\n"


def _partial(report: HourReport) -> Iterable[str]:
    if report.state != "partial":
        return
    told = [f"This hour is partial: {escape(report.reason)}."]
    for partition, holes in sorted(report.missing.items()):
        offsets = ", ".join(f"{first:,} to {end - 1:,}" for first, end in holes)
        told.append(f"Partition {partition} lacks the offsets {offsets}.")
    yield "> " + " ".join(told)


def _alerts(report: HourReport) -> Iterable[str]:
    if not report.broken:
        return
    yield f"## {len(report.broken)} alert{'s' if len(report.broken) > 1 else ''}"
    for broken in report.broken:
        share = f", {broken.count / report.valid:.1%} of all" if broken.of == "readings" else ""
        one = broken.of.removesuffix("s") if broken.count == 1 else broken.of
        yield f"### {escape(broken.condition)}: {show(broken.count)} {one}{share}"
        few = f"The {len(broken.rows)} worst" if broken.count > len(broken.rows) else "Worst first"
        yield f"{few}:" if broken.count > 1 else "It was:"
        yield _table(broken.columns, broken.rows)


def _kpi_texts(table: KpiTable) -> Iterable[str]:
    yield f"## {escape(heading(table.name))}"
    headers = [f"{c} ({table.units[c]})" if c in table.units else c for c in table.columns]
    if table.kind == "single":
        yield _table(("measure", "value"), tuple(zip(headers, table.rows[0], strict=True)))
    else:
        yield _table(headers, table.rows)


def heading(name: str) -> str:
    """Return a declared name as a heading: `by_city` is `By city`."""
    return name.replace("_", " ").capitalize()


def _records(report: HourReport) -> Iterable[str]:
    yield "## Records"
    rules: list[tuple[Cell, Cell]] = [
        (f"of these: {rule}", n) for rule, n in report.quarantined_by_rule.items()
    ]
    rows: list[tuple[Cell, Cell]] = [
        ("read: valid and quarantined", report.valid + report.quarantined),
        ("valid readings of this hour, by event time", report.valid),
        ("of these: new in this revision", report.added),
        ("quarantined records that arrived in this hour", report.quarantined),
        *rules,
    ]
    yield _table(("records", "number"), rows)
    yield f"Closed {report.closed_at:%Y-%m-%d %H:%M:%S} UTC. Times are UTC."


def _table(headers: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    numeric = [
        any(_is_number(row[i]) for row in rows)
        and all(_is_number(row[i]) or row[i] is None for row in rows)
        for i in range(len(headers))
    ]
    lines = [
        _line([escape(header) for header in headers]),
        _line(["---:" if right else "---" for right in numeric]),
        *(_line([show(value) for value in row]) for row in rows),
    ]
    return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _is_number(value: Cell) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
