"""Cassandra tables from declarations, and what is told about one that differs."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamkeeper.errors import StreamkeeperError
from streamkeeper.spec.loader import load_spec
from streamkeeper.spec.models import Spec
from streamkeeper.spec.sinks import CassandraSink
from streamkeeper_io.cassandra_sinks import sink_table, window_table
from streamkeeper_io.cassandra_tables import CassandraTable, differences

SPEC = load_spec(Path(__file__).parents[2] / "include" / "streams" / "temperature.yaml")
SINK = next(s for s in SPEC.sinks if isinstance(s, CassandraSink))


@pytest.fixture
def table() -> CassandraTable:
    return window_table(SPEC, SINK)


def test_statements(table: CassandraTable) -> None:
    assert table.create() == (
        'CREATE TABLE IF NOT EXISTS "iot"."temperature_city_30s" ("city" text, "day" date, '
        '"window_start" timestamp, "window_end" timestamp, "avg_temp" double, '
        '"max_temp" double, "min_temp" double, "avg_humidity" double, "num_readings" bigint, '
        'PRIMARY KEY (("city", "day"), "window_start")) '
        'WITH CLUSTERING ORDER BY ("window_start" DESC)'
    )
    assert table.insert().endswith("VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?")
    keys = 'WHERE "city" = ? AND "day" = ? AND "window_start" = ?'
    assert table.delete().endswith(f" USING TIMESTAMP ? {keys}")
    assert table.create_keyspace("datacenter1", 1).endswith("'datacenter1': 1}")


def test_same_table_has_no_differences(table: CassandraTable) -> None:
    more = dict(table.columns) | {"note": "text"}
    assert differences(table, more, ["city", "day"], ["window_start"]) == []


def test_missing_and_other_columns_are_told_with_the_statement(table: CassandraTable) -> None:
    found = dict(table.columns) | {"num_readings": "int"}
    del found["max_temp"]
    told = differences(table, found, ["city", "day"], ["window_start"])
    assert told == [
        "the column max_temp is missing; run: "
        'ALTER TABLE "iot"."temperature_city_30s" ADD "max_temp" double;',
        "the column num_readings is int, declared is bigint; types cannot be altered: declare "
        'another table, or run: DROP TABLE "iot"."temperature_city_30s";',
    ]


def test_another_key_is_told_alone(table: CassandraTable) -> None:
    (told,) = differences(table, dict(table.columns), ["city"], ["day", "window_start"])
    assert "its primary key is ((city), day, window_start)" in told
    assert "declared is ((city, day), window_start)" in told


def test_types_of_measures() -> None:
    plain = SPEC.dump()
    plain["fields"]["count"] = {"type": "integer"}
    plain["fields"]["level"] = {"type": "float"}
    plain["windows"][0]["measures"] = {
        "a": "max(count)",
        "b": "sum(count)",
        "c": "avg(count)",
        "d": "max(level)",
        "e": "sum(level)",
        "f": "min(timestamp)",
        "g": "approx_count_distinct(city)",
        "h": "stddev(level)",
    }
    kinds = dict(window_table(Spec.model_validate(plain), SINK).columns)
    assert [kinds[name] for name in "abcdefgh"] == [
        *("bigint", "bigint", "double", "float", "double", "timestamp", "bigint", "double")
    ]


def test_a_key_that_may_be_null_is_refused() -> None:
    plain = SPEC.dump()
    plain["fields"]["city"]["required"] = False
    with pytest.raises(StreamkeeperError, match="add `required: true`"):
        window_table(Spec.model_validate(plain), SINK)


IOT = load_spec(Path(__file__).parents[2] / "include" / "streams" / "iot.yaml")


def iot_sink(**changes: object) -> tuple[Spec, CassandraSink]:
    """Return the stream `iot` with another sink."""
    plain = IOT.dump()
    plain["sinks"][0] |= changes
    plain["fields"]["order"] = {"type": "decimal(12,3)"}
    plain["fields"]["Token"] = {"type": "string", "required": True}
    spec = Spec.model_validate(plain)
    (sink,) = spec.sinks
    assert isinstance(sink, CassandraSink)
    return spec, sink


def test_the_table_of_system_five() -> None:
    (sink,) = IOT.sinks
    assert isinstance(sink, CassandraSink)
    table = sink_table(IOT, sink)
    assert table.create() == (
        'CREATE TABLE IF NOT EXISTS "iot_keyspace"."sensor_data" ("sensor_id" int, '
        '"timestamp" timestamp, "temperature" float, "humidity" float, '
        'PRIMARY KEY (("sensor_id"), "timestamp"))'
    )
    kept = dict(table.columns)
    assert differences(table, kept, ["sensor_id"], ["timestamp"]) == []
    (told,) = differences(table, kept, ["sensor_id", "timestamp"], [])
    assert (
        "its primary key is ((sensor_id, timestamp)), declared is ((sensor_id), timestamp)" in told
    )
    assert told.endswith('DROP TABLE "iot_keyspace"."sensor_data";')


def test_reserved_words_case_and_time_to_live() -> None:
    spec, sink = iot_sink(
        table="select", ttl="30d", columns=["Token", "order"], partition_by=["Token"], cluster_by=[]
    )
    table = sink_table(spec, sink)
    assert table.create() == (
        'CREATE TABLE IF NOT EXISTS "iot_keyspace"."select" ("Token" text, "order" decimal, '
        'PRIMARY KEY (("Token")))'
    )
    insert = 'INSERT INTO "iot_keyspace"."select" ("Token", "order") VALUES (?, ?)'
    assert table.insert() == f"{insert} USING TIMESTAMP ? AND TTL 2592000"
    assert table.insert(timestamped=False) == f"{insert} USING TTL 2592000"
    # Another case is another column.
    (told,) = differences(
        table, {"token": "text", "order": "decimal"} | {"Token": "int"}, ["Token"], []
    )
    assert "the column Token is int, declared is text" in told
    (told,) = differences(table, {"Token": "text", "Order": "decimal"}, ["Token"], [])
    assert told.endswith('run: ALTER TABLE "iot_keyspace"."select" ADD "order" decimal;')


def test_a_window_may_have_a_time_to_live() -> None:
    plain = SPEC.dump()
    plain["sinks"][0]["ttl"] = "1500ms"
    spec = Spec.model_validate(plain)
    assert sink_table(spec, spec.sinks[0]).ttl_s == 2  # type: ignore[arg-type]
