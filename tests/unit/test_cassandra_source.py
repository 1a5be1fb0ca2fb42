"""The Cassandra data source without a node: options, types, what is pushed down, pages."""

from __future__ import annotations

import itertools
import operator
import pickle
import socket
import struct
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from cassandra import cqltypes
from cassandra.util import Duration
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import types as T
from pyspark.sql.datasource import (
    EqualTo,
    Filter,
    GreaterThan,
    GreaterThanOrEqual,
    In,
    IsNotNull,
    LessThan,
    LessThanOrEqual,
    Not,
)
from pyspark.sql.pandas.types import to_arrow_schema

from streamkeeper.errors import OptionsError, StreamkeeperError
from streamkeeper_spark.datasources.cassandra.filters import Plan, plan, token_ranges
from streamkeeper_spark.datasources.cassandra.kinds import (
    Kind,
    parse_kind,
    readable_as,
    spark_type,
    writable_from,
)
from streamkeeper_spark.datasources.cassandra.options import connection_options, read_options
from streamkeeper_spark.datasources.cassandra.pages import PageReader, cell_lengths
from streamkeeper_spark.datasources.cassandra.reader import CassandraReader
from streamkeeper_spark.datasources.cassandra.tables import FIRST_TOKEN, LAST_TOKEN, Table
from streamkeeper_spark.datasources.cassandra.values import bound_values

PLACE = {"contact_points": "localhost:9042", "keyspace": "iot", "table": "sensor_data"}
SENSORS = Table(
    "iot",
    "sensor_data",
    {n: Kind(k) for n, k in {
        "sensor_id": "int", "day": "date", "timestamp": "timestamp", "kind": "text",
        "temperature": "float",
    }.items()},
    ("sensor_id", "day"),
    ("timestamp", "kind"),
)  # fmt: skip
DAY = date(2026, 11, 24)
KEY: list[Filter] = [EqualTo(("sensor_id",), 7), EqualTo(("day",), DAY)]
DAYS = (DAY - date(1970, 1, 1)).days + 2**31
MANY_DAYS = tuple(DAY - timedelta(days=n) for n in range(60))
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
NOON_MS = int(NOON.timestamp() * 1000)


# Options
def test_all_mistakes_of_the_options_are_told_at_once() -> None:
    wrong = {
        "contact_points": "localhost", "keyspase": "iot", "table": "t", "splits": "0",
        "consistency": "LOCAL_QOURUM", "ttl": "30 fortnights", "trace": "yes", "columns": " , ",
        "username": "me",
    }  # fmt: skip
    with pytest.raises(OptionsError) as raised:
        read_options(wrong)
    told = str(raised.value).splitlines()
    assert len(told) == len(wrong)
    assert "contact_points: 'localhost' is not written as host:port,host:port" in told[0]
    assert "keyspase: is no option" in told[1]
    assert "did you mean 'keyspace'?" in told[1]
    assert "splits: '0' is not a whole number from 1 to 100,000" in told[2]
    assert "did you mean 'LOCAL_QUORUM'?" in told[3]
    assert 'keyspace: is needed; add .option("keyspace", ...)' in str(raised.value)
    assert "password" in told[-1]
    assert all(line.startswith('format("cassandra"): ') for line in told)


def test_options_are_read_whatever_their_case() -> None:
    found = read_options(PLACE | {"Consistency": "local_quorum", "TTL": "30d", "columns": "a, B"})
    assert (found.consistency, found.ttl_s) == ("LOCAL_QUORUM", 30 * 86_400)
    assert found.columns == ("a", "B")
    assert read_options(PLACE | {"ttl": "3600"}).ttl_s == 3600
    assert pickle.loads(pickle.dumps(found)) == found


def test_the_options_of_a_connection_come_through_and_are_not_shown() -> None:
    checked = {"username": "me", "password": "s3cret", "ssl_options": {"ca_certs": "/ca.pem"}}
    found = read_options(PLACE | connection_options(checked))
    assert '"ssl_options": {"ca_certs": "/ca.pem"}' in found.connection
    assert "s3cret" not in repr(found)


# Types
@pytest.mark.parametrize(
    ("cql", "expected"),
    [
        ("int", "int"),
        ("frozen<list<frozen<tuple<int, text>>>>", "array<struct<_1:int,_2:string>>"),
        ("map<text, frozen<map<uuid, varint>>>", "map<string,map<string,decimal(38,0)>>"),
        ("frozen<place>", "struct<city:string,at:array<timestamp>>"),
        ('"Odd Name"', "struct<a:tinyint>"),
        ("duration", "struct<months:int,days:int,nanoseconds:bigint>"),
    ],
)
def test_types_as_cassandra_writes_them(cql: str, expected: str) -> None:
    user_types = {
        "place": (["city", "at"], ["text", "set<timestamp>"]), "Odd Name": (["a"], ["tinyint"])
    }  # fmt: skip
    assert spark_type(parse_kind(cql, user_types)).simpleString() == expected


def test_types_that_are_not_supported_are_named() -> None:
    found = parse_kind("map<int, frozen<list<vector<float, 3>>>>", {})
    assert found.unsupported() == "vector<float, 3>"
    assert parse_kind("'org.example.Odd'", {}).unsupported() == "'org.example.Odd'"
    assert parse_kind("frozen<list<int>>", {}).unsupported() is None


def test_which_spark_types_are_read_and_written() -> None:
    assert readable_as(Kind("decimal"), T.DecimalType(10, 2))
    assert not readable_as(Kind("bigint"), T.IntegerType())
    assert writable_from(Kind("bigint"), T.ShortType())
    assert not writable_from(Kind("int"), T.LongType())
    assert writable_from(Kind("double"), T.FloatType())
    assert not writable_from(Kind("float"), T.DoubleType())
    assert writable_from(Kind("varint"), T.DecimalType(20, 0))
    assert not writable_from(Kind("varint"), T.DecimalType(20, 1))
    array = T.ArrayType(T.StringType(), containsNull=False)
    assert writable_from(parse_kind("list<text>", {}), array)


# What is pushed down
def test_the_whole_partition_key_names_partitions() -> None:
    days = In(("day",), (DAY, date(2026, 11, 25), None))
    found, left = plan(SENSORS, [IsNotNull(("day",)), EqualTo(("sensor_id",), 7), days])
    assert found.keys == ((7, DAYS), (7, DAYS + 1))
    assert left == [IsNotNull(("day",))]
    assert found.statement(SENSORS, ["kind"]) == (
        'SELECT "kind" FROM "iot"."sensor_data" WHERE "sensor_id" = ? AND "day" = ?'
    )


@pytest.mark.parametrize(
    "others",
    [
        [EqualTo(("sensor_id",), 7)],
        [EqualTo(("sensor_id",), 7), GreaterThan(("day",), DAY)],
        [EqualTo(("sensor_id",), 7), Not(EqualTo(("day",), DAY))],
        [EqualTo(("temperature",), 21.5), EqualTo(("sensor_id", "x"), 7)],
        [In(("sensor_id",), tuple(range(200))), In(("day",), MANY_DAYS)],
    ],
)  # fmt: skip
def test_what_is_left_to_spark(others: list[Filter]) -> None:
    assert plan(SENSORS, others) == (Plan(), others)


def test_clustering_columns_by_cqls_rules() -> None:
    after = GreaterThanOrEqual(("timestamp",), NOON)
    before = LessThan(("timestamp",), NOON.replace(hour=13))
    more: list[Filter] = [LessThan(("timestamp",), NOON.replace(hour=14)), EqualTo(("kind",), "a")]
    found, left = plan(SENSORS, [*KEY, after, before, *more])
    assert [c.cql for c in found.clustering] == ['"timestamp" >= ?', '"timestamp" < ?']
    assert found.clustering_values() == (NOON_MS, NOON_MS + 3_600_000)
    # Neither a second bound of a side nor a column after a range.
    assert left == more
    found, left = plan(SENSORS, [*KEY, EqualTo(("timestamp",), NOON), GreaterThan(("kind",), "a")])
    assert [c.cql for c in found.clustering] == ['"timestamp" = ?', '"kind" > ?']
    assert left == []
    found, left = plan(SENSORS, [*KEY, EqualTo(("kind",), "a")])
    assert (found.clustering, left) == ((), [EqualTo(("kind",), "a")])


def test_a_scan_filters_by_clustering_columns_too() -> None:
    found, left = plan(SENSORS, [GreaterThan(("timestamp",), NOON)])
    assert left == []
    assert found.statement(SENSORS, ["kind"]) == (
        'SELECT "kind" FROM "iot"."sensor_data" WHERE token("sensor_id", "day") > ? '
        'AND token("sensor_id", "day") <= ? AND "timestamp" > ? ALLOW FILTERING'
    )


@pytest.mark.parametrize(
    ("one", "operator", "millis"),
    [
        (GreaterThan, ">", NOON_MS), (GreaterThanOrEqual, ">=", NOON_MS + 1),
        (LessThan, "<", NOON_MS + 1), (LessThanOrEqual, "<=", NOON_MS),
    ],
)  # fmt: skip
def test_bounds_between_two_milliseconds(one: Any, operator: str, millis: int) -> None:
    found, left = plan(SENSORS, [*KEY, one(("timestamp",), NOON.replace(microsecond=500))])
    (condition,) = found.clustering
    assert (condition.operator, condition.values, left) == (operator, (millis,), [])


def test_values_that_no_cell_has_are_not_asked_for() -> None:
    table = Table("k", "t", {"id": Kind("uuid"), "at": Kind("timestamp")}, ("id",), ("at",))
    known = uuid.UUID(int=5)
    found, left = plan(table, [In(("id",), (str(known), str(known).upper(), "no uuid"))])
    assert (found.keys, left) == (((known,),), [])
    found, _ = plan(table, [EqualTo(("id",), "no uuid")])
    assert found.keys == ()
    assert CassandraReader(read_options(PLACE), table, T.StructType()).pushFilters([]) == []
    odd = EqualTo(("at",), NOON.replace(microsecond=500))
    found, left = plan(table, [EqualTo(("id",), str(known)), odd])
    assert (found.clustering, left) == ((), [odd])


DAYS_USED = st.sampled_from([DAY - timedelta(days=1), DAY])
ROWS = st.fixed_dictionaries({
    "sensor_id": st.integers(0, 2), "day": DAYS_USED, "kind": st.sampled_from(["", "a", "é"]),
    "timestamp": st.integers(0, 3).map(lambda n: NOON + timedelta(milliseconds=n)),
    "temperature": st.sampled_from([20.0, 21.0]),
})  # fmt: skip
ASKED = {
    "sensor_id": st.integers(0, 3), "day": DAYS_USED, "kind": st.sampled_from(["", "a", "z"]),
    # Also between two milliseconds.
    "timestamp": st.integers(-1, 7).map(lambda n: NOON + timedelta(microseconds=500 * n)),
    "temperature": st.sampled_from([20.0, 20.5]),
}  # fmt: skip
OPERATORS: dict[Any, Callable[[Any, Any], bool]] = {
    EqualTo: operator.eq, GreaterThan: operator.gt, GreaterThanOrEqual: operator.ge,
    LessThan: operator.lt, LessThanOrEqual: operator.le, In: lambda value, many: value in many,
}  # fmt: skip


@st.composite
def conditions(draw: st.DrawFn) -> Filter:
    name = draw(st.sampled_from(sorted(ASKED)))
    kind = draw(st.sampled_from([*OPERATORS, EqualTo, EqualTo]))
    if kind is In:
        return In((name,), tuple(draw(st.lists(ASKED[name], max_size=3))))
    found: Filter = kind((name,), draw(ASKED[name]))
    return found


def cell(row: dict[str, Any], name: str) -> Any:
    """Return a cell as it is bound."""
    if name == "timestamp":
        return round(row[name].timestamp() * 1000)
    return (row[name] - date(1970, 1, 1)).days + 2**31 if name == "day" else row[name]


def answered(row: dict[str, Any], found: Plan) -> bool:
    """Tell whether Cassandra would return a row."""
    if found.keys is not None and (cell(row, "sensor_id"), cell(row, "day")) not in found.keys:
        return False
    by_cql = {"=": EqualTo, ">": GreaterThan, ">=": GreaterThanOrEqual, "<": LessThan,
              "<=": LessThanOrEqual}  # fmt: skip
    return all(
        cell(row, c.column) in c.values
        if c.operator == "IN"
        else OPERATORS[by_cql[c.operator]](cell(row, c.column), c.values[0])
        for c in found.clustering
    )


@given(st.lists(ROWS, max_size=12), st.lists(conditions(), max_size=6))
def test_cassandra_and_spark_together_return_what_was_asked_for(
    rows: list[dict[str, Any]], filters: list[Any]
) -> None:
    def holds(row: dict[str, Any], one: Any) -> bool:
        return OPERATORS[type(one)](row[one.attribute[0]], one.value)

    found, left = plan(SENSORS, filters)
    expected = [row for row in rows if all(holds(row, one) for one in filters)]
    returned = [row for row in rows if answered(row, found)]
    assert [row for row in returned if all(holds(row, one) for one in left)] == expected


@given(st.lists(st.integers(FIRST_TOKEN, LAST_TOKEN), max_size=40), st.integers(1, 300))
def test_token_ranges_cover_the_ring_once(tokens: list[int], splits: int) -> None:
    parts = token_ranges(tokens, splits)
    ranges = sorted(one for part in parts for one in part)
    assert (ranges[0][0], ranges[-1][1]) == (FIRST_TOKEN, LAST_TOKEN)
    assert all(a[1] == b[0] for a, b in itertools.pairwise(ranges))
    assert all(low < high for low, high in ranges)
    assert len(parts) <= splits + len(tokens) + 1
    # None goes across a node's boundary.
    assert not any(low < token < high for low, high in ranges for token in tokens)


# Pages
CLASSES: dict[str, Any] = {
    "int": cqltypes.Int32Type, "text": cqltypes.UTF8Type, "timestamp": cqltypes.LongType,
    "double": cqltypes.DoubleType, "uuid": cqltypes.UUIDType, "blob": cqltypes.BytesType,
    "boolean": cqltypes.BooleanType, "smallint": cqltypes.ShortType,
    "inet": cqltypes.InetAddressType,
    "tinyint": cqltypes.ByteType, "varint": cqltypes.IntegerType, "decimal": cqltypes.DecimalType,
}  # fmt: skip


def _as_read(address: Any) -> str:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    return socket.inet_ntop(family, address.packed)


VALUES = {
    "int": st.integers(-(2**31), 2**31 - 1), "text": st.text(max_size=20),
    "timestamp": st.integers(-(10**14), 10**14), "double": st.floats(allow_nan=False),
    "uuid": st.uuids(), "blob": st.binary(max_size=20), "boolean": st.booleans(),
    "smallint": st.integers(-(2**15), 2**15 - 1), "tinyint": st.integers(-128, 127),
    "inet": st.ip_addresses().map(_as_read), "varint": st.integers(-(10**37), 10**37),
    "decimal": st.decimals(-(10**6), 10**6, places=6),
}  # fmt: skip


def cells(row: list[Any], kinds: list[str]) -> bytes:
    found = b""
    for value, kind in zip(row, kinds, strict=True):
        raw = None if value is None else CLASSES[kind].to_binary(value, 5)
        found += struct.pack(">i", -1) if raw is None else struct.pack(">i", len(raw)) + raw
    return found


@st.composite
def pages(draw: st.DrawFn) -> tuple[list[str], list[list[Any]]]:
    kinds = draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=6))
    nulls = draw(st.booleans())
    one = [st.none() | VALUES[kind] if nulls else VALUES[kind] for kind in kinds]
    return kinds, draw(st.lists(st.tuples(*one).map(list), max_size=8))


@given(pages())
def test_pages_are_read_as_they_were_written(page: tuple[list[str], list[list[Any]]]) -> None:
    kinds, rows = page
    body = struct.pack(">i", len(rows)) + b"".join(cells(row, kinds) for row in rows)
    types = [Kind(kind) for kind in kinds]
    schema = T.StructType(
        [T.StructField(f"c{n}", spark_type(kind)) for n, kind in enumerate(types)]
    )
    reader = PageReader(types, [CLASSES[k] for k in kinds], to_arrow_schema(schema, timezone="UTC"))
    batch = reader.read(body)
    assert batch.schema == to_arrow_schema(schema, timezone="UTC")
    assert batch.num_rows == len(rows)
    for place, kind in enumerate(types):
        column = batch.column(place)
        column.validate(full=True)
        # And back again, as the writer does.
        if rows:
            assert bound_values(column, kind) == [row[place] for row in rows]


def test_a_page_whose_guess_misleads_is_counted() -> None:
    # A null where a number was guessed, with a text behind it that looks like its bytes.
    rows = [[None, "\x00\x00\x00\x04abcd"], [5, ""], [None, None]]
    body = struct.pack(">i", 3) + b"".join(cells(row, ["int", "text"]) for row in rows)
    assert cell_lengths(body, 3, [4, None]).tolist() == [[-1, 8], [4, 0], [-1, -1]]


def test_a_value_beyond_its_spark_type_is_told_with_its_column() -> None:
    def read(kind: str, wanted: pa.DataType, raw: bytes) -> pa.RecordBatch:
        body = struct.pack(">ii", 1, len(raw)) + raw
        cql = CLASSES[kind]
        return PageReader([Kind(kind)], [cql], pa.schema([("price", wanted)])).read(body)

    raw = cqltypes.DecimalType.to_binary(Decimal("1.005"), 5)
    with pytest.raises(StreamkeeperError, match=r"the column 'price' .*decimal128\(10, 2\)"):
        read("decimal", pa.decimal128(10, 2), raw)
    with pytest.raises(StreamkeeperError, match="292,000 years"):
        read("timestamp", pa.timestamp("us", "UTC"), struct.pack(">q", 2**62))


@pytest.mark.parametrize("part", [slice(None), slice(1, None), slice(1, 3)])
def test_nested_values_as_the_driver_takes_them(part: slice) -> None:
    def bound(values: list[Any], kind: pa.DataType, cql: str) -> list[Any]:
        udts = {"place": (["city", "at"], ["text", "date"])}
        column = pa.array(values, kind)[part]
        return bound_values(column, parse_kind(cql, udts))

    at, day = datetime(2026, 11, 24, tzinfo=UTC), date(1970, 1, 2)
    millis, time = int(at.timestamp() * 1000), pa.timestamp("us", "UTC")
    maps = [{"a": at}, None, {}, {"b": None, "c": at}]
    found = bound(
        [m and list(m.items()) for m in maps], pa.map_(pa.string(), time), "map<text, timestamp>"
    )
    expected = [[("a", millis)], None, [], [("b", None), ("c", millis)]]
    assert [m if m is None else list(m.items()) for m in found] == expected[part]
    lists = [[[day], None], [], None, [[], [day, day]]]
    found = bound(lists, pa.list_(pa.list_(pa.date32())), "list<frozen<set<date>>>")
    one = 2**31 + 1
    assert found == [[[one], None], [], None, [[], [one, one]]][part]
    udts = [{"city": "Fes", "at": day}, {"city": None, "at": None}, None, {"city": "", "at": None}]
    found = bound(udts, pa.struct([("city", pa.string()), ("at", pa.date32())]), "frozen<place>")
    assert found == [("Fes", one), (None, None), None, ("", None)][part]
    spans = [{"months": 1, "days": -2, "nanoseconds": 3}, None, None, None]
    kind = pa.struct([("months", pa.int32()), ("days", pa.int32()), ("nanoseconds", pa.int64())])
    assert bound(spans, kind, "duration") == [Duration(1, -2, 3), None, None, None][part]
