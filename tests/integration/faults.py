"""Load, kills at random moments, and what must hold after any crash or freeze."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import fmean
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from drivers import Drivers, RunningDriver, end_offsets, landed, manifests, send, wait_for
from readings import assert_nothing_lost_or_doubled, reading, temperature
from test_driver_landing import lake_rows

from streamkeeper import names
from streamkeeper.launches import EXIT_DRAINED
from streamkeeper.settings import Settings
from streamkeeper.spec.models import Spec
from streamkeeper.spec.sinks import CassandraSink, DeltaSink, PostgresSink
from streamkeeper_io import cassandra, processes
from streamkeeper_io.delta import delta_version, open_delta
from streamkeeper_io.lake import published_batches

WINDOW = "city_30s"
TableSink = CassandraSink | DeltaSink | PostgresSink


def sent_to(settings: Settings, spec: Spec) -> int:
    """Return how many messages the topic holds."""
    return sum(end_offsets(settings, spec).values())


@contextmanager
def load(settings: Settings, spec: Spec) -> Iterator[list[int]]:
    """Send about 500 readings a second meanwhile; gives a list whose sum is what was sent."""
    stop, sent = threading.Event(), [0]

    def produce() -> None:
        while not stop.wait(0.2):
            send(settings, spec.source.kafka.topic, [reading(n) for n in range(100)])
            sent[0] += 100

    thread = threading.Thread(target=produce)
    thread.start()
    try:
        yield sent
    finally:
        stop.set()
        thread.join()


@dataclass(frozen=True)
class Kill:
    """One kill: seconds after the launch, and the batches that the launch had published."""

    epoch: int
    seconds: float
    batches: int


def kill_at_random(
    drivers: Drivers, settings: Settings, spec: Spec, kills: int, seed: int
) -> list[Kill]:
    """Launch and kill a driver so many times: a quarter while starting, the others at work."""
    draw, done = random.Random(seed), []
    for _ in range(kills):
        before, began = _published(settings, spec), time.monotonic()
        driver = drivers.start([spec])
        starting = draw.random() < 0.25
        if not starting:
            wait_for(lambda d=driver, b=before: _works(d, settings, spec, b), "a batch of it")
        time.sleep(draw.uniform(0, 12 if starting else 4))
        driver.kill()
        batches = _published(settings, spec) - before
        done.append(Kill(driver.launch.epoch, round(time.monotonic() - began, 1), batches))
    return done


def _works(driver: RunningDriver, settings: Settings, spec: Spec, before: int) -> bool:
    code = processes.exit_code(driver.folder)
    assert code is None, f"the driver ended with code {code}; its log:\n{driver.log[-4000:]}"
    return _published(settings, spec) > before


def _published(settings: Settings, spec: Spec) -> int:
    return len(published_batches(settings.lake, names.raw_path(spec)))


def drain_when_all_is_done(
    driver: RunningDriver, drivers: Drivers, settings: Settings, spec: Spec
) -> None:
    """Wait until a driver has landed and windowed all that was sent, and let it drain."""
    wait_for(lambda: landed(settings, spec) >= sent_to(settings, spec), "all that was sent")

    def window_batches_cover_all() -> bool:
        spans = [m.span for m in manifests(settings, spec, WINDOW)]
        return sum(e - s for span in spans for s, e in span.values()) == sent_to(settings, spec)

    if spec.windows:
        wait_for(window_batches_cover_all, "the windows of all that was sent")
    wait_for(lambda: not behind(drivers, settings, spec), "the marks of all sinks")
    drivers.store.request_stop(driver.launch.epoch, "the test")
    assert driver.exit_code() == EXIT_DRAINED


def all_sinks(settings: Settings, *, consoles: bool = True) -> Spec:
    """Return a stream with its window in Cassandra and its landed rows in a table of each kind."""
    spec = temperature(settings).dump()
    if not consoles:
        spec["sinks"] = [sink for sink in spec["sinks"] if sink["kind"] != "console"]
    table = f"raw_{spec['name']}"
    keys = {"partition_by": ["sensor_id"], "cluster_by": ["timestamp"]}
    spec["sinks"] += [
        {"kind": "cassandra", "of": "raw", "keyspace": "iot", "table": table, **keys},
        {"kind": "delta", "of": "raw", "path": f"/tables/{table}", "partition_by": ["city"]},
        {"kind": "postgresql", "of": "raw", "table": table},
    ]
    return Spec.model_validate(spec)


def tables_of(spec: Spec) -> dict[str, TableSink]:
    """Return a stream's sinks that keep tables, by their names in the store."""
    found: dict[str, TableSink] = {}
    for sink in spec.sinks:
        if isinstance(sink, CassandraSink):
            found[f"cassandra:{sink.keyspace}.{sink.table}"] = sink
        elif isinstance(sink, DeltaSink):
            found[f"delta:{sink.path}"] = sink
        elif isinstance(sink, PostgresSink):
            found[f"postgresql:{sink.connection}/{'.'.join(sink.place)}"] = sink
    return found


def last_marks(settings: Settings, spec: Spec) -> dict[str, dict[str, int]]:
    """Return the mark of each sink once it has applied all that is published."""
    last: dict[str, dict[str, int]] = {}
    for name, sink in tables_of(spec).items():
        found = manifests(settings, spec, "" if sink.of == "raw" else sink.of)
        newest = max(found, key=lambda m: m.batch, default=None)
        last[name] = {newest.generation: newest.batch} if newest else {}
    return last


def behind(drivers: Drivers, settings: Settings, spec: Spec) -> list[str]:
    """Return the sinks that have not applied all that is published."""
    last = last_marks(settings, spec).items()
    return [name for name, mark in last if drivers.store.mark(spec.name, name) != mark]


def read_table(settings: Settings, sink: CassandraSink, columns: str = "*") -> list[Any]:
    """Return the rows of a Cassandra sink's table."""
    with cassandra.session(settings) as session:
        return list(session.execute(f"select {columns} from {sink.keyspace}.{sink.table}"))


def delta_table(settings: Settings, sink: DeltaSink) -> DeltaTable:
    """Return a Delta sink's table."""
    table = open_delta(settings.lake, sink.path)
    assert table is not None
    return table


def ask_postgres(settings: Settings, sink: PostgresSink, question: str) -> list[Any]:
    """Return the answer of a PostgreSQL sink's database."""
    url = settings.postgres_url(sink.connection).replace("+psycopg", "")
    with psycopg.connect(url) as connection:
        return connection.execute(question).fetchall()


def assert_stores_equal_lake(drivers: Drivers, settings: Settings, spec: Spec) -> None:
    """Hold the lake against the topic, all tables against the lake, the marks against both."""
    assert_nothing_lost_or_doubled(settings, spec)
    rows, last = lake_rows(settings, spec), last_marks(settings, spec)
    for name, sink in tables_of(spec).items():
        if not isinstance(sink, CassandraSink):
            assert_table_of_coordinates_equals(settings, spec, sink, rows)
            assert own_mark(settings, spec, sink, last[name]) == last[name]
        elif sink.of == "raw":
            assert_raw_table_equals(settings, spec, sink, rows)
        else:
            assert_window_table_equals(settings, sink, rows)
        assert drivers.store.mark(spec.name, name) == last[name]


def own_mark(
    settings: Settings, spec: Spec, sink: DeltaSink | PostgresSink, generations: Mapping[str, int]
) -> dict[str, int]:
    """Return the mark that a sink keeps beside its rows."""
    if isinstance(sink, PostgresSink):
        of = f"stream = '{spec.name}' AND table_name = '{sink.place[1]}'"
        question = f"SELECT generation, batch FROM streamkeeper_marks WHERE {of}"
        return dict(ask_postgres(settings, sink, question))
    table = delta_table(settings, sink)
    return {g: delta_version(table, names.delta_app_id(spec.name, g)) for g in generations}


def rows_by_coordinates(
    settings: Settings, spec: Spec, sink: DeltaSink | PostgresSink
) -> Counter[tuple[Any, ...]]:
    """Return how often each row is in a table: coordinates, values and write number."""
    columns = _of_coordinates(spec)
    if isinstance(sink, PostgresSink):
        chosen = ", ".join(f'"{name}"' for name in columns)
        return Counter(ask_postgres(settings, sink, f"SELECT {chosen} FROM {sink.table}"))
    found = pa.table(delta_table(settings, sink).to_pyarrow_table())
    return Counter(zip(*(found[name].to_pylist() for name in columns), strict=True))


def _of_coordinates(spec: Spec) -> Sequence[str]:
    return (*names.COORDINATES, *spec.columns(), names.WRITE_NUMBER)


def assert_table_of_coordinates_equals(
    settings: Settings, spec: Spec, sink: DeltaSink | PostgresSink, rows: list[dict[str, Any]]
) -> None:
    """Hold a table that has a row a message against the lake's valid rows."""
    numbers = {m.batch: m.write_number for m in manifests(settings, spec)}
    expected: Counter[tuple[Any, ...]] = Counter()
    for row in rows:
        if row["_errors"] is None:
            whole = row | {names.WRITE_NUMBER: numbers[row["_batch"]]}
            expected[tuple(whole[name] for name in _of_coordinates(spec))] += 1
    found = rows_by_coordinates(settings, spec, sink)
    assert (expected - found, found - expected) == (Counter(), Counter()), sink


def windows_of(rows: list[dict[str, Any]]) -> dict[tuple[str, datetime], list[dict[str, Any]]]:
    """Group valid rows by city and 30 s, independently of Spark."""
    groups = defaultdict(list)
    for row in rows:
        if row["_errors"] is None:
            at = row["_event_time"]
            start = at.replace(microsecond=0) - timedelta(seconds=at.second % 30)
            groups[row["city"], start].append(row)
    return groups


def assert_window_table_equals(
    settings: Settings, sink: CassandraSink, rows: list[dict[str, Any]]
) -> None:
    """Hold a window's table against an independent computation from the lake's rows."""
    found = read_table(settings, sink)
    table = {(row.city, row.window_start.replace(tzinfo=UTC)): row for row in found}
    expected = windows_of(rows)
    assert set(table) == set(expected)
    for key, group in expected.items():
        row, temperatures = table[key], [r["temperature"] for r in group]
        assert row.num_readings == len(group), key
        assert row.avg_temp == pytest.approx(fmean(temperatures))
        assert (row.min_temp, row.max_temp) == (min(temperatures), max(temperatures))
        assert row.avg_humidity == pytest.approx(fmean(r["humidity"] for r in group))
        assert row.window_end - row.window_start == timedelta(seconds=30)


def assert_raw_table_equals(
    settings: Settings, spec: Spec, sink: CassandraSink, rows: list[dict[str, Any]]
) -> None:
    """Hold the table of landed rows against the lake: of one key's rows, that of the last batch."""
    numbers = {m.batch: m.write_number for m in manifests(settings, spec)}
    expected: dict[tuple[str, datetime], tuple[Any, ...]] = {}
    for row in rows:
        if row["_errors"] is not None:
            continue
        at = row["timestamp"]
        key = row["sensor_id"], at.replace(microsecond=at.microsecond // 1000 * 1000)
        order = numbers[row["_batch"]], row["_partition"], row["_offset"]
        values = row["city"], row["temperature"], row["humidity"]
        expected[key] = max(expected.get(key, ((-1,), ())), (order, values), key=lambda v: v[0])
    table = {
        (row.sensor_id, row.timestamp.replace(tzinfo=UTC)): (
            row.city,
            row.temperature,
            row.humidity,
        )
        for row in read_table(settings, sink, "sensor_id, timestamp, city, temperature, humidity")
    }
    assert table == {key: values for key, (_, values) in expected.items()}
