"""Gold of a real room: hourly means and anomalies, in the lake and in Delta tables.

Every figure is computed anew by DuckDB and numpy over the rows that were sent.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from closes import Stream, close_session
from drivers import manifests
from pyspark.sql import SparkSession
from room import HISTORY, KEYS, Means, hourly_means, verdicts, write_long
from topics import InThread, declare

from streamkeeper.names import closed_file, kpi_zone
from streamkeeper.settings import Settings
from streamkeeper.spec.loader import load_spec
from streamkeeper.spec.models import Spec
from streamkeeper_io import kafka
from streamkeeper_io.closed import read_closed
from streamkeeper_io.delta import open_delta
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


@pytest.fixture(scope="module")
def spark(settings: Settings) -> Iterator[SparkSession]:
    """One session for landing and closing, as a close has it."""
    with close_session(settings) as session:
        yield session


@pytest.fixture
def stream(spark: SparkSession, settings: Settings, store: Store, tmp_path: Path) -> Stream:
    """The declared stream under names of its own: its Gold, and a room that has light too."""
    tag = secrets.token_hex(4)
    given = load_spec(BUILDINGS).dump()
    given["name"] = given["app"] = f"buildings_{tag}"
    given["source"]["kafka"]["topic"] = f"sensor_data-{tag}"
    given["lake"]["path"] = f"/sensor_data-{tag}"
    given["fields"]["type"]["allowed"].append("light")
    given["sinks"] = [sink for sink in given["sinks"] if sink["of"] in GOLD]
    for sink in given["sinks"]:
        sink["path"] = f"/sensor_data_gold-{tag}/{sink['of']}"
    given["producer"] = {"replay": REPLAY}
    spec = Spec.model_validate(given)
    kafka.ensure_topic(kafka.Admin(settings), spec.source.kafka)
    declare(spec, tmp_path / "declared")
    here = settings.model_copy(update={"streams": tmp_path / "declared"})
    return Stream(spark, here, store, spec, tmp_path)


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


def test_hours_of_a_real_room(stream: Stream) -> None:
    file = stream.folder / "room.csv"
    replay(stream, file, write_long(file))
    means = hourly_means(file)
    told, hours = verdicts(means), sorted({hour for hour, _ in means})
    stream.look(*hours)
    stream.close(*hours)
    check_tables(stream, hours)
    anomalous = sum(check_hour(stream, hour, 1, means, told) for hour in hours)
    assert anomalous == sum(bool(verdict[4]) for verdict in told.values()) > 0
