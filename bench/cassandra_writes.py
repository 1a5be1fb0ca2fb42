"""`cassandra_writes`: rows a second in groups of one partition key, beside one row at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from statistics import median
from typing import Any

from cassandra.cluster import Session
from cassandra.concurrent import execute_concurrent_with_args

from bench.rows import Row
from bench.servers import servers
from streamkeeper_io.cassandra import GroupedWriter, ensure_table, session
from streamkeeper_io.cassandra_tables import CassandraTable

GOAL = 2.0
ROUNDS = 3
TIMESTAMP = 1_000_000_000
_START = datetime(2026, 11, 24, tzinfo=UTC)


def _table(name: str) -> CassandraTable:
    columns = (
        ("sensor_id", "text"),
        ("day", "date"),
        ("window_start", "timestamp"),
        ("window_end", "timestamp"),
        ("avg_temp", "double"),
        ("max_temp", "double"),
        ("min_temp", "double"),
        ("avg_humidity", "double"),
        ("num_readings", "bigint"),
    )
    return CassandraTable("bench", name, columns, ("sensor_id", "day"), ("window_start",))


def _rows(sensors: int, count: int) -> list[tuple[Any, ...]]:
    """Return rows in the order of their windows: each window has one row a sensor."""
    day, found = date(2026, 11, 24), []
    for number in range(count):
        window, sensor = divmod(number, sensors)
        start = _START + timedelta(seconds=window)
        end = start + timedelta(seconds=1)
        found.append((f"sensor_{sensor:05d}", day, start, end, 21.5, 30.25, 15.0, 50.0, window))
    return found


def _one_by_one(found: Session, table: CassandraTable, rows: list[tuple[Any, ...]]) -> None:
    insert = found.prepare(table.insert())
    values = [(*row, TIMESTAMP) for row in rows]
    execute_concurrent_with_args(found, insert, values, concurrency=100)


def _grouped(found: Session, table: CassandraTable, rows: list[tuple[Any, ...]]) -> None:
    assert GroupedWriter(found, table).write(rows, TIMESTAMP) == len(rows)


def _rate(way: Callable[..., None], *arguments: Any) -> float:
    began = time.perf_counter()
    way(*arguments)
    return len(arguments[-1]) / (time.perf_counter() - began)


def measure(short: bool) -> list[Row]:
    """Write 60,000 rows (6,000 when short) both ways in turn; the median of three."""
    count = 6_000 if short else 60_000
    found = []
    with servers("cassandra") as settings, session(settings.cassandra) as opened:
        for sensors, goal in ((20, GOAL), (10_000, None)):
            rows = _rows(sensors, count)
            table = _table(f"sensors_{sensors}")
            ensure_table(opened, table)
            _one_by_one(opened, table, rows[: count // 4])
            _grouped(opened, table, rows[: count // 4])
            rates = [
                (_rate(_one_by_one, opened, table, rows), _rate(_grouped, opened, table, rows))
                for _ in range(ROUNDS)
            ]
            single, grouped = (median(column) for column in zip(*rates, strict=True))
            found.append(
                Row(
                    f"cassandra_writes_{sensors}_sensors",
                    value=grouped,
                    unit="rows/s",
                    baseline=single,
                    ratio=grouped / single,
                    bound="at least" if goal else None,
                    goal=goal,
                    of="ratio",
                    note=f"{count:,} rows, against execute_concurrent_with_args",
                )
            )
    return found
