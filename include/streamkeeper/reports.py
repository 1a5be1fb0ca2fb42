"""The report of a closed hour: its model and the alert conditions that it broke."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from streamkeeper.hours import Revision
from streamkeeper.spec.anomalies import VERDICT_NUMBERS, Anomaly
from streamkeeper.spec.expressions import Expression
from streamkeeper.spec.models import Alert, Kpi, Spec
from streamkeeper.texts import MEASURES, Language, LanguageName

Cell = bool | int | float | str | None
WORST_SHOWN, ANOMALIES_SHOWN = 5, 20
COUNT_COLUMN = "_count"
"""In the rows of an alert's zone: how many readings of the hour broke the condition."""
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


class AnomalyTable(Part):
    """The anomalous ones of a KPI's rows, farthest from their history first.

    of: the KPI's column; judged: how many rows there are; found: how many of them are anomalous;
    unknown: of how many nothing can be told.
    """

    name: str
    of: str
    judged: int
    found: int
    unknown: int
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
    language: LanguageName = "en"
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
    anomalies: tuple[AnomalyTable, ...] = ()
    broken: tuple[Broken, ...] = ()


def hour_report(
    spec: Spec,
    revision: Revision,
    kpis: Mapping[str, Sequence[Mapping[str, Any]]],
    broken: Iterable[Broken],
) -> HourReport:
    """Put the report of a revision together.

    Parameters: kpis, the rows of each KPI, and of each of the anomalies, by its name, in their
    order; broken, the conditions that readings have broken; those of KPI values are found here.
    """
    counts = revision.counts
    of_kpis = (broken_by_kpi(spec, a, kpis) for a in spec.alerts if a.kpi is not None)
    found = [*broken, *(b for b in of_kpis if b is not None)]
    return HourReport(
        stream=spec.name,
        title=spec.report.title if spec.report else spec.name,
        language=language_of(spec).name,
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
        anomalies=tuple(_anomaly_table(spec, a, kpis.get(a.name, ())) for a in spec.anomalies),
        broken=worst_first(spec, found),
    )


def language_of(spec: Spec) -> Language:
    """Return the language of a stream's report."""
    return Language(spec.report.language) if spec.report else Language()


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
    language = language_of(spec)
    return Broken(
        name=alert.name,
        condition=condition_text(spec, alert, language),
        of=of,
        count=count,
        worst=float(rows[0][column]),
        distance=distance(alert, float(rows[0][column])),
        columns=columns,
        rows=tuple(tuple(_cell(row[c], language) for c in columns) for row in rows[:WORST_SHOWN]),
    )


def condition_text(spec: Spec, alert: Alert, language: Language) -> str:
    """Write a condition, such as `temperature above 40 °C`."""
    if alert.field is not None:
        unit = spec.units().get(alert.field)
    else:
        unit = _column_unit(spec, *str(alert.kpi).split("."))
    limit = f"{language.short(_limit(alert))}{' ' + unit if unit else ''}"
    side = "above" if alert.above is not None else "below"
    condition = language.text(side, what=alert.field or alert.kpi, limit=limit)
    if alert.where is None:
        return condition
    return language.text("where", condition=condition, where=alert.where)


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


def measure_text(spec: Spec, measure: Expression, language: Language) -> str:
    """Write a measure for people, such as `mean temperature (°C)`; others as declared."""
    if measure.function not in MEASURES:
        return measure.text
    unit = measure_unit(spec, measure)
    what = language.of(measure.field or language.text("the_readings"))
    if measure.distinct:
        what = language.of(language.text("different", what=what))
    text = language.text(measure.function, what=what)
    return text + (f" ({unit})" if unit else "")


def _column_unit(spec: Spec, name: str, column: str) -> str | None:
    """Return the unit of a column of a KPI or of anomalies."""
    anomaly = spec.anomaly(name)
    if anomaly is None:
        return measure_unit(spec, spec.kpi(name).measures[column])
    judged = spec.kpi(anomaly.kpi).measures[anomaly.column]
    return measure_unit(spec, judged) if column in ("value", "median", "mad") else None


def _kpi_table(spec: Spec, kpi: Kpi, rows: Sequence[Mapping[str, Any]]) -> KpiTable:
    if kpi.of_readings:
        columns = tuple(spec.columns())
        units: dict[str, str | None] = dict(spec.units())
    else:
        columns = (*kpi.by, *kpi.measures)
        units = {name: spec.units().get(name) for name in kpi.by}
        units |= {name: measure_unit(spec, m) for name, m in kpi.measures.items()}
    language = language_of(spec)
    return KpiTable(
        name=kpi.name,
        kind="top" if kpi.of_readings else "by_key" if kpi.by else "single",
        columns=columns,
        units={name: unit for name, unit in units.items() if unit},
        rows=tuple(tuple(_cell(row.get(name), language) for name in columns) for row in rows),
    )


def _anomaly_table(spec: Spec, anomaly: Anomaly, rows: Sequence[Mapping[str, Any]]) -> AnomalyTable:
    found = [row for row in rows if row["anomalous"]]
    found.sort(key=lambda row: -abs(row["score"] or 0.0))
    kpi, language = spec.kpi(anomaly.kpi), language_of(spec)
    columns = (*kpi.by, *VERDICT_NUMBERS)
    units = {name: spec.units().get(name) for name in kpi.by}
    units |= {name: _column_unit(spec, anomaly.name, name) for name in VERDICT_NUMBERS}
    return AnomalyTable(
        name=anomaly.name,
        of=anomaly.of,
        judged=len(rows),
        found=len(found),
        unknown=sum(row["anomalous"] is None for row in rows),
        columns=columns,
        units={name: unit for name, unit in units.items() if unit},
        rows=tuple(
            tuple(_cell(row[name], language) for name in columns) for row in found[:ANOMALIES_SHOWN]
        ),
    )


def _cell(value: Any, language: Language) -> Cell:
    if isinstance(value, datetime):
        return language.moment(value)
    if isinstance(value, Decimal):
        return language.exact(str(value))
    return value if isinstance(value, bool | int | float | str | None) else str(value)
