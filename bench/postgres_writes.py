"""`postgres_writes`: rows a second of the PostgreSQL sink, beside bare COPY of the same rows."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any

import psycopg
import pyarrow as pa

from bench.rows import Row
from bench.servers import ROOT, servers
from streamkeeper.connections.postgres import CONNECTION
from streamkeeper.names import OFFSET, PARTITION, TOPIC_ID
from streamkeeper.spec.loader import load_spec
from streamkeeper.spec.models import Spec
from streamkeeper.spec.sinks import PostgresSink
from streamkeeper_io.postgres import Mark, Rank, TableWriter, csv_bytes
from streamkeeper_io.postgres_sinks import raw_table
from streamkeeper_io.postgres_tables import PostgresTable

GOAL = 0.3
ROUNDS = 5
BATCH = 50_000
_START = datetime(2026, 11, 24, tzinfo=UTC)


def _table(name: str) -> PostgresTable:
    spec = load_spec(ROOT / "include" / "streams" / "temperature.yaml").dump()
    spec["sinks"] = [{"kind": "postgresql", "of": "raw", "table": f"bench.{name}"}]
    made = Spec.model_validate(spec)
    (sink,) = made.sinks
    assert isinstance(sink, PostgresSink)
    return raw_table(made, sink)


def _rows(count: int, first: int) -> pa.Table:
    """Return readings of six cities as they landed, offsets from `first` on."""
    numbers = range(first, first + count)
    times = [_START + timedelta(milliseconds=50 * n) for n in numbers]
    return pa.table(
        {
            TOPIC_ID: pa.array(["k7Xq0Zs5Q0iPq1mC2n3o4A"] * count),
            PARTITION: pa.array([n % 3 for n in numbers], pa.int32()),
            OFFSET: pa.array([n // 3 for n in numbers], pa.int64()),
            "sensor_id": [f"sensor_{n % 20:02d}" for n in numbers],
            "city": [f"city {n % 6}" for n in numbers],
            "temperature": [15 + n % 3000 / 100 for n in numbers],
            "humidity": [20 + n % 7000 / 100 for n in numbers],
            "timestamp": pa.array(times, pa.timestamp("us", "UTC")),
        }
    )


def _batches(count: int) -> Iterator[pa.Table]:
    for first in range(0, count, BATCH):
        yield _rows(min(BATCH, count - first), first)


def _bare(url: str, table: PostgresTable, batches: list[pa.Table]) -> float:
    """Copy each batch into an empty table without any key, in a transaction; return the seconds."""
    names = ", ".join(f'"{name}"' for name, _ in table.columns)
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        columns = ", ".join(f'"{name}" {kind}' for name, kind in table.columns)
        cursor.execute("CREATE SCHEMA IF NOT EXISTS bench")
        cursor.execute(f"DROP TABLE IF EXISTS bench.bare; CREATE TABLE bench.bare ({columns})")
        connection.commit()
        began = time.perf_counter()
        for batch in batches:
            with cursor.copy(f"COPY bench.bare ({names}) FROM STDIN (FORMAT csv)") as copy:
                copy.write(csv_bytes(batch.select([name for name, _ in table.columns])))
            connection.commit()
        return time.perf_counter() - began


def _sink(url: str, table: PostgresTable, batches: list[pa.Table]) -> float:
    """Write each batch as the sink does, into a table with its key; return the seconds."""
    writer = TableWriter(url, table, connection=CONNECTION)
    writer.mark("bench")  # the table is made
    began = time.perf_counter()
    for number, batch in enumerate(batches):
        written = writer.write([batch], Rank(False, number), Mark("bench", "g", number))
        assert written == (batch.num_rows, 0)
    seconds = time.perf_counter() - began
    writer.close()
    return seconds


def measure(short: bool) -> list[Row]:
    """Write 500,000 landed rows (5,000 when short) both ways in turn; the median of five."""
    count = 5_000 if short else 500_000
    batches = list(_batches(count))
    times: list[tuple[float, float]] = []
    with servers("postgres") as settings:
        url = settings.postgres_url(CONNECTION)
        plain: Any = url.replace("+psycopg", "")
        for _ in range(ROUNDS):
            table = _table(f"t_{secrets.token_hex(4)}")
            times.append((_bare(plain, table, batches), _sink(url, table, batches)))
            with psycopg.connect(plain) as connection:
                connection.execute(f"DROP TABLE {table.full_name}, bench.bare")
    bare, sink = (count / median(column) for column in zip(*times, strict=True))
    return [
        Row(
            "postgres_writes",
            value=sink,
            unit="rows/s",
            baseline=bare,
            ratio=sink / bare,
            bound="at least",
            goal=GOAL,
            of="ratio",
            note=f"{count:,} rows in batches of {BATCH:,}, keyed by coordinates, against COPY into "
            "a table without a key",
        )
    ]
