"""Which landed rows a Cassandra sink writes."""

from __future__ import annotations

import logging
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from streamkeeper.spec.loader import load_spec
from streamkeeper.spec.models import Spec
from streamkeeper.spec.sinks import CassandraSink
from streamkeeper_io.cassandra_tables import KEY_BYTES
from streamkeeper_spark.sinks.cassandra import CassandraRaw

IOT = load_spec(Path(__file__).parents[2] / "include" / "streams" / "iot.yaml")
AT = datetime(2026, 11, 24, tzinfo=UTC)


def raw_sink(spec: Spec) -> CassandraRaw:
    (sink,) = spec.sinks
    assert isinstance(sink, CassandraSink)
    return CassandraRaw(spec, sink, "localhost:9042", "file:///")


def named(*partition: str, columns: list[str]) -> CassandraRaw:
    """Return the sink of a stream whose sensors have names."""
    plain = IOT.dump()
    for name in columns:
        plain["fields"][name] = {"type": "string", "required": True}
    plain["sinks"][0] |= {"partition_by": list(partition), "columns": [*columns, "timestamp"]}
    return raw_sink(Spec.model_validate(plain))


def test_of_rows_with_one_key_the_last_is_written_as_cassandra_keeps_times() -> None:
    micros = timedelta(microseconds=1)
    times = [AT, AT + 999 * micros, AT + 1000 * micros, AT, None]
    landed = pa.table(
        {
            "sensor_id": pa.array([1, 1, 1, 2, 3], pa.int32()),
            "timestamp": pa.array([t or AT for t in times], pa.timestamp("us", "UTC")),
            "temperature": pa.array([1.0, 2.0, 3.0, None, 5.0], pa.float32()),
            "humidity": pa.array([10.0, 20.0, 30.0, 40.0, None], pa.float32()),
        }
    )
    first = int(AT.timestamp() * 1000)
    assert raw_sink(IOT)._last_of_each_key(landed) == [
        (1, first, 2.0, 20.0),
        (1, first + 1, 3.0, 30.0),
        (2, first, None, 40.0),
        (3, first, 5.0, None),
    ]


@pytest.mark.parametrize(
    ("partition", "row", "told"),
    [
        (("name",), ("Fès", "", 1), ""),
        (("name",), ("", "x", 1), "an empty key"),
        (("name", "place"), ("", "", 1), ""),
        (("name",), ("é" * (KEY_BYTES // 2), "x" * 100_000, 1), ""),
        (("name",), ("é" * (KEY_BYTES // 2 + 1), "x", 1), "a key longer than 60000 bytes"),
        (("name", "place"), ("a" * 40_000, "b" * 40_000, 1), "a key longer than 60000 bytes"),
    ],
)
def test_a_key_that_cassandra_refuses_is_left_out(
    partition: tuple[str, ...], row: tuple[Any, ...], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    sink = named(*partition, columns=["name", "place"])
    with caplog.at_level(logging.WARNING):
        kept = list(sink._accepted([row]))
    assert kept == ([] if told else [row])
    assert (told in caplog.text) if told else not caplog.text


def test_the_data_source_needs_no_other_part() -> None:
    heavy = (
        "airflow sqlalchemy confluent_kafka hdfs_native duckdb matplotlib pandas alembic"
        " streamkeeper_io.store streamkeeper_io.kafka streamkeeper_io.lake streamkeeper.spec.models"
    )
    code = (
        "import sys; from streamkeeper_spark.datasources.cassandra import register;"
        "print([m for m in sys.argv[1].split() if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, heavy], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
