"""System 1 whole: simulator, topic, driver and its consoles, windows, closed hours, report by mail.

Every figure is computed anew by DuckDB over the very messages that were sent.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from closes import Stream
from declared import declared_stream, own_names
from drivers import landed, manifests, wait_for
from figures import Rows, same_rows
from keeping import connect_as_airflow
from pyspark.sql import SparkSession
from readings import CITIES, TEMPERATURE
from reported import holds, html_of, html_rows, mails, markdown_rows, unescaped
from topics import Read, begin_producer, declare, read_topic, record_process, run_producer

from streamkeeper import names
from streamkeeper.hours import HOUR
from streamkeeper.launches import EXIT_DRAINED
from streamkeeper.names import CURATED, closed_file, hour_of, kpi_zone
from streamkeeper.settings import Settings
from streamkeeper.showing import HourRange
from streamkeeper.spec.models import Spec
from streamkeeper.spec.sinks import CassandraSink
from streamkeeper.texts import LanguageName
from streamkeeper_airflow.dag_factory import build_dags
from streamkeeper_apps.local.stack import LocalStack
from streamkeeper_io import cassandra, zones
from streamkeeper_io.closed import read_closed
from streamkeeper_io.lake import read_text
from streamkeeper_io.rows_once import RowsOnce
from streamkeeper_io.store import Store
from streamkeeper_io.zones import LakeView

PER_HOUR = 20 * 3600 // 20  # 20 sensors, a message each 20 s
BEFORE, MEANWHILE = PER_HOUR * 7 // 4, PER_HOUR // 4
FAULTS = {"malformed": 0.01, "out_of_range": 0.01, "duplicate": 0.01}
FAULTS_TIMED = {"late": {"share": 0.02, "by": "20min"}}
RAW = ("sensor_id", "city", "temperature", "humidity", "timestamp")
MEASURES = ("avg_temp", "max_temp", "min_temp", "avg_humidity", "num_readings")
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("sensor_id", "city")),
        *((name, pa.float64()) for name in ("temperature", "humidity")),
        ("timestamp", pa.timestamp("us", "UTC")),
        *((name, pa.int64()) for name in ("partition", "offset")),
    ]
)

# What must come of the table `readings`. All is written here once more, by hand.
WINDOWS = """
    select city, time_bucket(interval 30 seconds, timestamp) as start, avg(temperature),
        max(temperature), min(temperature), avg(humidity), count(*)
    from readings group by all
"""
KPIS = {
    "overall": """
        select count(*), count(distinct city), count(distinct sensor_id), avg(temperature),
            max(temperature), min(temperature), avg(humidity) from readings""",
    "by_city": """
        select city, avg(temperature) as mean, max(temperature), min(temperature), count(*)
        from readings group by city order by mean desc""",
    "hottest": """
        select sensor_id, city, temperature, humidity, timestamp from readings
        order by temperature desc, timestamp, partition, "offset" limit 5""",
}
OVERALL = ("readings", "cities", "active_sensors", "temp_moy (°C)", "temp_max (°C)",
           "temp_min (°C)", "humidity_moy (%)")  # fmt: skip
WORST = """
    select temperature, sensor_id, city, humidity, timestamp from readings
    where temperature {} order by temperature {}, timestamp limit 5
"""


@pytest.fixture
def stream(spark: SparkSession, settings: Settings, store: Store, tmp_path: Any) -> Stream:
    """The declared stream under names of its own, with faults, a twentieth of its rate."""
    given = own_names(TEMPERATURE)
    given["producer"]["simulator"] |= {"every": "20s", "faults": FAULTS | FAULTS_TIMED}
    return declared_stream(given, spark, settings, store, tmp_path)


def produce(stream: Stream, count: int) -> str:
    """Launch the simulator for so many messages, from where the launch before it stood."""
    launch, snapshot = begin_producer(stream.store, stream.spec, stream.folder)
    record_process(stream.store, launch, os.getpid())
    arguments = ["--launch", snapshot, "--hours-back", 2, "--limit", count]
    return run_producer(stream.settings, "simulate", stream.spec.name, *arguments)


def reading_of(message: Read) -> dict[str, Any] | None:
    """Return a message as a reading, None for what must be quarantined; without Spark."""
    try:
        found = json.loads(message.value)
        at = datetime.fromisoformat(found["timestamp"])
        assert found["city"] in CITIES
    except (ValueError, TypeError, KeyError):
        return None
    if not -60 <= found["temperature"] <= 60 or not 0 <= found["humidity"] <= 100:
        return None
    place = {"partition": message.partition, "offset": message.offset}
    return found | place | {"timestamp": at.astimezone(UTC)}


def sent(stream: Stream) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Return the readings in the topic, and the messages that are none."""
    topic = read_topic(stream.settings, stream.spec.source.kafka.topic)
    judged = [(message.value, reading_of(message)) for message in topic]
    return [r for _, r in judged if r is not None], [value for value, r in judged if r is None]


def computed(readings: Rows, sql: str) -> list[tuple[Any, ...]]:
    """Return what DuckDB makes of readings."""
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        connection.register("readings", pa.Table.from_pylist(list(readings), SCHEMA))
        return connection.execute(sql).fetchall()


def within(readings: Rows, hour: datetime) -> Rows:
    """Return the readings of an hour."""
    return [r for r in readings if hour <= r["timestamp"] < hour + HOUR]


def rows_of(stream: Stream, zone: str, hour: datetime) -> list[dict[str, Any]]:
    """Return the visible rows of a closed hour."""
    found = read_closed(stream.settings.lake, closed_file(stream.spec, zone, hour))
    assert found is not None, (zone, hour)
    return found[1].to_pylist()


def check_windows(stream: Stream, readings: Rows) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """Every window in Cassandra's table, figure by figure; return them."""
    expected = {(city, start): tuple(rest) for city, start, *rest in computed(readings, WINDOWS)}
    found = stream.windows()
    assert set(found) == set(expected)
    for key, measures in expected.items():
        assert found[key] == pytest.approx(measures, rel=1e-12), key
    return expected


def check_table(stream: Stream) -> None:
    """The table's columns and key are those that its users query."""
    (sink,) = [s for s in stream.spec.sinks if isinstance(s, CassandraSink)]
    with cassandra.session(stream.settings.cassandra) as node:
        kept = node.cluster.metadata.keyspaces["iot"].tables[sink.table]
    assert {name: column.cql_type for name, column in kept.columns.items()} == {
        "city": "text", "day": "date", "window_start": "timestamp", "window_end": "timestamp",
        **dict.fromkeys(MEASURES, "double"), "num_readings": "bigint",
    }  # fmt: skip
    assert [c.name for c in kept.partition_key] == ["city", "day"]
    assert [(c.name, c.is_reversed) for c in kept.clustering_key] == [("window_start", True)]


def rhythms(stream: Stream) -> dict[str, str]:
    """Return when each running query begins its batches, as Spark itself has it."""
    running: list[Any] = stream.spark.streams.active
    triggers = {q.name.partition("/")[2]: q._jsq.streamingQuery().trigger() for q in running}
    return {name: str(trigger.toString()) for name, trigger in triggers.items()}


def printed(said: str, columns: Sequence[str]) -> list[list[str]]:
    """Return the rows of all tables with these columns in the driver's log."""
    found: list[list[str]] = []
    ours = False
    for line in said.splitlines():
        cells = [cell.strip() for cell in re.split("[|│┃]", line)[1:-1]]
        if cells and cells[0] in ("sensor_id", "city"):
            ours = cells == list(columns)
        elif cells and ours:
            found.append(cells)
    return found


def watch(stream: Stream, capsys: pytest.CaptureFixture[str]) -> str:
    """See what the driver does with what was sent, send more, and wait for it; return its log."""
    spec = stream.spec
    (sink,) = [s for s in spec.sinks if isinstance(s, CassandraSink)]
    name = f"cassandra:{sink.keyspace}.{sink.table}"
    wait_for(lambda: stream.store.mark(spec.name, name), "the windows in Cassandra")
    before, _ = sent(stream)
    windows = check_windows(stream, before)
    # As the declaration has them, though a test's driver has them shorter otherwise.
    raw, window = names.console_query("raw"), names.window_query("city_30s")
    seconds = {names.LAND: 30, window: 30, raw: 10}
    expected = {n: f"ProcessingTimeTrigger({1000 * s})" for n, s in seconds.items()}
    assert rhythms(stream) == expected
    # The console of raw rows has begun, at the topic's end, once it has noted where that was.
    noted = f"*/{spec.name}-{raw}/sources/0/0"
    wait_for(lambda: list(stream.folder.glob(noted)), "the console to have begun", 60)
    produce(stream, MEANWHILE)
    readings, bad = sent(stream)
    log = ""

    def told() -> list[list[str]]:
        nonlocal log
        log += capsys.readouterr().out
        return printed(log, RAW)

    wait_for(told, "raw rows on the console", 60)
    all_sent = len(readings) + len(bad)
    wait_for(lambda: landed(stream.settings, spec) == all_sent, "all that was sent", 90)
    check_printed_rows(told(), readings, before)
    assert f"{spec.name} raw, console batch " in log
    check_printed_windows(stream, log, windows)
    return log


def check_printed_rows(rows: list[list[str]], readings: Rows, before: Rows) -> None:
    """What stands on the console are readings that were sent meanwhile."""
    found = Counter(
        (*cells[:2], *map(float, cells[2:4]), datetime.fromisoformat(f"{cells[4]}+00:00"))
        for cells in rows
    )
    key = lambda r: tuple(r[name] for name in RAW)  # noqa: E731
    assert found.total() >= 20
    assert found <= Counter(map(key, readings)) - Counter(map(key, before))


def check_printed_windows(
    stream: Stream, log: str, windows: dict[tuple[Any, ...], tuple[Any, ...]]
) -> None:
    """The first batch's newest windows stand on the console."""
    assert f"{stream.spec.name} city_30s, batch 0, {len(windows)} rows:" in log
    rows = printed(log, ["city", "window_start", "window_end", *MEASURES])[:20]
    starts = [datetime.fromisoformat(f"{row[1]}+00:00") for row in rows]
    assert starts == sorted((start for _, start in windows), reverse=True)[:20]
    for (city, _, end, *measures), start in zip(rows, starts, strict=True):
        assert datetime.fromisoformat(f"{end}+00:00") - start == timedelta(seconds=30)
        assert [float(m) for m in measures] == pytest.approx(windows[city, start], abs=0.0051)


def check_landed(stream: Stream, readings: Rows) -> None:
    """Each good message has landed, and the bad ones were refused for what they are."""
    found = manifests(stream.settings, stream.spec)
    assert sum(m.valid for m in found) == len(readings)
    by_rule: Counter[str] = sum((Counter(m.quarantined_by_rule) for m in found), Counter())
    assert {rule.partition(":")[0] for rule in by_rule} >= {"parse", "range"}


def check_shown(
    stream: Stream, readings: Rows, bad: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `show` reads, with the store's index and without it."""
    hours = Counter(hour_of(r["timestamp"]) for r in readings)
    hour = max(hours)
    for few in (0, 100):
        # More batches than this are read by the store's index, fewer from the lake.
        monkeypatch.setattr(zones, "_FEW", few)
        view = LakeView(stream.settings, stream.spec)
        assert view.landed_by_hour() == hours
        assert view.quarantined_by_rule()[0] == len(bad)
        shown = view.landed(50, HourRange.one(hour))
        assert shown is not None
        times = {r["timestamp"] for r in within(readings, hour)}
        assert set(shown["_event_time"].to_pylist()) <= times
        assert shown.num_rows == 50
        once = RowsOnce(view).newest(100_000)
        assert once is not None
        every = sorted(r["timestamp"] for r in readings)
        assert sorted(once["_event_time"].to_pylist()) == every
        told = {hour: (c.rows, c.state) for hour, c in view.closed_counts(CURATED).items()}
        assert told == {hour: (rows, "complete") for hour, rows in hours.items()}
        kept = view.quarantined(len(bad) + 1)
        assert kept is not None
        assert sorted(value or b"" for value in kept["_value"].to_pylist()) == sorted(bad)
        windows = view.live_windows("city_30s", 30)
        assert windows is not None
        assert windows.num_rows == 30
    assert view.closed_rows(CURATED) == {hour: (1, rows) for hour, rows in hours.items()}


def check_hour(stream: Stream, readings: Rows, hour: datetime) -> None:
    """An hour's rows, each once and by time, and every figure of its KPIs."""
    own = within(readings, hour)
    key = lambda r: tuple(r[name] for name in RAW)  # noqa: E731
    rows = rows_of(stream, CURATED, hour)
    assert [r["timestamp"] for r in rows] == sorted(r["timestamp"] for r in own)
    assert Counter(map(key, rows)) == Counter(map(key, own))
    for kpi, sql in KPIS.items():
        same_rows(rows_of(stream, kpi_zone(kpi), hour), computed(own, sql))


def told_rows(own: Rows) -> list[tuple[Any, ...]]:
    """Return the rows of figures that an hour's report must have."""
    (overall,) = computed(own, KPIS["overall"])
    rows: list[tuple[Any, ...]] = [*zip(OVERALL, overall, strict=True)]
    for sql in (KPIS["by_city"], KPIS["hottest"], WORST.format("> 40", "desc"),
                WORST.format("< 20", "asc")):  # fmt: skip
        rows += computed(own, sql)
    return rows


TOLD: dict[LanguageName, dict[str, str]] = {
    "en": {
        "subject": "[2 alerts] {name} {hour:%H:%M}",
        "readings": "{count} readings · revision 1, complete",
        "hot": "temperature above 40 °C: {count} readings, {share} of all",
        "cold": "temperature below 20 °C: {count} readings, {share} of all",
    },
    "fr": {
        "subject": "[2 alertes] {name} {hour:%H:%M}",
        "readings": "{count} mesures · révision 1, complète",
        "hot": "temperature au-dessus de 40 °C\u202f: {count} mesures, {share} du total",
        "cold": "temperature en dessous de 20 °C\u202f: {count} mesures, {share} du total",
    },
}


def check_report(
    stream: Stream, stack: LocalStack, own: Rows, hour: datetime, language: LanguageName
) -> None:
    """The last mail of an hour and its Markdown in the lake tell the figures in a language."""
    told = TOLD[language]
    mail = [m for m in mails(stack, stream.spec.name)
            if m["X-Streamkeeper-Hour"] == names.format_hour(hour)][-1]  # fmt: skip
    assert mail["Subject"] == told["subject"].format(name=stream.spec.name, hour=hour)
    folder = f"{names.report_path(stream.spec)}/dt={hour:%Y-%m-%d}/hour={hour:%H}"
    page, text = html_of(mail), read_text(stream.settings.lake, f"{folder}/report.md")
    for rows in (html_rows(page), markdown_rows(text)):
        for row in told_rows(own):
            assert any(holds(cells, row, language) for cells in rows), (row, rows)
    french = str.maketrans({",": "\u202f", ".": ",", "%": "\u202f%"})
    temperatures = [r["temperature"] for r in own]
    hot, cold = sum(t > 40 for t in temperatures), sum(t < 20 for t in temperatures)
    for key, count in (("readings", len(own)), ("hot", hot), ("cold", cold)):
        figures = f"{count:,}", f"{count / len(own):.1%}"
        count_told, share = (f.translate(french) if language == "fr" else f for f in figures)
        line = told[key].format(count=count_told, share=share)
        assert line in unescaped(text), line
        assert line in page, line


def report_by_mail(stream: Stream, hour: datetime | None = None) -> list[str]:
    """Run the task of the stream's report DAG; return the hours that it has mailed."""
    dag_id = names.report_dag_id(stream.spec.name)
    (dag,) = [dag for dag in build_dags(stream.settings.streams) if dag.dag_id == dag_id]
    (task,) = dag.tasks
    asked = None if hour is None else names.format_hour(hour)
    mailed: list[str] = task.execute({"params": {"hour": asked}})  # type: ignore[typeddict-item]
    return mailed


def test_system_temperature(
    stream: Stream,
    stack: LocalStack,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = produce(stream, BEFORE)
    assert "20 entities, one message each 20 s" in said
    assert f"fields {', '.join(RAW)}" in said
    outcome = stream.land_until(lambda: [watch(stream, capsys)], every=None)
    assert outcome.code == EXIT_DRAINED, outcome.reason
    readings, bad = sent(stream)
    assert len(readings) + len(bad) > BEFORE + MEANWHILE, "some were sent twice"
    assert 0 < len(bad) < len(readings) // 30
    check_table(stream)
    check_landed(stream, readings)
    # The two hours that were made, and the one into which late readings fall back.
    hours = sorted({hour_of(r["timestamp"]) for r in readings})
    assert len(hours) == 3
    stream.look(*hours)
    assert [(r.revision, r.state) for r in stream.close(*hours)] == [(1, "complete")] * 3
    check_windows(stream, readings)
    for hour in hours:
        check_hour(stream, readings, hour)
    check_shown(stream, readings, bad, monkeypatch)
    connect_as_airflow(stack, stream.settings, monkeypatch)
    assert report_by_mail(stream) == [names.format_hour(hour) for hour in hours]
    for hour in hours[1:]:
        check_report(stream, stack, within(readings, hour), hour, "en")
    given = stream.spec.dump()
    given["report"]["language"] = "fr"
    declare(Spec.model_validate(given), stream.settings.streams)
    assert report_by_mail(stream, hours[1]) == [names.format_hour(hours[1])]
    check_report(stream, stack, within(readings, hours[1]), hours[1], "fr")
