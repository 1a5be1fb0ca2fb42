"""Event-time windows over valid rows."""

from __future__ import annotations

from datetime import timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from streamkeeper.names import EVENT_TIME
from streamkeeper.spec.models import Window


def interval(value: timedelta) -> str:
    """Write a duration as Spark reads it."""
    return f"{value // timedelta(milliseconds=1)} milliseconds"


def window_rows(valid: DataFrame, window: Window) -> DataFrame:
    """Return a window's rows: keys, window_start, window_end, measures.

    Parameters: valid, rows that passed all checks: one with a wrong event time would move the
    watermark and make the stream drop what comes after it.
    """
    measures = [F.expr(m.sql).alias(name) for name, m in window.measures.items()]
    # A field may be called `window`, which is Spark's own name for the bounds.
    keys = [F.col(f"`{name}`").alias(f"_by_{name}") for name in window.by]
    # The watermark follows all readings, those that the condition leaves out too.
    timed = valid.withWatermark(EVENT_TIME, interval(window.watermark))
    counted = timed if window.where is None else timed.where(window.where.sql)
    bounds = F.window(EVENT_TIME, interval(window.size), interval(window.step))
    rows = counted.groupBy(bounds, *keys).agg(*measures)
    return rows.select(
        *[F.col(f"_by_{name}").alias(name) for name in window.by],
        F.col("window.start").alias("window_start"),
        F.col("window.end").alias("window_end"),
        *[F.col(f"`{name}`") for name in window.measures],
    )
