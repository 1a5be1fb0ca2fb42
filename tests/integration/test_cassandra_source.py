"""`format("cassandra")` on a real node: types both ways, what is pushed down, what is refused."""

from __future__ import annotations

import itertools
import os
import secrets
import sys
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from cassandra.cluster import Session
from drivers import QUICK_JAVA, wait_for
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from streamkeeper.settings import Settings
from streamkeeper_io import cassandra
from streamkeeper_io.spark_conf import spark_conf
from streamkeeper_spark.datasources.cassandra import register
from streamkeeper_spark.session import start_session

# CQL type -> Spark's, its highest or strangest value, another one.
TYPES: dict[str, tuple[str, Any, Any]] = {
    "ascii": ("string", "~!\x00", "plain"),
    "text": ("string", "Fès 🌡 \u0000 ĳ", ""),
    "varchar": ("string", "日本語", "x" * 70_000),
    "bigint": ("bigint", 2**63 - 1, -(2**63)),
    "int": ("int", 2**31 - 1, -(2**31)),
    "smallint": ("smallint", 2**15 - 1, -(2**15)),
    "tinyint": ("tinyint", 127, -128),
    "varint": ("decimal(38,0)", Decimal("9" * 38), Decimal(-(2**64))),
    "decimal": (
        "decimal(38,18)", Decimal("12345678901234567890.123456789012345678"), Decimal("-0.5"),
    ),
    "double": ("double", 1.7976931348623157e308, float("-inf")),
    "float": ("float", 1.401298464324817e-45, 3.4028234663852886e38),
    "boolean": ("boolean", True, False),
    "timestamp": (
        "timestamp",
        datetime(9999, 12, 31, 23, 59, 59, 999000, UTC), datetime(1, 1, 1, 0, 0, 0, 1000, UTC),
    ),
    "date": ("date", date(9999, 12, 31), date(1, 1, 1)),
    "time": ("bigint", 86_399_999_999_999, 0),
    "uuid": ("string", str(uuid.UUID(int=2**128 - 1)), str(uuid.uuid4())),
    "timeuuid": ("string", str(uuid.uuid1()), str(uuid.uuid1())),
    "inet": ("string", "2001:db8::1", "192.0.2.255"),
    "blob": ("binary", bytearray(range(256)), bytearray()),
    "duration": (
        "struct<months:int,days:int,nanoseconds:bigint>", Row(13, 400, 2**40), Row(-1, 0, 0),
    ),
    "list<text>": ("array<string>", ["ż", "a", "a"], ["x"]),
    "set<date>": ("array<date>", [date(1969, 12, 31), date(2026, 11, 24)], [date(1, 1, 1)]),
    "map<text, timestamp>": (
        "map<string,timestamp>",
        {"é": datetime(2026, 11, 24, 1, 2, 3, 4000, UTC)}, {"a": datetime(1, 1, 1, tzinfo=UTC)},
    ),
    "frozen<tuple<int, text, uuid>>": (
        "struct<_1:int,_2:string,_3:string>",
        Row(1, None, str(uuid.UUID(int=1))), Row(None, "", None),
    ),
    "frozen<place>": (
        "struct<city:string,count:int,seen:array<date>>",
        Row("Fès", 3, [date(2026, 11, 24)]), Row(None, None, None),
    ),
    "frozen<map<int, frozen<list<decimal>>>>": (
        "map<int,array<decimal(38,18)>>", {1: [Decimal("1.5"), Decimal("-2")]}, {2: []},
    ),
}  # fmt: skip
NAMES = {cql: f"c{place}" for place, cql in enumerate(TYPES)}


@pytest.fixture(scope="module")
def spark(settings: Settings) -> Iterator[SparkSession]:
    """A session with two cores; its Python processes are this Python's."""
    os.environ["PYSPARK_PYTHON"] = sys.executable
    local = settings.model_copy(update={"spark_master": "local[2]"})
    java = spark_conf(local)["spark.driver.extraJavaOptions"] + f" {QUICK_JAVA}"
    session = start_session(
        local,
        "cassandra source",
        {"spark.ui.enabled": "false", "spark.driver.extraJavaOptions": java},
    )
    register(session)
    yield session
    session.stop()


@pytest.fixture(scope="module")
def node(settings: Settings) -> Iterator[Session]:
    """A plain session of the driver."""
    with cassandra.session(settings) as opened:
        yield opened


@pytest.fixture(scope="module")
def keyspace(node: Session) -> str:
    """A keyspace of its own."""
    name = f"source_{secrets.token_hex(4)}"
    node.execute(
        f"CREATE KEYSPACE {name} WITH replication = "
        "{'class': 'SimpleStrategy', 'replication_factor': 1}"
    )
    node.execute(f"CREATE TYPE {name}.place (city text, count int, seen frozen<set<date>>)")
    return name


class Source:
    """Reads and writes of one keyspace."""

    def __init__(self, spark: SparkSession, settings: Settings, keyspace: str) -> None:
        self.spark = spark
        self.options = {"contact_points": settings.cassandra, "keyspace": keyspace}

    def read(self, table: str, **options: Any) -> DataFrame:
        found = self.spark.read.format("cassandra").options(**self.options, table=table, **options)
        return found.load()

    def write(self, rows: DataFrame, table: str, mode: str = "append", **options: Any) -> None:
        writer = rows.write.format("cassandra").options(**self.options, table=table, **options)
        writer.mode(mode).save()


@pytest.fixture(scope="module")
def source(spark: SparkSession, settings: Settings, keyspace: str) -> Source:
    return Source(spark, settings, keyspace)


def everything(spark: SparkSession) -> DataFrame:
    """Rows with every type: its extremes, its other values, nulls."""
    ddl = ", ".join(f"{NAMES[cql]} {kind}" for cql, (kind, _, _) in TYPES.items())
    rows = [
        (1, *(first for _, first, _ in TYPES.values())),
        (2, *(second for _, _, second in TYPES.values())),
        (3, *(None for _ in TYPES)),
    ]
    return spark.createDataFrame(rows, f"id int, {ddl}")


def test_every_type_goes_both_ways(source: Source, node: Session, keyspace: str) -> None:
    columns = ", ".join(f"{NAMES[cql]} {cql}" for cql in TYPES)
    node.execute(f"CREATE TABLE {keyspace}.everything (id int PRIMARY KEY, {columns})")
    sent = everything(source.spark)
    source.write(sent, "everything", write_timestamp=7)
    read = source.read("everything")
    declared = {field.name: field.dataType.simpleString() for field in read.schema}
    assert declared == {f.name: f.dataType.simpleString() for f in sent.schema}
    expected = {row["id"]: row for row in sent.toArrow().to_pylist()}
    found = {row["id"]: row for row in read.toArrow().to_pylist()}
    differ = {
        (cql, row): (found[row][name], expected[row][name])
        for cql, name in NAMES.items()
        for row in expected
        if found[row][name] != expected[row][name]
    }
    assert differ == {}
    # What the driver itself reads, and that nulls and write timestamps came through.
    told = {row.id: row for row in node.execute(f"SELECT * FROM {keyspace}.everything")}
    name = NAMES["uuid"]
    assert getattr(told[2], name) == uuid.UUID(TYPES["uuid"][2])
    assert getattr(told[1], NAMES["varint"]) == 10**38 - 1
    assert getattr(told[1], NAMES["frozen<place>"]).city == "Fès"
    assert all(value is None for value in told[3][1:])
    stamps = node.execute(f"SELECT id, writetime({name}) FROM {keyspace}.everything")
    assert {tuple(row) for row in stamps} == {(1, 7), (2, 7), (3, None)}


@pytest.fixture(scope="module")
def readings(node: Session, source: Source, keyspace: str) -> str:
    """A table of 4 partitions with 300 rows each, under names that CQL would fold or refuse."""
    node.execute(
        f'CREATE TABLE {keyspace}."Select" ("from" int, "Day" date, at timestamp, "Value" float, '
        'note text static, PRIMARY KEY (("from", "Day"), at))'
    )
    rows = source.spark.range(1200).select(
        (F.col("id") % 2).cast("int").alias("from"),
        F.date_add(F.lit("2026-11-24"), (F.col("id") / 2 % 2).cast("int")).alias("Day"),
        F.timestamp_millis(F.lit(1_764_000_000_000) + F.col("id") * 1000).alias("at"),
        F.col("id").cast("float").alias("Value"),
    )
    source.write(rows, "Select", batch_rows=7, in_flight=3)
    return "Select"


def statements(node: Session, table: str) -> list[dict[str, str]]:
    """What the node itself tells that it was asked of a table, by its traces."""
    found = node.execute("SELECT parameters FROM system_traces.sessions")
    asked = [dict(row.parameters) for row in found if row.parameters]
    return [p for p in asked if f'."{table}" WHERE' in p.get("query", "")]


def asked(node: Session, table: str, count: int) -> list[dict[str, str]]:
    """Wait for the traces of so many statements and forget them."""
    wait_for(lambda: len(statements(node, table)) >= count, f"{count} traces", 30)
    found = statements(node, table)
    node.execute("TRUNCATE system_traces.sessions")
    return found


def bound(found: dict[str, str]) -> dict[str, str]:
    return {k.split("_", 3)[3]: v for k, v in found.items() if k.startswith("bound_var_")}


def test_conditions_on_the_key_are_answered_by_cassandra(
    source: Source, node: Session, readings: str
) -> None:
    node.execute("TRUNCATE system_traces.sessions")
    rows = source.read(readings, trace="true")
    one = rows.where("`from` = 1 and Day in (date'2026-11-24', date'2026-11-25')")
    first, end = "timestamp'2025-11-24 16:00:10.0005'", "timestamp'2025-11-24 16:01:00'"
    chosen = one.where(f"at > {first} and at <= {end} and Value < 50").select("Value")
    assert chosen.rdd.getNumPartitions() == 2
    expected = [float(n) for n in range(50) if n % 2 and 10 < n <= 60]
    assert sorted(row["Value"] for row in chosen.collect()) == expected
    found = asked(node, readings, 2)
    assert len(found) == 2
    for statement in found:
        assert 'WHERE "from" = ? AND "Day" = ? AND "at" > ? AND "at" <= ?' in statement["query"]
    assert sorted(bound(f)["Day"] for f in found) == ["'2026-11-24'", "'2026-11-25'"]
    assert {bound(f)["from"] for f in found} == {"1"}
    assert {bound(f)["at"] for f in found}


def test_a_scan_covers_the_ring_once_and_reads_the_columns_asked_for(
    source: Source, node: Session, readings: str
) -> None:
    node.execute("TRUNCATE system_traces.sessions")
    rows = source.read(readings, trace="true", splits=5, page_rows=100, columns="Value, from")
    assert rows.columns == ["Value", "from"]
    parts = rows.rdd.getNumPartitions()
    assert parts in (5, 6)
    assert sorted(row["Value"] for row in rows.collect()) == [float(n) for n in range(1200)]
    found = asked(node, readings, parts)
    assert {f["query"].partition(" FROM ")[0] for f in found} == {'SELECT "Value", "from"'}
    ranges = sorted(
        {tuple(int(v) for k, v in sorted(f.items()) if "partition key token" in k) for f in found}
    )
    assert len(ranges) == parts
    assert (ranges[0][0], ranges[-1][1]) == (-(2**63), 2**63 - 1)
    assert all(a[1] == b[0] for a, b in itertools.pairwise(ranges))
    # Fewer columns by a schema, and another condition than on the key: Spark applies it.
    narrow = source.spark.read.format("cassandra").options(**source.options, table=readings)
    assert narrow.schema("Value float").load().where("Value >= 1195").count() == 5
    assert source.read(readings).where("at < timestamp'2025-11-24 16:00:10'").count() == 10


def test_rows_live_as_long_as_asked(source: Source, node: Session, keyspace: str) -> None:
    node.execute(f"CREATE TABLE {keyspace}.short (id int PRIMARY KEY, a text, b text)")
    node.execute(f"INSERT INTO {keyspace}.short (id, b) VALUES (1, 'stays')")
    source.write(
        source.spark.createDataFrame([(1, "new")], "id int, a string"), "short",
        ttl="1h", write_timestamp=5, consistency="LOCAL_QUORUM",
    )  # fmt: skip
    older = source.spark.createDataFrame([(1, "old")], "id int, a string")
    source.write(older, "short", write_timestamp=4)
    (row,) = node.execute(f"SELECT a, b, ttl(a) AS left, writetime(a) AS at FROM {keyspace}.short")
    assert (row.a, row.b, row.at) == ("new", "stays", 5)
    assert 3500 < row.left <= 3600


def test_what_is_refused_and_how_it_is_told(
    source: Source, node: Session, keyspace: str, readings: str, unused_address: str
) -> None:
    node.execute(f"CREATE TABLE {keyspace}.counts (id int PRIMARY KEY, n counter)")
    node.execute(f"UPDATE {keyspace}.counts SET n = n + 3 WHERE id = 1")
    assert source.read("counts").collect() == [Row(id=1, n=3)]
    node.execute(f"CREATE TABLE {keyspace}.odd (id int PRIMARY KEY, v vector<float, 3>)")
    rows = source.spark.createDataFrame([(1, 2)], "id int, n bigint")

    def refused(call: Callable[[], Any], *texts: str) -> None:
        with pytest.raises(PySparkException) as raised:
            call()
        told = str(raised.value)
        assert [text for text in texts if text not in told] == [], told

    write, read = source.write, source.read
    refused(lambda: write(rows, "counts"), "counters can only be read")
    refused(lambda: write(rows, "counts", "overwrite"), "only mode('append') is supported")
    refused(lambda: write(rows, "odd", "error"), "cannot be written in", '"Append"')
    refused(lambda: read("odd"), "v: has the type vector<float, 3>, which is not supported")
    assert read("odd", columns="id").count() == 0
    refused(lambda: read("count"), "table: 'count' is not there", "did you mean 'counts'?")
    refused(lambda: read(readings, columns="valeu"), "is no column of", "did you mean 'Value'?")
    refused(
        lambda: read(readings, splits="many", trce="1"), "whole number", "did you mean 'trace'?"
    )
    refused(
        lambda: write(rows, readings),
        "'n' is no column of", "'from' is missing, which is part of the key", "'at' is missing",
    )  # fmt: skip
    wrong = rows.selectExpr("1.5D as `from`", "current_date() as Day", "now() as at")
    refused(lambda: write(wrong, readings), "from: is double; a int is written from int: cast")
    nothing = rows.selectExpr("cast(null as int) as `from`", "current_date() as Day", "now() as at")
    refused(lambda: write(nothing, readings), "'from' is part of the key and null in a row")
    away = source.spark.read.format("cassandra").options(**source.options, table=readings)
    refused(away.option("contact_points", unused_address).load, "does not answer")
