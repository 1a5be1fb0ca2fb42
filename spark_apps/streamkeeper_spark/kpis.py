"""What is computed of closed hours: KPIs, and the readings that break an alert's condition."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from streamkeeper import names
from streamkeeper.closing import CLOSE_COLUMN as CLOSE
from streamkeeper.names import alert_zone, kpi_zone
from streamkeeper.reports import COUNT_COLUMN, WORST_SHOWN
from streamkeeper.spec.models import Alert, Kpi, Spec


def zones_of(spec: Spec) -> dict[str, Callable[[DataFrame], DataFrame]]:
    """Return how the zones of closed hours are made of the curated rows, by their names."""
    zones: dict[str, Callable[[DataFrame], DataFrame]] = {
        kpi_zone(kpi.name): partial(kpi_rows, spec=spec, kpi=kpi) for kpi in spec.kpis
    }
    return zones | {
        alert_zone(alert.name): partial(alert_rows, spec=spec, alert=alert)
        for alert in spec.alerts
        if alert.where is not None
    }


def kpi_rows(curated: DataFrame, spec: Spec, kpi: Kpi) -> DataFrame:
    """Return a KPI's rows of every hour, in one partition an hour and in their declared order.

    Parameters: curated, rows with the column `_close`, sorted or not.
    An hour without rows has none here, and neither has a KPI of the top rows by a column that is
    always null.
    """
    counted = curated if kpi.where is None else curated.where(kpi.where.sql)
    rows = counted if kpi.of_readings else _measured(counted, kpi)
    if kpi.top:
        rows = _top(rows, kpi)
    columns = list(spec.columns()) if kpi.of_readings else [*kpi.by, *kpi.measures]
    order = _order(kpi)
    # The order within a file holds only if a whole hour is in one partition.
    hourly = rows.repartition(CLOSE).sortWithinPartitions(CLOSE, *order)
    return hourly.select(CLOSE, *[_column(name) for name in columns])


def alert_rows(curated: DataFrame, spec: Spec, alert: Alert) -> DataFrame:
    """Return the worst readings of every hour that break an alert, and how many do.

    Parameters: curated, rows with the column `_close`; alert, on a field, with a condition.
    """
    assert alert.where is not None
    value, above = _column(str(alert.field)), alert.above is not None
    beyond = value > F.lit(alert.above) if above else value < F.lit(alert.below)
    hour = Window.partitionBy(CLOSE)
    worst = value.desc() if above else value.asc()
    order = [worst, *(F.col(name) for name in (names.EVENT_TIME, *names.COORDINATES))]
    broken = curated.where(alert.where.sql).where(beyond)
    ranked = broken.select(
        "*",
        F.row_number().over(hour.orderBy(*order)).alias("_place"),
        F.count("*").over(hour).alias(COUNT_COLUMN),
    ).where(F.col("_place") <= WORST_SHOWN)
    hourly = ranked.repartition(CLOSE).sortWithinPartitions(CLOSE, "_place")
    return hourly.select(CLOSE, *[_column(name) for name in spec.columns()], COUNT_COLUMN)


def _measured(curated: DataFrame, kpi: Kpi) -> DataFrame:
    measures = [F.expr(m.sql).alias(name) for name, m in kpi.measures.items()]
    return curated.groupBy(CLOSE, *[_column(name) for name in kpi.by]).agg(*measures)


def _top(rows: DataFrame, kpi: Kpi) -> DataFrame:
    """Return the first rows of each hour, readings or groups; null is no place to be at."""
    place = F.row_number().over(Window.partitionBy(CLOSE).orderBy(*_order(kpi)))
    ranked = rows.where(_column(str(kpi.order_by)).isNotNull()).withColumn("_place", place)
    return ranked.where(F.col("_place") <= kpi.top)


def _order(kpi: Kpi) -> list[Column]:
    """Return the declared order; among equals the keys, or the event time and coordinates."""
    ties = [names.EVENT_TIME, *names.COORDINATES] if kpi.of_readings else kpi.by
    order = [_column(name).asc_nulls_last() for name in ties]
    if kpi.order_by is None:
        return order
    first = _column(kpi.order_by)
    return [first.desc_nulls_last() if kpi.descending else first.asc_nulls_last(), *order]


def _column(name: str) -> Column:
    return F.col(f"`{name}`")
