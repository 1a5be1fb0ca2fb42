"""Every sink of tables on its real server: the one suite of `sinks`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psycopg
import pyarrow as pa
import pytest
from drivers import wait_for
from fixtures import CHECKOUT
from psycopg.rows import dict_row
from sink_batches import AT, FIELDS, GENERATION, LAKE, Row, publish, row, typed_spec
from sinks import (
    Kept,
    check_away,
    check_empty,
    check_killed,
    check_late_write,
    check_older_fields,
    check_values,
    folder_of,
)
from sqlalchemy import make_url

from streamkeeper.connections.postgres import postgres_urls
from streamkeeper.errors import LakeUnavailable, PostgresUnavailable, TableDiffers
from streamkeeper.manifest import Manifest
from streamkeeper.settings import Settings
from streamkeeper.spec.models import Spec
from streamkeeper.spec.sinks import CassandraSink, DeltaSink, PostgresSink
from streamkeeper_apps.local.postgres import SINKS_DATABASE
from streamkeeper_apps.local.stack import LocalStack
from streamkeeper_io import cassandra
from streamkeeper_io.delta import DeltaMark, DeltaShape, DeltaWriter, Plan, open_delta
from streamkeeper_io.postgres import Rank
from streamkeeper_io.postgres_tables import literal
from streamkeeper_spark.sinks.cassandra import CassandraRaw
from streamkeeper_spark.sinks.delta import DeltaRaw
from streamkeeper_spark.sinks.postgres import PostgresRaw, PostgresWindows, postgres_sink


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """A server of its own, for the run's one holds the store and is needed by others."""
    root = tmp_path_factory.mktemp("postgres")
    servers = LocalStack(root, ("postgres",), jars=root)
    try:
        servers.up()
        yield servers
    finally:
        servers.down()


@pytest.fixture(scope="module")
def address(postgres: LocalStack) -> str:
    """The address of the database for sinks."""
    return postgres.postgres.url(SINKS_DATABASE)


def query(address: str, statement: str, *values: Any) -> list[dict[str, Any]]:
    """Return the rows of a statement."""
    url = address.replace("+psycopg", "")
    with psycopg.connect(url, row_factory=dict_row, autocommit=True) as connection:
        connection.execute("SET timezone = 'UTC'")
        found = connection.execute(statement, values)
        return found.fetchall() if found.description else []


def by_key(found: Sequence[dict[str, Any]]) -> dict[str, Row]:
    """Return the fields of rows by `k`; drivers give a float with the digits that tell it."""
    rows = {row["k"]: {name: row[name] for name in FIELDS} for row in found}
    for one in rows.values():
        one["single"] = None if one["single"] is None else float(np.float32(one["single"]))
    return rows


def kept_in_postgres(folder: Path, servers: LocalStack, address: str) -> Kept:
    """Return a PostgreSQL sink of declared keys."""
    declared = {"kind": "postgresql", "of": "raw", "table": "suite.typed", "key": ["k", "at"]}
    spec = typed_spec(folder, declared)
    (sink,) = spec.sinks
    assert isinstance(sink, PostgresSink)
    return Kept(
        spec,
        PostgresRaw(spec, sink, address, LAKE),
        lambda: by_key(query(address, "SELECT * FROM suite.typed")),
        stop=lambda: servers.kill("postgres"),
        start=lambda: servers.start("postgres"),
        atomic=True,
    )


def kept_in_cassandra(folder: Path, stack: LocalStack, settings: Settings) -> Kept:
    """Return a Cassandra sink of declared keys."""
    keys = {"partition_by": ["k"], "cluster_by": ["at"]}
    spec = typed_spec(
        folder, {"kind": "cassandra", "of": "raw", "keyspace": "suite", "table": "typed", **keys}
    )
    (sink,) = spec.sinks
    assert isinstance(sink, CassandraSink)

    def rows() -> dict[str, Row]:
        with cassandra.session(settings.cassandra) as session:
            found = [dict(r._asdict()) for r in session.execute("SELECT * FROM suite.typed")]
        for one in found:
            one["at"] = _aware(one["at"])
        return by_key(found)

    return Kept(
        spec,
        CassandraRaw(spec, sink, settings, LAKE),
        rows,
        stop=lambda: stack.kill("cassandra"),
        start=lambda: stack.start("cassandra"),
    )


def start_again(servers: LocalStack, lake: str) -> None:
    """Start HDFS and wait until it has found its blocks."""

    def answers() -> bool:
        try:
            return open_delta(lake, "/suite/typed") is not None
        except LakeUnavailable:
            return False

    servers.start("namenode")
    wait_for(answers, "HDFS to have left its safe mode", 120)


def kept_in_delta(folder: Path, servers: LocalStack, lake: str) -> Kept:
    """Return a Delta sink; of several rows of a key its users look at the newest."""
    given = {"kind": "delta", "of": "raw", "path": "/suite/typed", "partition_by": ["k", "yes"]}
    spec = typed_spec(folder, given)
    (sink,) = spec.sinks
    assert isinstance(sink, DeltaSink)

    def rows() -> dict[str, Row]:
        table = open_delta(lake, "/suite/typed")
        found = [] if table is None else pa.table(table.to_pyarrow_table()).to_pylist()
        coordinates = [(row["_topic_id"], row["_partition"], row["_offset"]) for row in found]
        assert len(set(coordinates)) == len(found), "a row stands there twice"
        return by_key(sorted(found, key=lambda row: row["_offset"]))

    return Kept(
        spec,
        DeltaRaw(spec, sink, lake, LAKE),
        rows,
        stop=lambda: servers.kill("namenode"),
        start=lambda: start_again(servers, lake),
        atomic=True,
        keyed=False,
        in_order=True,
    )


def _aware(at: datetime) -> datetime:
    """Return a time as Cassandra keeps it; its driver computes with floats, which tell µs badly."""
    near = at.replace(tzinfo=UTC) + timedelta(microseconds=500)
    return near.replace(microsecond=near.microsecond // 1000 * 1000)


def stopping(kept: Kept, folder: Path, where: str) -> Callable[[Manifest, Path], list[str]]:
    """Return what makes the command of a writer that stops before it commits."""

    def command(manifest: Manifest, told: Path) -> list[str]:
        (folder / "spec.json").write_text(json.dumps(kept.spec.dump()))
        (folder / "manifest.json").write_text(manifest.model_dump_json())
        script = Path(__file__).with_name("sink_that_stops.py")
        files = [str(folder / "spec.json"), str(folder / "manifest.json")]
        return [sys.executable, str(script), *files, where, str(told)]

    return command


def run_suite(kept: Kept, folder: Path, where: str) -> None:
    """Hold a sink against the whole suite."""
    check_values(kept)
    check_empty(kept)
    check_late_write(kept)
    check_older_fields(kept)
    check_killed(kept, stopping(kept, folder, where), folder / "told")
    check_away(kept)
    kept.sink.close()


def test_postgres_passes_the_suite(postgres: LocalStack, address: str, tmp_path: Path) -> None:
    run_suite(kept_in_postgres(tmp_path / "lake", postgres, address), tmp_path, address)


def test_cassandra_passes_the_suite(stack: LocalStack, settings: Settings, tmp_path: Path) -> None:
    run_suite(kept_in_cassandra(tmp_path / "lake", stack, settings), tmp_path, settings.cassandra)


@pytest.fixture(scope="module")
def hdfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """An HDFS of its own, for it is stopped."""
    root = tmp_path_factory.mktemp("hdfs")
    servers = LocalStack(root, ("namenode", "datanode"), jars=CHECKOUT / ".local" / "jars")
    try:
        servers.up()
        yield servers
    finally:
        servers.down()


def test_delta_passes_the_suite(hdfs: LocalStack, tmp_path: Path) -> None:
    lake = hdfs.settings().need("lake")
    run_suite(kept_in_delta(tmp_path / "lake", hdfs, lake), tmp_path, lake)


def test_two_writers_never_make_one_version_on_hdfs(hdfs: LocalStack) -> None:
    lake, path = hdfs.settings().need("lake"), "/suite/contended"
    shape = DeltaShape(pa.schema([("writer", pa.int64())]))
    writers = [DeltaWriter(lake, path, shape) for _ in range(4)]
    writers[0].table()

    def write(n: int) -> list[bool]:
        """Each has changes of its own, and one that all of them have."""
        rows = pa.table({"writer": [n]})
        plan = lambda _: Plan([rows])  # noqa: E731
        return [writers[n].write(DeltaMark(app, 0), plan) for app in (f"own {n}", "shared")]

    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(write, range(4)))
    assert [own for own, _ in told] == [True] * 4
    assert sum(shared for _, shared in told) == 1
    table = open_delta(lake, path)
    assert table is not None
    assert table.version() == 5
    assert pa.table(table.to_pyarrow_table()).num_rows == 5


def declared(folder: Path, table: str, **keys: Any) -> tuple[Spec, PostgresSink]:
    """Return a stream with one PostgreSQL sink, of landed rows unless `of` is given."""
    sink = {"kind": "postgresql", "of": "raw", "table": table} | keys
    window = {"name": "w", "size": "30s", "watermark": "1min", "by": ["text"],
              "measures": {"n": "count(*)"}}  # fmt: skip
    spec = typed_spec(folder, sink, windows=[window])
    (found,) = spec.sinks
    assert isinstance(found, PostgresSink)
    return spec, found


def windows(*values: tuple[str | None, int]) -> pa.Table:
    """Return window rows of one start: text and count."""
    end = AT + timedelta(seconds=30)
    made = [{"text": k, "window_start": AT, "window_end": end, "n": n} for k, n in values]
    time = pa.timestamp("us", "UTC")
    kinds = [("text", pa.string()), ("window_start", time), ("window_end", time)]
    return pa.Table.from_pylist(made, pa.schema([*kinds, ("n", pa.int64())]))


def test_a_closed_window_changes_only_by_a_close(address: str, tmp_path: Path) -> None:
    spec, sink = declared(tmp_path, "ranks", of="w")
    table = PostgresWindows(spec, sink, address, LAKE)
    writer = table._open()

    def rows() -> dict[str | None, tuple[int, bool]]:
        return {r["text"]: (r["n"], r["_closed"]) for r in query(address, "SELECT * FROM ranks")}

    # A key may be null, and two of them are one.
    writer.write([windows(("a", 1), (None, 1), ("gone", 1))], Rank(False, 10**12))
    writer.write([windows(("a", 2), (None, 2))], Rank(False, 10**12 + 1))
    assert rows() == {"a": (2, False), None: (2, False), "gone": (1, False)}
    assert table.write([windows(("a", 3), (None, 3))], 100) == 2
    assert table.remove(windows(("gone", 1)), 100) == 1
    closed = {"a": (3, True), None: (3, True)}
    assert rows() == closed
    # A sink that was behind applies its batches later: nothing of that comes back.
    writer.write([windows(("a", 9), (None, 9), ("gone", 9))], Rank(False, 10**13))
    assert rows() == closed
    # An older close neither, a newer one does.
    table.write([windows(("a", 8), ("gone", 8))], 99)
    assert table.remove(windows(("a", 8)), 99) == 0
    assert rows() == closed
    table.write([windows(("a", 4), ("gone", 4))], 101)
    assert rows() == closed | {"a": (4, True), "gone": (4, True)}
    table.close()


def test_the_mark_lies_beside_the_rows(address: str, tmp_path: Path) -> None:
    spec, sink = declared(tmp_path, "marked")
    batches = [publish(spec, [row(str(n))], batch=n) for n in range(3)]
    writer = postgres_sink(spec, sink, address, LAKE)
    assert isinstance(writer, PostgresRaw)
    assert writer.mark() == {}
    for manifest in (batches[0], batches[1], batches[0]):
        writer.apply(manifest, folder_of(spec, manifest))
    assert writer.mark() == {GENERATION: 1}
    found = query(address, "SELECT * FROM marked ORDER BY _offset")
    assert [(r["_topic_id"], r["_partition"], r["_offset"], r["k"]) for r in found] == [
        ("typed-id", 0, 0, "0"),
        ("typed-id", 0, 1000, "1"),
    ]
    # A table that is made anew has no mark: all batches are applied again.
    writer.close()
    query(address, "DROP TABLE marked")
    assert writer.mark() == {}
    assert query(address, "SELECT * FROM marked") == []
    writer.close()


def test_a_table_that_differs_is_told_and_left_as_it_is(address: str, tmp_path: Path) -> None:
    query(
        address, "CREATE TABLE other (k varchar NOT NULL, at date, whole text, more int NOT NULL)"
    )
    spec, sink = declared(tmp_path, "other", key=["k"], columns=["k", "whole", "price"])
    before = query(address, "SELECT * FROM pg_attribute WHERE attrelid = 'other'::regclass")
    writer = postgres_sink(spec, sink, address, LAKE)
    manifest = publish(spec, [row("a", whole=1)], batch=0)
    with pytest.raises(TableDiffers) as raised:
        writer.apply(manifest, folder_of(spec, manifest))
    told = str(raised.value)
    after = query(address, "SELECT * FROM pg_attribute WHERE attrelid = 'other'::regclass")
    assert after == before
    assert "the column whole is text, declared is bigint" in told
    assert "the column price is missing" in told
    # What it says to run mends it.
    for part in told.split("run: ")[1:]:
        query(address, part.split(";")[0])
    assert writer.apply(manifest, folder_of(spec, manifest)) == 1
    writer.close()
    query(address, "CREATE VIEW seen AS SELECT 1 AS k")
    spec, sink = declared(tmp_path / "2", "seen")
    with pytest.raises(TableDiffers, match="no table"):
        PostgresRaw(spec, sink, address, LAKE).mark()


def test_what_postgres_refuses_is_left_out_and_told(
    address: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec, sink = declared(tmp_path, "refused", key=["k"], indexes=[["text"]])
    rows = [row("nul", text="a\x00b"), row("k" * 2501), row("long", text="t" * 2501)]
    rows += [row("right", text="t" * 2000), row("k" * 2500)]
    manifest = publish(spec, rows, batch=0)
    writer = PostgresRaw(spec, sink, address, LAKE)
    assert writer.apply(manifest, folder_of(spec, manifest)) == 2
    assert writer.left_out == 3
    assert "U+0000" in caplog.text
    assert {r["k"] for r in query(address, "SELECT k FROM refused")} == {"right", "k" * 2500}
    writer.close()


def test_waits_are_bounded_and_names_are_quoted(address: str, tmp_path: Path) -> None:
    spec, _ = declared(tmp_path, "waits")
    plain = spec.dump()
    for name in ("order", "User", "n" * 63):
        plain["fields"][name] = {"type": "integer"}
    plain["sinks"][0]["table"] = "select"
    plain["sinks"][0]["indexes"] = [["order", "User", "n" * 63]]
    spec = Spec.model_validate(plain)
    (sink,) = spec.sinks
    assert isinstance(sink, PostgresSink)
    writer = PostgresRaw(spec, sink, address, LAKE)
    manifest = publish(spec, [row("a")], batch=0)
    # A batch that landed before the declaration had these fields has nulls in them.
    assert writer.apply(manifest, folder_of(spec, manifest)) == 1
    assert query(address, 'SELECT "order", "User" FROM "select"') == [{"order": None, "User": None}]
    url = address.replace("+psycopg", "")
    with psycopg.connect(url) as other:
        other.execute('LOCK TABLE "select" IN ACCESS EXCLUSIVE MODE')
        with pytest.raises(PostgresUnavailable, match="lock timeout"):
            writer.apply(manifest, folder_of(spec, manifest))
    assert writer.apply(manifest, folder_of(spec, manifest)) == 1
    writer.close()


def test_a_password_may_hold_any_character(address: str, tmp_path: Path) -> None:
    password = "a b+c@d/e?f#g%h:i'j"
    query(
        address,
        f"CREATE ROLE spaced LOGIN SUPERUSER PASSWORD {literal(password)}".replace("%", "%%"),
    )
    spec, sink = declared(tmp_path, "spaced")
    url = make_url(address).set(username="spaced", password=password)
    written = url.render_as_string(hide_password=False)
    assert postgres_urls({"postgres_default": written}) == {"postgres_default": written}
    raw = PostgresRaw(spec, sink, written, LAKE)
    assert raw.mark() == {}
    raw.close()


def test_a_refused_account_is_told_without_its_password(address: str, tmp_path: Path) -> None:
    spec, sink = declared(tmp_path, "account")
    parts = urlsplit(address)
    wrong = address.replace(str(parts.password), "marked-secret")
    with pytest.raises(
        PostgresUnavailable, match="refuses the connection postgres_default"
    ) as told:
        PostgresRaw(spec, sink, wrong, LAKE).mark()
    assert "marked-secret" not in str(told.value)
