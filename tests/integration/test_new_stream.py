"""A stream that nobody has seen before: one YAML file and no Python, and everything follows."""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pyarrow as pa
import pytest
from closes import Stream
from drivers import manifests
from psycopg.rows import dict_row
from pyspark.sql import SparkSession
from streamlit.testing.v1 import AppTest
from topics import InThread, read_topic

from streamkeeper.hours import HOUR
from streamkeeper.names import closed_file, format_hour, hour_of, kpi_zone, period_file
from streamkeeper.periods import Period
from streamkeeper.settings import Settings
from streamkeeper.spec.loader import load_spec
from streamkeeper_airflow.dag_factory import build_dags
from streamkeeper_apps.cli import main
from streamkeeper_apps.dashboard import commands
from streamkeeper_io import cassandra, kafka
from streamkeeper_io.closed import read_closed
from streamkeeper_io.delta import open_delta
from streamkeeper_io.period_files import read_period_rows
from streamkeeper_io.reports import build_report
from streamkeeper_io.store import Store
from streamkeeper_spark.files import LakeFiles
from streamkeeper_spark.periods import PeriodAnalysis

PAGE = Path(commands.__file__).with_name("app.py")
CABINS, PER_HOUR, HOURS_BACK = 8, 60, 5
DECLARATION = """
description: Cabins of a ropeway, a reading a minute from each.
source:
  kafka: {topic: NAME, partitions: 2}
fields:
  cabin: {type: string, required: true}
  line: {type: string, required: true, allowed: [valley, summit]}
  load_kg: {type: double, range: [0, 2000], unit: kg}
  speed: {type: double, path: drive.speed, sent_unit: km/h, unit: m/s}
  at: {type: timestamp, required: true}
derived:
  full: load_kg > 1800
checks:
  - {name: moving, expect: speed > 0, on_fail: warn}
event_time: {field: at}
lake: {path: /NAME, every: 2s}
producer:
  simulator:
    entities: 8
    every: 1min
    key: cabin
    hours_back: 5
    fields:
      cabin: {entity: "cabin_{:02d}"}
      line: {assigned: [valley, summit]}
      load_kg: {uniform: [0, 2000], digits: 1}
      speed: {uniform: [10, 30], digits: 1}
      at: {event_time: true}
windows:
  - name: by_line
    size: 10min
    watermark: 1min
    every: 2s
    by: [line]
    measures: {mean_load: avg(load_kg), readings: count(*)}
sinks:
  - {kind: postgresql, of: raw, table: NAME.readings, key: [cabin, at]}
  - {kind: postgresql, of: by_line, table: NAME.by_line}
  - kind: cassandra
    of: raw
    keyspace: NAME
    table: readings
    partition_by: [cabin]
    cluster_by: [at]
  - {kind: cassandra, of: by_line, keyspace: NAME, table: by_line}
  - {kind: delta, path: /NAME_tables/readings, partition_by: [line]}
  - {kind: delta, of: hourly, path: /NAME_tables/hourly}
  - {kind: delta, of: odd, path: /NAME_tables/odd}
  - {kind: metrics, counts: [line]}
kpis:
  - name: hourly
    by: [cabin, line]
    measures:
      mean_load: avg(load_kg)
      fastest: max(speed)
      full: count_if(full)
      readings: count(*)
    order_by: mean_load
    csv: true
    periods: [day, all]
anomalies:
  - {name: odd, of: hourly.mean_load, by: [line], least: 3, above: 2}
alerts:
  - {name: heavy, field: load_kg, above: 1900}
  - {name: lonely, kpi: hourly.readings, below: 100}
report: {title: The ropeway, to: [operations@localhost], chart: hourly.mean_load}
"""
HOURLY = """
    select cabin, line, avg(load_kg) as mean_load, max(speed) as fastest,
        count(*) filter (load_kg > 1800) as full, count(*) as readings
    from sent where WHERE group by all order by mean_load desc, cabin, line
"""


@pytest.fixture
def stream(
    spark: SparkSession,
    settings: Settings,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Stream:
    """The stream, from nothing but its file."""
    name = f"ropeway_{secrets.token_hex(4)}"
    streams = tmp_path / "streams"
    streams.mkdir()
    (streams / f"{name}.yaml").write_text(DECLARATION.replace("NAME", name), encoding="utf-8")
    here = settings.model_copy(update={"streams": streams})
    for variable, value in here.environment().items():
        monkeypatch.setenv(variable, value)
    assert main(["check"]) == 0
    spec = load_spec(streams / f"{name}.yaml")
    kafka.ensure_topic(kafka.Admin(here), spec.source.kafka)
    return Stream(spark, here, store, spec, tmp_path)


def produce_and_land(stream: Stream) -> list[dict[str, Any]]:
    """Send the past hours, land all of it; return the messages as they must have landed."""
    count = CABINS * PER_HOUR * HOURS_BACK
    producing = InThread(stream.settings, ["simulate", stream.spec.name, "--limit", str(count)])
    try:
        assert producing.code() == 0, producing.said
    finally:
        producing.end()
    stream.land()
    sent = [
        json.loads(m.value) for m in read_topic(stream.settings, stream.spec.source.kafka.topic)
    ]
    assert sum(m.valid for m in manifests(stream.settings, stream.spec)) == len(sent) == count
    for row in sent:
        row["at"] = datetime.fromisoformat(row["at"]).astimezone(UTC)
        row["speed"] = row.pop("drive")["speed"] / 3.6
    return sent


def computed(sent: list[dict[str, Any]], where: str = "true") -> list[tuple[Any, ...]]:
    """Return what DuckDB makes of the messages."""
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        connection.register("sent", pa.Table.from_pylist(sent))
        return connection.execute(HOURLY.replace("WHERE", where)).fetchall()


def same(found: list[dict[str, Any]], expected: list[tuple[Any, ...]]) -> None:
    """Hold KPI rows against DuckDB's, in their order."""
    assert [tuple(row.values()) for row in found] == [
        tuple(pytest.approx(v, rel=1e-12) if isinstance(v, float) else v for v in row)
        for row in expected
    ]


def check_dags(stream: Stream) -> None:
    """Every DAG is there, and no other."""
    kinds = ("keep", "produce", "hours", "report", "periods", "analyse")
    assert {dag.dag_id for dag in build_dags(stream.settings.streams)} == {
        f"{kind}__{stream.spec.name}" for kind in kinds
    }


def postgres_rows(stream: Stream, table: str) -> list[dict[str, Any]]:
    url = stream.settings.postgres_url("postgres_default").replace("+psycopg", "")
    with psycopg.connect(url, row_factory=dict_row) as connection:
        return connection.execute(f"SELECT * FROM {stream.spec.name}.{table}").fetchall()


def delta_rows(stream: Stream, table: str) -> list[dict[str, Any]]:
    found = open_delta(stream.settings.lake, f"/{stream.spec.name}_tables/{table}")
    assert found is not None
    return pa.table(found.to_pyarrow_table()).to_pylist()  # type: ignore[no-any-return]


def check_tables(stream: Stream, sent: list[dict[str, Any]], hours: list[datetime]) -> None:
    """Readings and windows stand in PostgreSQL, Cassandra and Delta, each once."""
    name, windows = stream.spec.name, 2 * 6 * len(hours)
    loads = sorted(row["load_kg"] for row in sent)
    assert sorted(row["load_kg"] for row in postgres_rows(stream, "readings")) == loads
    assert len(postgres_rows(stream, "by_line")) == windows
    with cassandra.session(stream.settings.cassandra) as session:
        found = [row[0] for row in session.execute(f"select load_kg from {name}.readings")]
        counts = [row[0] for row in session.execute(f"select readings from {name}.by_line")]
    assert sorted(found) == loads
    assert (len(counts), sum(counts)) == (windows, len(sent))
    assert sorted(row["load_kg"] for row in delta_rows(stream, "readings")) == loads


def check_hour(stream: Stream, sent: list[dict[str, Any]], hour: datetime) -> None:
    """KPIs, their Delta table and CSV, anomalies."""
    where = f"sent.at >= '{hour.isoformat()}' and sent.at < '{(hour + HOUR).isoformat()}'"
    lake, spec = stream.settings.lake, stream.spec
    kpi = read_closed(lake, closed_file(spec, kpi_zone("hourly"), hour))
    odd = read_closed(lake, closed_file(spec, kpi_zone("odd"), hour))
    assert kpi is not None
    assert odd is not None
    rows, verdicts = kpi[1].to_pylist(), odd[1].to_pylist()
    same(rows, computed(sent, where))
    assert [(v["cabin"], v["value"]) for v in verdicts] == [
        (row["cabin"], row["mean_load"]) for row in rows
    ]
    assert {v["basis"] for v in verdicts} <= {"mad", "few_hours"}
    for of, expected in (("hourly", rows), ("odd", verdicts)):
        own = [row for row in delta_rows(stream, of) if row["hour"] == hour]
        assert {row.pop("_revision") for row in own} == {1}
        assert {row.pop("hour") for row in own} == {hour}
        assert sorted(own, key=lambda r: r["cabin"]) == sorted(expected, key=lambda r: r["cabin"])


def check_dashboard(stream: Stream) -> None:
    """The stream has a page with its figures and alerts, from its PostgreSQL table."""
    page = AppTest.from_file(str(PAGE), default_timeout=120).run()
    assert not page.exception
    assert not page.error
    assert not page.warning, [w.value for w in page.warning]
    tiles = {tile.label.replace("\\", ""): tile.value for tile in page.metric}
    assert int(tiles["readings"].replace(",", "")) > 0
    assert {"mean load_kg (kg)", "mean speed (m/s)"} <= set(tiles), tiles


def test_one_file_makes_a_stream(stream: Stream, capsys: pytest.CaptureFixture[str]) -> None:
    check_dags(stream)
    sent = produce_and_land(stream)
    hours = sorted({hour_of(row["at"]) for row in sent})
    assert len(hours) == HOURS_BACK
    stream.look(*hours)
    revisions = stream.close(*hours)
    check_tables(stream, sent, hours)
    for hour in hours:
        check_hour(stream, sent, hour)

    files = LakeFiles(stream.spark, stream.settings.lake)
    PeriodAnalysis(stream.spark, stream.store, stream.spec, files).run(Period())
    whole = read_period_rows(stream.settings.lake, period_file(stream.spec, "hourly", Period()))
    assert whole is not None
    same(whole[1].to_pylist(), computed(sent))

    report = build_report(stream.settings, stream.store, stream.spec, revisions[-1])
    heavy = [r for r in sent if hour_of(r["at"]) == hours[-1] and r["load_kg"] > 1900]
    assert report.subject == f"[2 alerts] {stream.spec.name} {hours[-1]:%H:%M}"
    for text in ("# The ropeway", "load_kg above 1900 kg", "## Hourly", "## Odd", "8 KPI rows"):
        assert text in report.markdown.replace("\\", ""), report.markdown
    assert f"{len(heavy)} readings" in report.markdown
    assert report.pictures

    check_dashboard(stream)
    capsys.readouterr()
    for arguments in (["--kpi", "odd"], ["--table", "hourly"], []):
        told = ["show", stream.spec.name, "--hour", format_hour(hours[-1]), *arguments]
        assert main([*told, "--format", "json", "--limit", "1000"]) == 0
        shown = json.loads(capsys.readouterr().out)
        assert len(shown) == (CABINS if arguments else CABINS * PER_HOUR)
