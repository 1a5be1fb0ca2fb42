"""Gold of a real room: hourly means and anomalies, in the lake and in Delta tables.

Every figure is computed anew by DuckDB and numpy over the rows that were sent.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from closes import Stream
from declared import declared_stream, own_names
from drivers import manifests, send
from pyspark.sql import SparkSession
from room import HISTORY, KEYS, Mean, Means, hourly_means, verdicts, write_long
from topics import InThread

from streamkeeper.errors import TableDiffers
from streamkeeper.names import closed_file, format_hour, kpi_zone
from streamkeeper.settings import Settings
from streamkeeper_apps.cli import main
from streamkeeper_io.closed import read_closed
from streamkeeper_io.delta import DeltaShape, DeltaWriter, open_delta
from streamkeeper_io.lake import hdfs_client
from streamkeeper_io.reports import build_report
from streamkeeper_io.store import Store

BUILDINGS = Path(__file__).parents[2] / "include" / "streams" / "buildings.yaml"
GOLD = ("hourly_means", "anomalies")
REPLAY = {
    "columns": {
        "timestamp": {"column": "date", "format": "%Y-%m-%d %H:%M:%S", "zone": "UTC"},
        **{name: {"column": name} for name in ("type", "value", "unit")},
    },
    "constants": dict(zip(("device_id", "building", "floor"), KEYS, strict=True)),
    "key": "type",
}
PLANTED, TIMES = 39_000.0, 60


@pytest.fixture
def stream(spark: SparkSession, settings: Settings, store: Store, tmp_path: Path) -> Stream:
    """The declared stream under names of its own: its Gold, and a room that has light too."""
    given = own_names(BUILDINGS)
    given["fields"]["type"]["allowed"].append("light")
    given["fields"]["value"]["units"]["landed"].append("lx")
    given["sinks"] = [sink for sink in given["sinks"] if sink["of"] in GOLD]
    given["producer"] = {"replay": REPLAY}
    return declared_stream(given, spark, settings, store, tmp_path)


def replay(stream: Stream, file: Path, rows: int) -> None:
    """Replay a file into the topic and land all of it."""
    producing = InThread(stream.settings, ["replay", stream.spec.name, str(file)])
    try:
        assert producing.code() == 0, producing.said
    finally:
        producing.end()
    assert f"sent {rows:,}, acknowledged {rows:,}" in producing.said
    stream.land()
    found = manifests(stream.settings, stream.spec)
    assert (sum(m.valid for m in found), sum(m.quarantined for m in found)) == (rows, 0)


def rows_of(stream: Stream, table: str, hour: datetime) -> tuple[int, list[dict[str, Any]]]:
    """Return an hour's revision and rows of a KPI or of anomalies."""
    found = read_closed(stream.settings.lake, closed_file(stream.spec, kpi_zone(table), hour))
    assert found is not None, (table, hour)
    return found[0].revision, found[1].to_pylist()


def about(number: float | None) -> Any:
    return None if number is None else pytest.approx(number, rel=1e-9, abs=1e-9)


def check_hour(stream: Stream, hour: datetime, revision: int, means: Means, told: Any) -> int:
    """Hold an hour's means and verdicts against the account; return how many are anomalous."""
    found = {row["type"]: row for row in rows_of(stream, "hourly_means", hour)[1]}
    assert found == {
        kind: dict(zip(("device_id", "building", "floor", "type"), (*KEYS, kind), strict=True))
        | {"mean": about(m.mean), "lowest": m.least, "highest": m.most, "readings": m.readings}
        for (at, kind), m in means.items()
        if at == hour
    }
    number, judged = rows_of(stream, "anomalies", hour)
    assert number == revision
    assert [row["type"] for row in judged] == list(found)
    for row in judged:
        middle, mad, score, hours, anomalous, basis = told[hour, row["type"]]
        assert row["value"] == found[row["type"]]["mean"]
        assert (row["median"], row["mad"]) == (about(middle), about(mad))
        assert row["score"] == about(score)
        assert (row["hours"], row["anomalous"], row["basis"]) == (hours, anomalous, basis)
        if hours:
            assert row["first_hour"] >= hour - HISTORY
            assert row["last_hour"] < hour
    return sum(bool(row["anomalous"]) for row in judged)


def plant(stream: Stream, hour: datetime, means: Means) -> Means:
    """Send late readings of an hour, far from all others, and land them."""
    keys = dict(zip(("device_id", "building", "floor"), KEYS, strict=True))
    same = keys | {"type": "CO2", "value": PLANTED, "unit": "ppm"}
    times = (hour + timedelta(minutes=n, milliseconds=11) for n in range(TIMES))
    messages = [json.dumps({"timestamp": at.isoformat()} | same).encode() for at in times]
    send(stream.settings, stream.spec.source.kafka.topic, messages)
    stream.land()
    before = means[hour, "CO2"]
    count = before.readings + TIMES
    mean = (before.mean * before.readings + TIMES * PLANTED) / count
    return {**means, (hour, "CO2"): Mean(mean, before.least, PLANTED, count)}


def path_of(stream: Stream, of: str) -> str:
    (path,) = [path for path, sink in stream.spec.delta_tables().items() if sink.of == of]
    return path


def in_table(stream: Stream, of: str) -> dict[datetime, list[dict[str, Any]]]:
    """Return the rows of a Delta table by hour, as deltalake itself reads them."""
    table = open_delta(stream.settings.lake, path_of(stream, of))
    assert table is not None
    found: dict[datetime, list[dict[str, Any]]] = {}
    for row in pa.table(table.to_pyarrow_table()).sort_by("type").to_pylist():
        found.setdefault(row.pop("hour"), []).append(row)
    return found


def check_tables(stream: Stream, hours: Sequence[datetime]) -> None:
    """The Delta tables hold the rows of the hours' last revisions, and no others."""
    for of in GOLD:
        found = in_table(stream, of)
        assert set(found) == set(hours)
        for hour in hours:
            revision, rows = rows_of(stream, of, hour)
            expected = [row | {"_revision": revision} for row in rows]
            assert found[hour] == sorted(expected, key=lambda row: str(row["type"]))


def close_beside_another_table(stream: Stream, hour: datetime) -> None:
    """Close an hour while a table of others stands in the way, and again without it."""
    path, lake = path_of(stream, "anomalies"), stream.settings.lake
    hdfs = hdfs_client(lake)
    hdfs.rename(path, f"{path}-aside")
    DeltaWriter(lake, path, DeltaShape(pa.schema([("hour", pa.string())]))).table()
    with pytest.raises(TableDiffers, match="it lacks _revision, so another program made it"):
        stream.close(hour)
    assert stream.revision(hour).stores_pending
    hdfs.delete(path, recursive=True)
    hdfs.rename(f"{path}-aside", path)
    assert stream.close(hour) == [], "nothing is new; what was committed is finished"
    assert not stream.revision(hour).stores_pending


def test_hours_of_a_real_room(
    stream: Stream, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in stream.settings.environment().items():
        monkeypatch.setenv(name, value)
    file = stream.folder / "room.csv"
    replay(stream, file, write_long(file))
    means = hourly_means(file)
    told, hours = verdicts(means), sorted({hour for hour, _ in means})
    stream.look(*hours)
    stream.close(*hours)
    check_tables(stream, hours)
    anomalous = sum(check_hour(stream, hour, 1, means, told) for hour in hours)
    assert anomalous == sum(bool(verdict[4]) for verdict in told.values()) > 0

    # Late rows of a usual hour of the last day: that hour gets a second revision, no other.
    unusual = {hour for (hour, _), verdict in told.items() if verdict[4]}
    hour = next(hour for hour in hours[-24:-1] if hour not in unusual)
    later = rows_of(stream, "anomalies", hours[-1])
    means = plant(stream, hour, means)
    stream.look(hour)
    close_beside_another_table(stream, hour)
    revision = stream.revision(hour)
    again = verdicts(means)
    assert check_hour(stream, hour, 2, means, again) == 1
    assert revision.counts["anomalies"] == {"anomalies": 1}
    assert rows_of(stream, "anomalies", hours[-1]) == later
    check_tables(stream, hours)

    report = build_report(stream.settings, stream.store, stream.spec, revision)
    assert report.subject.startswith("[1 alert]")
    assert "## Anomalies\n\n1 anomaly in 4 KPI rows of hourly" in report.markdown
    capsys.readouterr()
    arguments = ["--kpi", "anomalies", "--hour", format_hour(hour), "--format", "json"]
    assert main(["show", stream.spec.name, *arguments]) == 0
    shown = {row["type"]: row for row in json.loads(capsys.readouterr().out)}
    assert shown["CO2"]["anomalous"] is True
    assert shown["CO2"]["score"] == pytest.approx(again[hour, "CO2"][2])
