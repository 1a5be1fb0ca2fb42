"""System 3's stream: simulator and a real room, topic, driver, lake, Delta tables, a closed hour.

Every figure is computed anew in plain Python over the very messages or lines that were sent.
"""

from __future__ import annotations

import csv
import json
import lzma
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from closes import Stream
from declared import declared_stream, own_names
from deltalake import DeltaTable
from drivers import manifests
from figures import same_rows
from pyspark.sql import SparkSession
from topics import InThread, Read, declare, read_topic

from access_log import DATA
from streamkeeper import names
from streamkeeper.names import closed_file, format_hour, hour_of, kpi_zone
from streamkeeper.settings import Settings
from streamkeeper.spec.models import Spec
from streamkeeper_apps.cli import main
from streamkeeper_io import kafka
from streamkeeper_io.closed import read_closed
from streamkeeper_io.delta import live_files, open_delta
from streamkeeper_io.store import Store

BUILDINGS = Path(__file__).parents[2] / "include" / "streams" / "buildings.yaml"
SENT = 60 * 60 * 3 // 2  # an hour and a half of sixty devices
FAULTS = {"malformed": 0.02, "duplicate": 0.01, "late": {"share": 0.02, "by": "30min"}}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CONVERTED: dict[str, tuple[str, Callable[[float], float]]] = {
    "F": ("°C", lambda f: (f - 32) * 5 / 9),
    "Wh": ("kWh", lambda wh: wh / 1000),
}
Row = dict[str, Any]


@pytest.fixture
def stream(spark: SparkSession, settings: Settings, store: Store, tmp_path: Path) -> Stream:
    """The declared stream under names of its own, with faults."""
    given = own_names(BUILDINGS)
    given["sinks"] = [sink for sink in given["sinks"] if sink["of"] in ("raw", "hourly_means")]
    given["producer"]["simulator"] |= {"hours_back": 2, "faults": FAULTS}
    return declared_stream(given, spark, settings, store, tmp_path)


def produce(stream: Stream, *arguments: Any) -> None:
    """Run a producer to its end."""
    kind, *others = arguments
    producing = InThread(stream.settings, [kind, stream.spec.name, *map(str, others)])
    try:
        assert producing.code() == 0, producing.said
    finally:
        producing.end()


def reading_of(message: Read) -> Row | None:
    """Return a message as the row that it must be, None for what must be quarantined."""
    corrected = []
    try:
        found = json.loads(message.value)
        sent = found["timestamp"]
        if isinstance(sent, int):
            corrected.append("time:timestamp")
            at = EPOCH + timedelta(milliseconds=sent)
        else:
            at = datetime.fromisoformat(sent)
    except (ValueError, TypeError, KeyError):
        return None
    value, unit = found["value"], found["unit"]
    if unit in CONVERTED:
        corrected.append("unit:value")
        unit, convert = CONVERTED[unit]
        value = pytest.approx(convert(value), rel=1e-12)
    landed = {"timestamp": at, "value": value, "unit": unit, "_corrected": corrected or None}
    return found | landed | {"_partition": message.partition, "_offset": message.offset}


def table_of(stream: Stream, of: str) -> DeltaTable:
    """Return the stream's Delta table of landed rows (`raw`) or of a KPI."""
    (path,) = [path for path, sink in stream.spec.delta_tables().items() if sink.of == of]
    table = open_delta(stream.settings.lake, path)
    assert table is not None
    return table


def silver(stream: Stream) -> list[Row]:
    """Return the rows of the table, in the order of the topic, without what names a write."""
    table = table_of(stream, "raw")
    rows = pa.table(table.to_pyarrow_table()).to_pylist()
    topic_id, _ = kafka.end_offsets(kafka.Admin(stream.settings), stream.spec.source.kafka.topic)
    assert {row.pop("_topic_id") for row in rows} == {topic_id}
    assert {row.pop("_write_number") for row in rows} == {
        m.write_number for m in manifests(stream.settings, stream.spec) if m.valid
    }
    return sorted(rows, key=lambda row: (row["_partition"], row["_offset"]))


def messages(stream: Stream) -> list[Read]:
    return read_topic(stream.settings, stream.spec.source.kafka.topic)


def check_table(stream: Stream) -> list[Row]:
    """The table holds every valid message once, value by value; return them."""
    sent = messages(stream)
    readings = [r for r in map(reading_of, sent) if r is not None]
    assert silver(stream) == readings
    found = manifests(stream.settings, stream.spec)
    quarantined = sum(m.quarantined for m in found)
    assert (sum(m.valid for m in found), quarantined) == (len(readings), len(sent) - len(readings))
    corrected: Counter[str] = Counter()
    for manifest in found:
        corrected.update(manifest.corrected_by_kind)
    assert corrected == Counter(k for r in readings for k in r["_corrected"] or ())
    return readings


def check_layout(stream: Stream, readings: list[Row]) -> None:
    """The files are parted by building and type, for people and in the log."""
    table = table_of(stream, "raw")
    assert table.metadata().partition_columns == ["building", "type"]
    files = live_files(table)
    rows: Counter[tuple[str, str]] = Counter()
    for file in files.to_pylist():
        building, kind = file["partition.building"], file["partition.type"]
        assert file["path"].startswith(f"building={building}/type={kind}/part-")
        rows[building, kind] += file["num_records"]
    assert rows == Counter((r["building"], r["type"]) for r in readings)
    assert len(rows) == 12


# What the KPIs must be, of the table `readings`. All is written here once more, by hand.
KPIS = {
    "hourly_means": """
        select device_id, building, floor, type, avg(value), min(value), max(value), count(*)
        from readings group by all order by device_id, building, floor, type""",
    "by_type": """
        select building, type, avg(value), min(value), max(value), count(*),
            count(distinct device_id)
        from readings group by all order by building, type""",
}
SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("device_id", "building", "type")]
    + [("floor", pa.int64()), ("value", pa.float64())]
)


def check_closed_hour(stream: Stream, readings: list[Row]) -> None:
    """Close the fullest hour: Gold's means and those by type, in the lake and as Delta table."""
    counts = Counter(hour_of(r["timestamp"]) for r in readings)
    ((hour, count),) = counts.most_common(1)
    # A corrected value is kept with how near it must be.
    own = [r | {"value": getattr(r["value"], "expected", r["value"])}
           for r in readings if hour_of(r["timestamp"]) == hour]  # fmt: skip
    stream.look(hour)
    (closed,) = stream.close(hour)
    assert (closed.state, closed.counts["valid"]) == ("complete", count)
    with duckdb.connect() as connection:
        connection.register("readings", pa.Table.from_pylist(own, SCHEMA))
        expected = {kpi: connection.execute(sql).fetchall() for kpi, sql in KPIS.items()}
    assert {kpi: len(rows) for kpi, rows in expected.items()} == {"hourly_means": 60, "by_type": 12}
    for kpi, rows in expected.items():
        found = read_closed(stream.settings.lake, closed_file(stream.spec, kpi_zone(kpi), hour))
        assert found is not None
        same_rows(found[1].to_pylist(), rows)
    gold = pa.table(table_of(stream, "hourly_means").to_pyarrow_table())
    assert set(gold["hour"].to_pylist()) == {hour}
    columns = ["device_id", "building", "floor", "type", "mean", "lowest", "highest", "readings"]
    same_rows(gold.sort_by("device_id").to_pylist(), expected["hourly_means"], columns)


# What the room's file has of a reading: its column, type and unit.
ROOM = (("Temperature", "temperature", "C"), ("Humidity", "humidity", "%"), ("CO2", "CO2", "PPM"))


def room_lines() -> list[str]:
    """Return the lines of a real room, a reading a minute; made ones where it is absent."""
    packed = DATA / "buildings" / "datatraining.txt.xz"
    if packed.is_file():
        return lzma.decompress(packed.read_bytes()).decode().splitlines()
    lines = ['"date","Temperature","Humidity","Light","CO2","HumidityRatio","Occupancy"']
    for n in range(3000):
        at = datetime(2015, 2, 4, 17, 51) + timedelta(minutes=n)
        lines.append(f'"{n}","{at}",{20 + n % 40 / 8},{27 + n % 7},{n % 500},{400 + n / 4},0.005,1')
    return lines


def test_a_real_room_lands_as_its_file_says(stream: Stream) -> None:
    """Three quantities of a minute are three messages; times have no zone and are UTC."""
    header, *lines = room_lines()
    lines = lines[:1500]
    # The file's rows have a number in front, of which the header knows nothing.
    cells = [row[1:] for row in csv.reader(lines)]
    path = stream.folder / "room.csv"
    with path.open("w", newline="") as out:
        csv.writer(out).writerows([next(csv.reader([header])), *cells])
    for column, kind, unit in ROOM:
        given = stream.spec.dump()
        given["producer"] = {
            "replay": {
                "columns": {"timestamp": "date", "value": column},
                "constants": {
                    "device_id": f"room-{kind}", "building": "office", "floor": 1,
                    "type": kind, "unit": unit,
                },
                "key": "device_id",
            }
        }  # fmt: skip
        declare(Spec.model_validate(given), stream.settings.streams)
        produce(stream, "replay", path)
    stream.land()
    names_ = next(csv.reader([header]))
    expected = [
        (
            datetime.fromisoformat(row[0]).replace(tzinfo=UTC),
            float(row[names_.index(column)]),
            kind,
            {"C": "°C", "PPM": "ppm"}.get(unit, unit),
            # The zone is added to each time, and two of the units are spelled otherwise.
            ["time:timestamp"] + ["unit:value"] * (unit != "%"),
        )
        for column, kind, unit in ROOM
        for row in cells
    ]
    rows = silver(stream)
    found = [(r["timestamp"], r["value"], r["type"], r["unit"], r["_corrected"]) for r in rows]
    assert found == expected
    assert {(r["building"], r["floor"], r["device_id"][:5]) for r in rows} == {
        ("office", 1, "room-")
    }


def shown(
    stream: Stream,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *arguments: str,
) -> list[Row]:
    """Return what `streamkeeper show --zone delta` says."""
    monkeypatch.setenv("STREAMKEEPER_STREAMS", str(stream.settings.streams))
    monkeypatch.setenv("STREAMKEEPER_LAKE", stream.settings.lake)
    capsys.readouterr()
    (path,) = [path for path, sink in stream.spec.delta_tables().items() if sink.of == "raw"]
    asked = ["--zone", "delta", "--table", path, *arguments, "--format", "json"]
    assert main(["show", stream.spec.name, *asked]) == 0
    found: list[Row] = json.loads(capsys.readouterr().out)
    return found


def test_system_buildings(
    stream: Stream, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    produce(stream, "simulate", "--limit", SENT)
    stream.land()
    readings = check_table(stream)
    assert len(readings) < len(messages(stream))
    check_layout(stream, readings)
    kinds = Counter(kind for r in readings for kind in r["_corrected"] or ())
    assert min(kinds["unit:value"], kinds["time:timestamp"]) > SENT // 20
    units = {"temperature": "°C", "humidity": "%", "energy": "kWh", "CO2": "ppm"}
    assert {(r["type"], r["unit"]) for r in readings} == set(units.items())
    # Restart from the checkpoint, with more messages and then without any.
    produce(stream, "simulate", "--hours-back", 0, "--limit", 5)
    stream.land()
    assert len(check_table(stream)) > len(readings)
    table = table_of(stream, "raw")
    version = table.version()
    stream.land()
    table.update_incremental()
    assert table.version() == version
    readings = check_table(stream)
    hours = Counter(format_hour(hour_of(r["timestamp"].astimezone(UTC))) for r in readings)
    counted = shown(stream, monkeypatch, capsys, "--count")
    assert {row["hour"]: row["rows"] for row in counted} == hours
    hour = min(hours)
    of_hour = shown(stream, monkeypatch, capsys, "--hour", hour, "--limit", "100000")
    offsets = [r["_offset"] for r in readings if format_hour(hour_of(r["timestamp"])) == hour]
    assert sorted(row["_offset"] for row in of_hour) == offsets
    types = {row["column"]: row["type"] for row in shown(stream, monkeypatch, capsys, "--schema")}
    fields = ("timestamp", "device_id", "building", "floor", "type", "value", "unit")
    assert [types[name] for name in fields] == [
        *("timestamp", "string", "string", "integer", "string", "double", "string")
    ]
    assert names.delta_app_id(stream.spec.name, "").startswith("streamkeeper/")
    check_closed_hour(stream, readings)
