"""`cassandra_read`: a full scan through Spark, beside a reader that pages plainly."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any

from cassandra.cluster import Session
from cassandra.query import SimpleStatement
from pyspark.sql import DataFrame, SparkSession

from bench.rows import Row
from bench.servers import servers, spark_session
from streamkeeper.settings import Settings
from streamkeeper_io.cassandra import GroupedWriter, ensure_table, session
from streamkeeper_io.cassandra_tables import CassandraTable
from streamkeeper_spark.datasources.cassandra import register

GOAL = 1.5
ROUNDS = 3
SENSORS = 1000
TABLE = CassandraTable(
    "bench",
    "sensor_data",
    (
        *(("sensor_id", "int"), ("timestamp", "timestamp")),
        *(("temperature", "float"), ("humidity", "float")),
    ),
    ("sensor_id",),
    ("timestamp",),
    newest_first=False,
)
_START = datetime(2026, 11, 24, tzinfo=UTC)


def _rows(count: int) -> Iterator[tuple[Any, ...]]:
    for number in range(count):
        second, sensor = divmod(number, SENSORS)
        yield sensor, _START + timedelta(seconds=second), 15 + number % 300 / 10, number % 100


def _plainly(found: Session) -> int:
    """Read all rows as the driver gives them: one connection, one page after the other."""
    statement = SimpleStatement(f"SELECT * FROM {TABLE.full_name}", fetch_size=5000)
    return sum(1 for _ in found.execute(statement, timeout=60))


def _scan(spark: SparkSession, settings: Settings) -> DataFrame:
    source = spark.read.format("cassandra")
    source = source.option("contact_points", settings.cassandra)
    return source.options(keyspace=TABLE.keyspace, table=TABLE.name).load()


def _rate(count: int, call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return count / (time.perf_counter() - began)


def measure(short: bool) -> list[Row]:
    """Read 1,000,000 rows (20,000 when short) both ways in turn; the median of three."""
    count = 20_000 if short else 1_000_000
    with servers("cassandra") as settings, session(settings) as opened:
        ensure_table(opened, TABLE)
        GroupedWriter(opened, TABLE).write(_rows(count), 1)
        with spark_session(settings) as spark:
            register(spark)
            assert _scan(spark, settings).count() == count == _plainly(opened)

            def through_spark() -> None:
                _scan(spark, settings).write.format("noop").mode("overwrite").save()

            rates = [
                (_rate(count, lambda: _plainly(opened)), _rate(count, through_spark))
                for _ in range(ROUNDS)
            ]
    plain, scan = (median(column) for column in zip(*rates, strict=True))
    return [
        Row(
            "cassandra_read",
            value=scan,
            unit="rows/s",
            baseline=plain,
            ratio=scan / plain,
            bound="at least",
            goal=GOAL,
            of="ratio",
            note=f"{count:,} rows on two cores, against the driver's own paging",
        )
    ]
