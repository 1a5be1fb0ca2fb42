"""Anomalies of closed hours: each KPI row's value, judged by those of the hours before it."""

from __future__ import annotations

import bisect
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from streamkeeper.detectors import Detector, spread
from streamkeeper.hours import HOUR
from streamkeeper.spec.anomalies import VERDICT_COLUMNS, Anomaly
from streamkeeper.spec.field_types import FieldType
from streamkeeper.spec.models import Kpi, Spec


class KpiValue(NamedTuple):
    """What one KPI row of an hour holds of the judged column."""

    hour: datetime
    keys: tuple[Any, ...]
    value: float | None


class Judged(NamedTuple):
    """One row of an anomaly: the verdict on one KPI row.

    median, mad: of the history; hours: of how many hours the history holds values, from the first
    to the last one; anomalous: None where nothing can be told, `basis` tells why.
    """

    hour: datetime
    keys: tuple[Any, ...]
    value: float | None
    median: float | None
    mad: float | None
    score: float | None
    hours: int
    first_hour: datetime | None
    last_hour: datetime | None
    anomalous: bool | None
    basis: str


_TYPES = dict(
    zip(
        VERDICT_COLUMNS,
        (*["double"] * 4, "integer", "timestamp", "timestamp", "boolean", "string"),
        strict=True,
    )
)


def verdict_types(spec: Spec, anomaly: Anomaly) -> dict[str, FieldType]:
    """Return the columns of an anomaly's rows and their types: the KPI's keys, then the verdict."""
    columns = spec.columns()
    return {key: columns[key] for key in spec.kpi(anomaly.kpi).by} | _TYPES


def history_hours(anomaly: Anomaly, hours: Collection[datetime]) -> list[datetime]:
    """Return the hours before any of `hours` that its history reaches back to, oldest first.

    Those of `hours` that lie before others of them are among them.
    """
    count = anomaly.history // HOUR
    return sorted({hour - n * HOUR for hour in hours for n in range(1, count + 1)})


def judge(
    anomaly: Anomaly,
    kpi: Kpi,
    detector: Detector,
    *,
    history: Iterable[KpiValue],
    judged: Iterable[KpiValue],
) -> Iterator[Judged]:
    """Judge values of hours by the values of the hours before each of them.

    Values of one history have the same values of the anomaly's `by`. One that is null or not finite
    belongs to none, and is not judged itself.

    Parameters: history, values that may count for any of the judged ones; of an hour that is judged
    too, if it may count for later ones.
    """
    places = [kpi.by.index(key) for key in anomaly.keys(kpi)]

    def group(row: KpiValue) -> tuple[Any, ...]:
        return tuple(row.keys[place] for place in places)

    series: dict[tuple[Any, ...], list[tuple[datetime, float]]] = defaultdict(list)
    for row in history:
        if row.value is not None and math.isfinite(row.value):
            series[group(row)].append((row.hour, row.value))
    for values in series.values():
        values.sort(key=_hour)
    for row in judged:
        before = series.get(group(row), [])
        first = bisect.bisect_left(before, row.hour - anomaly.history, key=_hour)
        end = bisect.bisect_left(before, row.hour, key=_hour)
        yield _judged(anomaly, detector, row, before[first:end])


def _hour(entry: tuple[datetime, float]) -> datetime:
    return entry[0]


def _judged(
    anomaly: Anomaly, detector: Detector, row: KpiValue, before: Sequence[tuple[datetime, float]]
) -> Judged:
    hours = len({hour for hour, _ in before})
    values = [value for _, value in before]
    middle, mad = spread(values) if values else (None, None)
    anomalous, score, basis = _verdict(anomaly, detector, row.value, values, hours)
    return Judged(
        hour=row.hour,
        keys=row.keys,
        value=row.value,
        median=middle,
        mad=mad,
        score=score,
        hours=hours,
        first_hour=before[0][0] if before else None,
        last_hour=before[-1][0] if before else None,
        anomalous=anomalous,
        basis=basis,
    )


def _verdict(
    anomaly: Anomaly, detector: Detector, value: float | None, values: list[float], hours: int
) -> tuple[bool | None, float | None, str]:
    if value is None or not math.isfinite(value):
        return None, None, "no_value"
    if hours < anomaly.least:
        return None, None, "few_hours"
    found = detector.judge(values, value)
    return found.anomalous, found.score, found.basis
