"""System 5 whole: producer, topic, driver, lake and Cassandra, close, and the analysis of both."""

from __future__ import annotations

import json
import logging
import signal
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
from airflow.sdk.exceptions import AirflowFailException
from cassandra.cluster import Session
from closes import Stream, close_session
from declared import declared, own_names
from drivers import QUICK_JAVA, Drivers, RunningDriver, landed, manifests, send, wait_for
from keeping import connect_as_airflow
from pyspark.sql import SparkSession
from sinks import check_sink, folder_of
from topics import InThread, read_topic

from streamkeeper import names
from streamkeeper.analysis import Analysis
from streamkeeper.errors import StreamkeeperError, TableDiffers
from streamkeeper.hours import HOUR
from streamkeeper.launches import EXIT_DRAINED
from streamkeeper.names import format_hour, hour_of
from streamkeeper.settings import Settings
from streamkeeper.spec.models import Spec
from streamkeeper.spec.sinks import CassandraSink
from streamkeeper_airflow.dag_factory import build_dags
from streamkeeper_apps.local.stack import LocalStack
from streamkeeper_io import cassandra
from streamkeeper_io.store import Store
from streamkeeper_spark.analysis import TableAnalysis, read_key
from streamkeeper_spark.sinks.cassandra import CassandraRaw

IOT = Path(__file__).parents[2] / "include" / "streams" / "iot.yaml"
PER_HOUR = 10 * 120  # ten sensors, a message each 30 s


@dataclass(frozen=True)
class Reading:
    """A record as it stands in the topic, in single precision as it lands."""

    sensor_id: int
    timestamp: datetime
    temperature: float
    humidity: float

    @classmethod
    def of(cls, message: bytes) -> Reading:
        """Read a message without Spark."""
        found = json.loads(message)
        at = datetime.fromisoformat(found["timestamp"])
        singles = (float(np.float32(found[name])) for name in ("temperature", "humidity"))
        return cls(found["sensor_id"], at, *singles)

    def message(self) -> bytes:
        """The reading as a message."""
        return json.dumps(vars(self) | {"timestamp": self.timestamp.isoformat()}).encode()

    @property
    def key(self) -> tuple[int, datetime]:
        """The table's key: Cassandra keeps milliseconds."""
        return self.sensor_id, cut(self.timestamp)


def cut(at: datetime) -> datetime:
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


@dataclass
class System:
    """All parts of the system under test."""

    drivers: Drivers
    settings: Settings
    store: Store
    stack: LocalStack
    spec: Spec
    folder: Path
    spark: SparkSession | None = None

    @property
    def sink(self) -> CassandraSink:
        """The declared sink."""
        (found,) = self.spec.raw_tables().values()
        return found

    def analysis(self, *key: str) -> TableAnalysis:
        """Return an analysis of a key, or of all."""
        assert self.spark is not None
        read = read_key(self.spec, self.sink, key)
        return TableAnalysis(self.spark, self.settings, self.spec, self.sink, self.store, read)


@pytest.fixture
def system(
    drivers: Drivers, stack: LocalStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> System:
    """The system under names of its own, a message each 30 s."""
    given = own_names(IOT)
    given["producer"]["simulator"]["every"] = "30s"
    state = drivers.settings.model_copy(update={"state": tmp_path / "state"})
    spec, here = declared(given, state, tmp_path)
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    return System(drivers, here, drivers.store, stack, spec, tmp_path)


def table_of(node: Session, sink: CassandraSink) -> dict[tuple[int, datetime], tuple[Any, ...]]:
    """Return the sink's table: (sensor, time) -> values and write timestamp."""
    rows = node.execute(
        "SELECT sensor_id, timestamp, temperature, humidity, writetime(temperature) "
        f"FROM {sink.keyspace}.{sink.table}"
    )
    return {(row[0], row[1].replace(tzinfo=UTC)): tuple(row[2:]) for row in rows}


def statistics(readings: list[Reading]) -> dict[int, tuple[float, ...]]:
    """Return what `by_sensor` must be, computed from the very records that were sent."""
    by_sensor = defaultdict(list)
    for one in readings:
        by_sensor[one.sensor_id].append(one)
    return {
        sensor: (
            fmean(r.temperature for r in group),
            max(r.temperature for r in group),
            min(r.temperature for r in group),
            fmean(r.humidity for r in group),
            len(group),
        )
        for sensor, group in by_sensor.items()
    }


def rows_of(found: Analysis, kpi: str, hour: datetime) -> list[tuple[Any, ...]]:
    (one,) = [k for k in found.kpis if (k.kpi, k.hour) == (kpi, hour)]
    assert not one.skipped
    return list(one.rows)


def test_system_iot(
    system: System,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    # The session of close and analysis starts while the driver does.
    driver = system.drivers.start([system.spec])
    with close_session(system.settings) as system.spark:
        readings = produce_and_land(system, driver)
        with cassandra.session(system.settings) as node:
            check_table(system, node, readings, driver.launch.epoch)
            check_existing_tables(system, node)
        first = hour_of(min(one.timestamp for one in readings))
        hours = [first, first + HOUR]
        stream = Stream(system.spark, system.settings, system.store, system.spec, system.folder)
        stream.look(*hours)
        assert [r.state for r in stream.close(*hours)] == ["complete", "complete"]
        check_analysis(system, readings, first)
    with caplog.at_level(logging.INFO, logger="airflow"):
        said = lambda: capsys.readouterr().out + caplog.text  # noqa: E731
        check_dag(system, hours[1], monkeypatch, said)


def produce_and_land(system: System, driver: RunningDriver) -> list[Reading]:
    """Run the producer until all is in the table; return the valid readings that were sent."""
    settings, spec = system.settings, system.spec
    topic = spec.source.kafka.topic
    arguments = ["simulate", spec.name, "--hours-back", "2", "--limit", str(PER_HOUR * 3 // 2)]
    producer = InThread(settings, arguments)
    assert producer.code() == 0, producer.said
    sent = [Reading.of(m.value) for m in read_topic(settings, topic)]
    assert len(sent) == PER_HOUR * 3 // 2
    wait_for(lambda: landed(settings, spec) == len(sent), "the simulated readings in the lake")
    # By hand: two readings of one key, of which the later one stays in the table while the lake
    # keeps both, and a bad message.
    at = hour_of(min(one.timestamp for one in sent)) + HOUR + timedelta(minutes=1)
    later = at + timedelta(microseconds=300)
    twice = [Reading(3, at, 21.5, 30.25), Reading(3, later, 22.5, 31.5)]
    send(settings, topic, [*(one.message() for one in twice), b'{"sensor_id": "3"}'])
    wait_for(lambda: landed(settings, spec) == len(sent) + 3, "all records in the lake")
    name = f"cassandra:{system.sink.keyspace}.{system.sink.table}"
    last = max(m.batch for m in manifests(settings, spec) if m.valid)
    wait_for(
        lambda: last <= max(system.store.mark(spec.name, name).values(), default=-1),
        "all batches in Cassandra",
    )
    driver.signal(signal.SIGTERM)
    assert driver.exit_code() == EXIT_DRAINED
    return sent + twice


def check_table(system: System, node: Session, readings: list[Reading], epoch: int) -> None:
    """The table: made as declared, valid rows only, one a key; batches again change nothing."""
    settings, spec, sink = system.settings, system.spec, system.sink
    kept = node.cluster.metadata.keyspaces[sink.keyspace].tables[sink.table]
    kinds = {column: found.cql_type for column, found in kept.columns.items()}
    order = [(c.name, c.is_reversed) for c in kept.clustering_key]
    assert kinds == {
        "sensor_id": "int", "timestamp": "timestamp", "temperature": "float", "humidity": "float",
    }  # fmt: skip
    assert ([c.name for c in kept.partition_key], order) == (["sensor_id"], [("timestamp", False)])
    table = table_of(node, sink)
    expected = {one.key: (one.temperature, one.humidity) for one in readings}
    assert len(expected) == len(readings) - 1
    assert {key: row[:2] for key, row in table.items()} == expected
    assert {row[2] // 10**9 for row in table.values()} == {epoch}
    raw = CassandraRaw(spec, sink, settings, settings.lake)
    check_sink(raw, spec, manifests(settings, spec), lambda: table_of(node, sink))


def check_existing_tables(system: System, node: Session) -> None:
    """A table that differs is not touched; what is told mends it."""
    settings, spec, sink = system.settings, system.spec, system.sink
    batch = next(m for m in manifests(settings, spec) if m.valid)

    def applied(name: str) -> int:
        other = sink.model_copy(update={"table": name})
        raw = CassandraRaw(spec, other, settings, settings.lake)
        try:
            return raw.apply(batch, folder_of(spec, batch))
        finally:
            raw.close()

    node.execute(
        f"CREATE TABLE {sink.keyspace}.older_{sink.table} (sensor_id int, timestamp timestamp, "
        "temperature float, note text, PRIMARY KEY (sensor_id, timestamp))"
    )
    with pytest.raises(TableDiffers, match="the column humidity is missing") as told:
        applied(f"older_{sink.table}")
    (row,) = node.execute(f"SELECT count(*) FROM {sink.keyspace}.older_{sink.table}")
    assert row.count == 0
    node.execute(str(told.value).partition("run: ")[2])
    assert applied(f"older_{sink.table}") == batch.valid
    node.execute(
        f"CREATE TABLE {sink.keyspace}.other_{sink.table} (sensor_id int, timestamp timestamp, "
        "temperature double, humidity float, PRIMARY KEY ((sensor_id, timestamp)))"
    )
    node.execute(
        f"INSERT INTO {sink.keyspace}.other_{sink.table} (sensor_id, timestamp) VALUES (1, 0)"
    )
    with pytest.raises(TableDiffers, match=r"its primary key is .* or run: DROP TABLE"):
        applied(f"other_{sink.table}")
    (row,) = node.execute(f"SELECT count(*) FROM {sink.keyspace}.other_{sink.table}")
    assert row.count == 1


def check_analysis(system: System, readings: list[Reading], hour: datetime) -> None:
    """The KPIs from Cassandra are those from the lake, and those of what was sent."""
    analysis = system.analysis()
    found = analysis.run([hour])
    of_hour = [one for one in readings if hour_of(one.timestamp) == hour]
    assert (found.rows, found.lake_rows) == (len(of_hour), PER_HOUR)
    assert found.differences == []
    computed = statistics(of_hour)
    by_sensor = rows_of(found, "by_sensor", hour)
    assert {row[0] for row in by_sensor} == set(computed) == set(range(1, 11))
    for sensor, *measures in by_sensor:
        assert measures == pytest.approx(computed[sensor], rel=1e-12), sensor
    assert [row[1] for row in by_sensor] == sorted((row[1] for row in by_sensor), reverse=True)
    ((count, sensors, *_),) = rows_of(found, "overall", hour)
    assert (count, sensors) == (PER_HOUR, 10)
    hottest = sorted((one.temperature for one in of_hour), reverse=True)[:5]
    assert [row[2] for row in rows_of(found, "hottest", hour)] == hottest
    # One sensor alone: its partition is read, nothing else.
    one = system.analysis("sensor_id=4")
    rows = one.table_rows([hour])
    assert rows.rdd.getNumPartitions() == 1
    assert rows.count() == computed[4][-1]
    with pytest.raises(StreamkeeperError, match=r"has not been closed; closed hours: .*close it"):
        one.run([hour + 2 * HOUR])
    with pytest.raises(StreamkeeperError, match="key columns: sensor_id, timestamp"):
        system.analysis("temperature=4")
    with pytest.raises(StreamkeeperError, match="'four' is not a value of sensor_id"):
        system.analysis("sensor_id=four")


def check_dag(
    system: System, hour: datetime, monkeypatch: pytest.MonkeyPatch, told: Callable[[], str]
) -> None:
    """The DAG's task, submitted by Airflow's own operator: the log, the file, the failure.

    The hour holds a key that came twice, so the table has one reading less than the lake.
    """
    connect_as_airflow(system.stack, system.settings, monkeypatch)
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", QUICK_JAVA)
    (dag,) = [
        dag
        for dag in build_dags(system.settings.streams)
        if dag.dag_id == names.analyse_dag_id(system.spec.name)
    ]
    task: Any = dag.get_task("analyse")
    params = {"hour": format_hour(hour), "key": "sensor_id=3", "table": dag.params["table"]}
    task.render_template_fields({"params": params})
    with pytest.raises(AirflowFailException, match="a person must decide"):
        task.execute({"params": params})
    (page,) = system.settings.state.glob("analysis/*/*.md")
    assert page.name == f"{format_hour(hour)}-sensor_id=3.md"
    said = told()
    assert str(page) in said
    for line in page.read_text().splitlines():
        assert line in said
    half = PER_HOUR // 20
    assert f"{half + 1} readings in Cassandra, {half + 2} in the lake" in said
    assert f"sensor_id 3: lectures is {half + 2} in the lake, {half + 1} in Cassandra" in said
