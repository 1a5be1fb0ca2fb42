"""Expressions on real Spark: what the core accepts, Spark computes, in the types that it told."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T

from random_declarations import Maker
from streamkeeper.spec.expressions import Expression, parse_expression
from streamkeeper.spec.models import Kpi, Spec, Window
from streamkeeper.spec.units import UNITS, conversion
from streamkeeper_spark.kpis import alert_rows, kpi_rows, zones_of
from streamkeeper_spark.schema import spark_type
from streamkeeper_spark.windows import window_rows

COLUMNS = {
    "n": "integer",
    "k": "int32",
    "x": "double",
    "f": "float",
    "price": "decimal(12,3)",
    "wide": "decimal(38,10)",
    "ok": "boolean",
    "city": "string",
    "select": "string",
    "at": "timestamp",
}
HOUR = datetime(2026, 11, 24, 12, tzinfo=UTC)
ROWS: list[tuple[Any, ...]] = [
    (1, 2, 0.5, 1.5, Decimal("1.250"), Decimal("3"), True, "Fes", "a", HOUR),
    (0, 0, 0.0, 0.0, Decimal(0), Decimal(0), False, "", "", datetime(1970, 1, 1, tzinfo=UTC)),
    (2**63 - 1, 2**31 - 1, 1e308, 3e38, Decimal("999999999.999"), Decimal("9" * 28), True, "é", "b",
     datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
    (-(2**63), -(2**31), -1e308, -3e38, Decimal("-999999999.999"), Decimal("-" + "9" * 28), False,
     "100%", "_", datetime(1, 1, 1, tzinfo=UTC)),
    (None,) * 10,
    (7, -7, float("inf"), float("nan"), Decimal("0.001"), Decimal("0.0000000001"), None, "it's",
     "\\", HOUR + timedelta(minutes=59, microseconds=1)),
]  # fmt: skip


@pytest.fixture(scope="module")
def frame(spark: SparkSession) -> DataFrame:
    """Rows with the ends of all types, zero and null."""
    fields = [T.StructField(name, spark_type(kind)) for name, kind in COLUMNS.items()]
    return spark.createDataFrame(ROWS, T.StructType(fields)).coalesce(1).cache()


def columns(made: list[Expression]) -> list[str]:
    return [f"{e.sql} AS c{i}" for i, e in enumerate(made)]


def of_types(found: DataFrame, made: list[Expression]) -> None:
    """Hold the columns against the types that the core told."""
    for field, expression in zip(found.schema, made, strict=True):
        assert field.dataType == spark_type(expression.type), expression


@pytest.mark.parametrize("seed", [1, 2])
def test_random_expressions_are_computed(frame: DataFrame, seed: int) -> None:
    maker = Maker(random.Random(seed), COLUMNS)
    kinds = ["number", "string", "boolean", "timestamp"]
    made = [parse_expression(maker.make(kind, 3), COLUMNS) for kind in kinds * 40]
    found = frame.selectExpr(*columns(made))
    of_types(found, made)
    # No value of any row may end the query.
    assert found.toArrow().num_rows == len(ROWS)


def test_random_measures_are_computed(frame: DataFrame) -> None:
    maker = Maker(random.Random(3), COLUMNS)
    texts = [maker.measure(3, streaming=False) for _ in range(60)]
    made = [parse_expression(text, COLUMNS, aggregates=True) for text in texts]
    found = frame.selectExpr(*columns(made))
    of_types(found, made)
    assert found.toArrow().num_rows == 1


def test_values(frame: DataFrame) -> None:
    first: dict[str, Any] = {
        "n / 0": None,
        "n % 0": None,
        "k / 4": 0.5,
        "price * 3": Decimal("3.750"),
        "price / 3": Decimal("0.416667"),
        "0.1 + 0.2": 0.1 + 0.2,
        "price + 0.1": Decimal("1.350"),
        "city || '/' || `select`": "Fes/a",
        "round(2.5)": 3.0,
        "round(-1.25, 1)": -1.3,
        "case when ok then 'yes' else 'no' end": "yes",
        "city like 'F_s'": True,
        r"'100%' like '100\\%'": True,
        r"'it\'s \\ \"it\"'": 'it\'s \\ "it"',
        "date_format(at, 'yyyy-MM-dd HH:mm')": "2026-11-24 12:00",
        "date_trunc('day', at) = '2026-11-24T00:00:00Z'": True,
        "at > '2026-11-24T12:59:59+01:00'": True,
        "hour(at) + dayofweek(at)": 15,
        "unix_seconds(at)": int(HOUR.timestamp()),
        "nullif(n, 1)": None,
        "coalesce(nullif(n, 1), k)": 2,
        "cast('abc' as integer)": None,
        "cast('12' as integer) + 1": 13,
        "cast(x as string)": "0.5",
        "split_part('a/b/c', '/', 2)": "b",
        "substring(city, 2, 1)": "e",
        "null <=> nullif(n, 1)": True,
        "not (ok and null)": None,
        "greatest(n, x, price)": 1.25,
    }
    made = [parse_expression(text, COLUMNS) for text in first]
    (row,) = frame.where("n = 1").selectExpr(*columns(made)).collect()
    assert dict(zip(first, row, strict=True)) == first
    # What outgrows its type is null.
    larger = ["n + 1", "-n - 2", "abs(-n - 1)", "price * wide", "k + 1", "n * n"]
    made = [parse_expression(text, COLUMNS) for text in larger]
    (row,) = frame.where("k = 2147483647").selectExpr(*columns(made)).collect()
    assert list(row) == [None, None, None, None, 2**31, None]


def test_conversions_are_the_same_in_spark_and_python(spark: SparkSession) -> None:
    values = [-40.0, 0.0, 0.1, 32.0, 98.6, 1013.25, 1e300, -1e-300]
    frame = spark.createDataFrame([(v,) for v in values], "x double").coalesce(1)
    pairs = [(a, b) for a in UNITS for b in UNITS if UNITS[a].dimension == UNITS[b].dimension]
    made = [found for a, b in pairs if (found := conversion(a, b)) is not None]
    sqls = [f"{found.sql('x')} AS c{i}" for i, found in enumerate(made)]
    rows = frame.selectExpr(*sqls).collect()
    assert [list(row) for row in rows] == [[c.apply(v) for c in made] for v in values]


def spec_of(window: dict[str, Any], kpis: list[dict[str, Any]]) -> Spec:
    fields: dict[str, Any] = {
        "city": {"type": "string", "required": True},
        "window": {"type": "string", "required": True},
        "t": {"type": "double"},
        "status": {"type": "int32"},
        "price": {"type": "decimal(10,2)"},
        "at": {"type": "timestamp", "required": True},
    }
    return Spec.model_validate(
        {
            "name": "readings",
            "description": "Readings of the tests.",
            "app": "readings",
            "source": {"kafka": {"topic": "readings"}},
            "fields": fields,
            "derived": {"is_hot": "t > 40", "class": "status / 100"},
            "event_time": {"field": "at"},
            "lake": {"path": "/readings"},
            "windows": [{"name": "w", "size": "1min", "watermark": "1min", **window}],
            "kpis": kpis,
            "alerts": [{"name": "hot", "field": "t", "above": 47, "where": "city = 'Fes'"}],
        }
    )


MEASURES = {
    "n": "count(*)",
    "hot_share": "count_if(is_hot) / count(*)",
    "p50": "percentile(t, 0.5)",
    "near": "approx_percentile(t, 0.5, 1000)",
    "median": "median(t)",
    "cities": "approx_count_distinct(city)",
    "spread": "max(t) - min(t)",
    "deviation": "stddev(t)",
    "total": "sum(price)",
    "mean_price": "avg(price)",
    "statuses": "sum(status)",
    "last": "max(at)",
    "of_class": "round(avg(class), 1)",
}


def landed_rows(spark: SparkSession, spec: Spec) -> DataFrame:
    """Return 600 rows of ten minutes in event time, with the derived columns."""
    rows = [
        (
            *("Fes" if i % 3 else "Rabat", "left" if i % 2 else "right", float(i % 50)),
            *(200 + i % 4 * 100, Decimal(i) / 100, HOUR + timedelta(seconds=i)),
        )
        for i in range(600)
    ]
    kinds = {name: spark_type(field.type) for name, field in spec.fields.items()}
    schema = T.StructType([T.StructField(name, kind) for name, kind in kinds.items()])
    frame = spark.createDataFrame(rows, schema)
    for name, expression in spec.derived_expressions().items():
        frame = frame.selectExpr("*", f"{expression.sql} AS `{name}`")
    hour = "'2026-11-24T12' AS _close"
    coordinates = "'id' AS _topic_id, 0 AS _partition, unix_seconds(at) AS _offset"
    return frame.selectExpr("*", "at AS _event_time", hour, *coordinates.split(", "))


def keyed(rows: list[Any], window: Window) -> dict[tuple[Any, ...], dict[str, Any]]:
    keys = (*window.by, "window_start")
    return {tuple(row[k] for k in keys): row.asDict() for row in rows}


@pytest.fixture
def streamed(spark: SparkSession, tmp_path: Path) -> Any:
    """Run a window over rows as a stream, in three batches; return the last row of each key."""

    def run(rows: DataFrame, window: Window) -> dict[tuple[Any, ...], dict[str, Any]]:
        source = str(tmp_path / "source")
        rows.repartition(3).write.parquet(source)
        found: dict[tuple[Any, ...], dict[str, Any]] = {}

        def keep(batch: DataFrame, _: int) -> None:
            found.update(keyed(batch.collect(), window))

        reader = spark.readStream.schema(rows.schema).option("maxFilesPerTrigger", 1)
        writer = window_rows(reader.parquet(source), window).writeStream.foreachBatch(keep)
        writer = writer.outputMode("update").option("checkpointLocation", str(tmp_path / "chk"))
        writer.trigger(availableNow=True).start().awaitTermination()
        return found

    return run


@pytest.mark.parametrize(("slide", "windows"), [("1min", 10), ("20s", 32)])
def test_a_window_streams_every_kind_of_measure(
    spark: SparkSession, streamed: Any, slide: str, windows: int
) -> None:
    window = {
        "slide": slide,
        "by": ["city", "window"],
        "where": "status < 500 and t > 1",
        "measures": MEASURES,
    }
    # Files come in any order, so none may be too late for the watermark.
    spec = spec_of(window | {"watermark": "1h"}, [])
    rows = landed_rows(spark, spec)
    live = streamed(rows, spec.windows[0])
    whole = window_rows(rows, spec.windows[0])
    assert {f.name: f.dataType for f in whole.schema if f.name in MEASURES} == {
        name: spark_type(m.type) for name, m in spec.windows[0].measures.items()
    }
    expected = keyed(whole.collect(), spec.windows[0])
    assert len({start for *_, start in expected}) == windows
    # A reading is in each window that begins up to a minute before it.
    counted = rows.where("status < 500 and t > 1").count()
    assert sum(row["n"] for row in expected.values()) == counted * {"1min": 1, "20s": 3}[slide]
    assert live.keys() == expected.keys()
    for key, row in expected.items():
        for name, value in row.items():
            # Sums of doubles depend on their order.
            wanted = pytest.approx(value) if isinstance(value, float) else value
            assert live[key][name] == wanted, (key, name)


def test_kpis_of_expressions(spark: SparkSession) -> None:
    kpis: list[dict[str, Any]] = [
        {
            "name": "all",
            "measures": {
                **MEASURES,
                "exact": "count(distinct t, status)",
                "p99": "percentile(t, 0.99)",
                "rate": "count(*) / 3600",
            },
        },
        {
            "name": "fes",
            "by": ["class"],
            "where": "city = 'Fes'",
            "measures": {"n": "count(*)"},
            "order_by": "n",
        },
        {"name": "top", "top": 3, "order_by": "class", "where": "not is_hot", "descending": False},
    ]
    spec = spec_of({"measures": {"n": "count(*)"}}, kpis)
    rows = landed_rows(spark, spec).cache()

    def table(kpi: Kpi) -> list[dict[str, Any]]:
        return [row.asDict() for row in kpi_rows(rows, spec, kpi).collect()]

    whole, fes, top = (table(kpi) for kpi in spec.kpis)
    (row,) = whole
    values = [float(i % 50) for i in range(600)]
    assert (row["n"], row["spread"], row["exact"]) == (600, 49.0, 100)
    assert row["p50"] == row["median"] == 24.5
    assert row["p99"] == 49.0
    # Off by at most a thousandth of the readings.
    assert sorted(values)[600 // 2 - 2] <= row["near"] <= sorted(values)[600 // 2 + 1]
    assert row["hot_share"] == pytest.approx(sum(v > 40 for v in values) / 600)
    assert row["rate"] == pytest.approx(600 / 3600)
    assert row["total"] == sum((Decimal(i) / 100 for i in range(600)), Decimal(0))
    assert sum(row["n"] for row in fes) == 400
    assert {row["class"] for row in fes} == {2.0, 3.0, 4.0, 5.0}
    assert [row["class"] for row in top] == [2.0] * 3
    assert [row["at"] for row in top] == sorted(row["at"] for row in top)
    assert list(top[0]) == ["_close", *spec.columns()]
    (alert,) = spec.alerts
    hot = [row.asDict() for row in alert_rows(rows, spec, alert).collect()]
    beyond = [i for i in range(600) if i % 50 > 47 and i % 3]
    assert [row["_count"] for row in hot] == [len(beyond)] * 5
    assert [row["t"] for row in hot] == [49.0] * 5
    assert [row["at"] for row in hot] == sorted(row["at"] for row in hot)
    assert list(zones_of(spec)) == ["analytics/all", "analytics/fes", "analytics/top", "alerts/hot"]
    rows.unpersist()
