"""System 2 whole: simulator, topic, driver, PostgreSQL, sliding windows, closed hours, report.

Every figure is computed anew by DuckDB over the very messages that were sent. The weather of New
York's airports goes the same way.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pyarrow as pa
from closes import Stream
from declared import declared_stream, own_names
from drivers import manifests, send
from figures import Rows, same_rows
from psycopg.rows import dict_row
from pyspark.sql import SparkSession
from topics import Read, read_topic, run_producer
from weather import FEEDS, STREAMS, source_lines

from streamkeeper.hours import HOUR
from streamkeeper.names import closed_file, hour_of, kpi_zone
from streamkeeper.settings import Settings
from streamkeeper.spec.sinks import PostgresSink
from streamkeeper_apps.producer.pacing import micros
from streamkeeper_apps.producer.simulator import Simulation
from streamkeeper_io import kafka
from streamkeeper_io.closed import read_closed
from streamkeeper_io.reports import build_report
from streamkeeper_io.store import Store

ENVIRONMENT = Path(__file__).parents[2] / "include" / "streams" / "environment.yaml"
DOCS = Path(__file__).parents[2] / "docs" / "environment.md"
PER_HOUR = 24 * 3600 // 20  # 24 sensors, a reading each 20 s
FAULTS = {"malformed": 0.01, "duplicate": 0.01, "late": {"share": 0.02, "by": "20min"}}
STATES = ("ok", "warning", "failed")

# What the tables must hold, of the table `readings`. All is written here once more, by hand.
SOUND = "filter (status <> 'failed')"
ALERT, FAILURE = "filter (kind in ('extreme', 'warning'))", "filter (kind = 'failure')"
MEANS = ", ".join(f"avg({name}) {SOUND}" for name in ("temperature", "humidity", "co2"))
COUNTS = f"""
    count(*) filter (kind = 'extreme'), count(*) filter (kind = 'warning'), count(*) {FAILURE}
"""
TREND = f"""
    select sensor_id, site, start, start + interval 5 minutes, {MEANS}, avg(battery),
        count(*) {ALERT}, count(*) {FAILURE}, count(*)
    from (
        select *, time_bucket(interval 1 minute, timestamp) - back * interval 1 minute as start
        from readings, range(5) as r(back)
    ) group by sensor_id, site, start order by sensor_id, site, start
"""
KPIS = {
    "overall": f"select count(*), count(distinct sensor_id), {MEANS}, {COUNTS} from readings",
    "by_site": f"""
        select site, count(*), avg(temperature) {SOUND} as t, max(temperature) {SOUND},
            avg(humidity) {SOUND}, avg(co2) {SOUND}, avg(pressure) {SOUND}, min(battery), {COUNTS}
        from readings group by site order by t desc nulls last, site""",
    "by_sensor": f"""
        select sensor_id, site, count(*), avg(temperature) {SOUND}, min(battery),
            count(*) {ALERT} as alerts, count(*) {FAILURE}
        from readings group by sensor_id, site order by alerts desc, sensor_id, site""",
    "hottest": """
        select sensor_id, site, latitude, longitude, temperature, humidity, co2, pressure, battery,
            status, timestamp, kind
        from readings where status <> 'failed' and temperature is not null
        order by temperature desc, timestamp, partition, "offset" limit 5""",
}
NUMBERS = ("latitude", "longitude", "temperature", "humidity", "pressure", "battery")
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("topic_id", "sensor_id", "site", "status")),
        *((name, pa.int64()) for name in ("partition", "offset", "co2")),
        *((name, pa.float64()) for name in NUMBERS),
        ("timestamp", pa.timestamp("us", "UTC")),
    ]
)
KIND = """
    case when status = 'failed' then 'failure'
    when temperature > 45 or temperature < -10 or co2 > 2000 then 'extreme'
    when status = 'warning' then 'warning' end
"""


def own_stream(
    spark: SparkSession, settings: Settings, store: Store, folder: Path, path: Path, **changed: Any
) -> Stream:
    """Return a declared stream under names of its own; changed, of its simulator."""
    given = own_names(path)
    if changed:
        given["producer"]["simulator"] |= changed
    return declared_stream(given, spark, settings, store, folder)


def table_of(stream: Stream, of: str, order: str) -> list[dict[str, Any]]:
    """Return all rows of a sink's table in PostgreSQL."""
    (sink,) = [s for s in stream.spec.sinks if isinstance(s, PostgresSink) and s.of == of]
    url = stream.settings.postgres_url(sink.connection).replace("+psycopg", "")
    with psycopg.connect(url, row_factory=dict_row) as connection:
        connection.execute("set timezone = 'UTC'")
        return connection.execute(f"SELECT * FROM {sink.table} ORDER BY {order}").fetchall()


def reading_of(topic_id: str, message: Read) -> dict[str, Any] | None:
    """Return a message as a reading, None for what must be quarantined; without Spark."""
    try:
        found = json.loads(message.value)
        at = datetime.fromisoformat(found["timestamp"])
        assert found["status"] in STATES
    except (ValueError, TypeError, KeyError):
        return None
    place = {"topic_id": topic_id, "partition": message.partition, "offset": message.offset}
    return found | place | {"timestamp": at.astimezone(UTC)}


def sent_readings(stream: Stream) -> tuple[list[dict[str, Any]], int]:
    """Return the readings in the topic, and how many messages are none."""
    topic = stream.spec.source.kafka.topic
    topic_id, _ = kafka.end_offsets(kafka.Admin(stream.settings), topic)
    found = [reading_of(topic_id, m) for m in read_topic(stream.settings, topic)]
    good = [r for r in found if r is not None]
    return good, len(found) - len(good)


def computed(readings: Rows, sql: str) -> list[tuple[Any, ...]]:
    """Return what DuckDB makes of readings, each with the kind of what is wrong with it."""
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        connection.register("sent", pa.Table.from_pylist(list(readings), SCHEMA))
        connection.execute(f"create view readings as select *, {KIND} as kind from sent")
        return connection.execute(sql).fetchall()


def check_raw(stream: Stream, readings: Rows) -> None:
    """Each reading stands in `sensor_data` once, named by its coordinates, as it was sent."""
    columns = ["topic_id", "partition", "offset", *stream.spec.fields, "anomaly"]
    wanted = ["topic_id", "partition", '"offset"', *stream.spec.fields, "kind"]
    sql = f'select {", ".join(wanted)} from readings order by partition, "offset"'
    found = table_of(stream, "raw", "_partition, _offset")
    named = [f"_{c}" if c in ("topic_id", "partition", "offset") else c for c in columns]
    same_rows(found, computed(readings, sql), named)
    # The broker's time tells how long a row took to come.
    assert all(row["_timestamp"] is not None for row in found)


def check_trend(stream: Stream, readings: Rows, closed: Sequence[datetime] = ()) -> None:
    """Every sliding window; those within closed hours are final."""
    found = table_of(stream, "trend", "sensor_id, site, window_start")
    columns = ["sensor_id", "site", "window_start", "window_end"]
    columns += stream.spec.window("trend").measures
    same_rows(found, computed(readings, TREND), columns)
    for row in found:
        last = row["window_end"] - timedelta(microseconds=1)
        final = hour_of(row["window_start"]) in closed and hour_of(last) in closed
        assert row["_closed"] == final, row


def within(readings: Rows, hour: datetime) -> Rows:
    """Return the readings of an hour."""
    return [r for r in readings if hour <= r["timestamp"] < hour + HOUR]


def check_kpis(stream: Stream, readings: Rows, hour: datetime) -> None:
    """Every row and figure of every KPI, in the declared order."""
    for kpi, sql in KPIS.items():
        found = read_closed(stream.settings.lake, closed_file(stream.spec, kpi_zone(kpi), hour))
        assert found is not None, (kpi, hour)
        rows = found[1].to_pylist()
        columns = [name for name in rows[0] if not name.startswith("_")]
        same_rows(rows, computed(within(readings, hour), sql), columns)


def check_report(stream: Stream, readings: Rows, hour: datetime) -> None:
    """The report of an hour tells its readings and how often each alert was broken."""
    own = within(readings, hour)
    told = build_report(stream.settings, stream.store, stream.spec, stream.revision(hour)).markdown
    assert f"{len(own):,} readings" in told
    for alert, counted in {
        "temperature above 45": "(*) from readings where status <> 'failed' and temperature > 45",
        "co2 above 2": "(*) from readings where status <> 'failed' and co2 > 2000",
        "battery below 15": "(*) from readings where battery < 15",
        "by_site.failures above 0": "(distinct site) from readings where kind = 'failure'",
        "by_site.warnings above 0": "(distinct site) from readings where kind = 'warning'",
    }.items():
        ((count,),) = computed(own, f"select count{counted}")
        lines = [text.replace("\\", "") for text in told.splitlines()]
        found = [text for text in lines if text.startswith(f"### {alert}")]
        # What no reading of the hour breaks is not told.
        assert len(found) == (count > 0), alert
        assert all(re.search(rf": {count:,} (reading|KPI row)", text) for text in found), found
    for heading in ("Overall", "By site", "By sensor", "Hottest"):
        assert f"## {heading}" in told


def test_system_environment(
    spark: SparkSession, settings: Settings, store: Store, tmp_path: Path
) -> None:
    changed = {"every": "20s", "hours_back": 2, "faults": FAULTS}
    stream = own_stream(spark, settings, store, tmp_path, ENVIRONMENT, **changed)
    run_producer(stream.settings, "simulate", stream.spec.name, "--limit", PER_HOUR)
    readings, broken = sent_readings(stream)
    assert 0 < broken < PER_HOUR // 30
    assert len(readings) + broken > PER_HOUR, "some were sent twice"
    check_simulated(readings)
    stream.land()
    landed = manifests(stream.settings, stream.spec)
    assert sum(m.valid for m in landed) == len(readings)
    assert sum(m.quarantined for m in landed) == broken
    check_raw(stream, readings)
    check_trend(stream, readings)
    # What follows is older than the watermark in part; live windows leave that out.
    end = hour_of(max(r["timestamp"] for r in readings)) + HOUR
    simulation = Simulation(stream.spec)
    first = simulation.first_from(micros(end - timedelta(minutes=5)))
    again = [m.value for m in simulation.messages(first, PER_HOUR // 2)]
    send(stream.settings, stream.spec.source.kafka.topic, again)
    stream.land()
    readings, still = sent_readings(stream)
    assert still == broken
    check_raw(stream, readings)
    hours = sorted({hour_of(r["timestamp"]) for r in readings})
    assert len(hours) == 3
    stream.look(*hours)
    for number in range(1, len(hours) + 1):
        assert [r.state for r in stream.close(*hours[:number])] == ["complete"]
    check_trend(stream, readings, hours)
    for hour in hours:
        check_kpis(stream, readings, hour)
    check_report(stream, readings, hours[1])
    check_documented_queries(stream, readings)


def check_documented_queries(stream: Stream, readings: Rows) -> None:
    """What the page of the stream shows as SQL runs as it stands, and the last query's counts."""
    page = DOCS.read_text(encoding="utf-8")
    (block,) = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    queries = [text for text in block.split(";") if "SELECT" in text]
    assert len(queries) == 4
    tables = {s.of: s for s in stream.spec.sinks if isinstance(s, PostgresSink)}
    url = stream.settings.postgres_url(tables["raw"].connection).replace("+psycopg", "")
    with psycopg.connect(url) as connection:
        connection.execute("set timezone = 'UTC'")
        for query in queries:
            own = query.replace("sensor_data_agg", "TREND").replace(
                "sensor_data", tables["raw"].table
            )
            found = connection.execute(own.replace("TREND", tables["trend"].table)).fetchall()
    by_hour = computed(
        readings,
        f"select date_trunc('hour', timestamp) as hour, count(*) {ALERT} from readings "
        "group by hour order by hour",
    )
    assert found == by_hour


def check_simulated(readings: Rows) -> None:
    """Sensors stand at their sites, and are in the states that are declared."""
    places = {(r["sensor_id"], r["site"], r["latitude"], r["longitude"]) for r in readings}
    assert len(places) == 24
    assert set(Counter(site for _, site, *_ in places).values()) == {4}
    assert {"ok"} < {r["status"] for r in readings} <= set(STATES)
    assert all((r["temperature"] is None) == (r["status"] == "failed") for r in readings)


def airport_readings(path: Path) -> str:
    """Return the airports' readings as DuckDB reads the file itself."""
    number = "try_cast(nullif({}, 'NA') as double)"
    temperature = f"(({number.format('temp')}) - 32) / 1.8"
    return f"""
        create view readings as
        select *,
            case when t is null then 'failure'
            when t > 34.55 or t < -11.45 then 'extreme' end as kind
        from (
            select origin, strptime(time_hour, '%Y-%m-%dT%H:%M:%SZ') as moment, {temperature} as t,
                {number.format("humid")} as h, {number.format("pressure")} as p
            from read_csv('{path}', all_varchar = true, header = true)
        )
    """


def test_weather_of_airports_as_sensors(
    spark: SparkSession, settings: Settings, store: Store, tmp_path: Path
) -> None:
    stream = own_stream(spark, settings, store, tmp_path, STREAMS / "airport_sensors.yaml")
    plain = tmp_path / "airports.csv"
    (airports,) = [feed for feed in FEEDS if feed.name == "airports"]
    lines = source_lines(airports)
    plain.write_text("".join(lines), encoding="utf-8", newline="")
    said = run_producer(stream.settings, "replay", stream.spec.name, plain)
    assert f"acknowledged {len(lines) - 1:,}" in said
    stream.land()
    with duckdb.connect() as connection:
        connection.execute(airport_readings(plain))
        rows = connection.execute(
            "select origin, moment, t, h, p, kind from readings order by origin, moment"
        ).fetchall()
        windows = connection.execute(
            "select origin, start, avg(t), avg(h), avg(p), count(*) filter (kind = 'extreme'), "
            "count(*) filter (kind = 'failure'), count(*) from (select *, time_bucket(interval 1 "
            "hour, moment) - back * interval 1 hour as start from readings, range(6) as r(back)) "
            "group by all order by origin, start"
        ).fetchall()
    found = [r | {"timestamp": r["timestamp"].replace(tzinfo=None)}
             for r in table_of(stream, "raw", "sensor_id, timestamp")]  # fmt: skip
    columns = ["sensor_id", "timestamp", "temperature", "humidity", "pressure", "anomaly"]
    same_rows(found, rows, columns)
    columns = ["sensor_id", "window_start", *stream.spec.window("trend").measures]
    first = hour_of(rows[0][1].replace(tzinfo=UTC)) + 24 * HOUR
    hours = [first + n * HOUR for n in range(8)]
    for closed in ([], hours):
        if closed:
            stream.look(*closed)
            stream.close(*closed)
        live = [r | {"window_start": r["window_start"].replace(tzinfo=None)}
                for r in table_of(stream, "trend", "sensor_id, window_start")]  # fmt: skip
        same_rows(live, windows, columns)
        # Six hours are closed for three of the windows that begin in these eight.
        assert sum(r["_closed"] for r in live) == (9 if closed else 0)
