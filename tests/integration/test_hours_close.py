"""Closing hours with real servers: counts, later closes, closes that die, freeze or meet."""

from __future__ import annotations

import signal
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from closes import (
    FIRST,
    SECOND,
    Reading,
    Stream,
    computed,
    make_readings,
    make_stream,
)
from pyspark.sql import SparkSession

from streamkeeper.closing import window_hours
from streamkeeper.errors import RevisionConflict
from streamkeeper.hours import HOUR
from streamkeeper.launches import LIVE_RANK, write_number
from streamkeeper.names import CURATED, closed_file, kpi_zone
from streamkeeper.settings import Settings
from streamkeeper.spec.sinks import CassandraSink
from streamkeeper_io.closed import read_closed, read_footer
from streamkeeper_io.lake import folder_names
from streamkeeper_io.reports import build_report
from streamkeeper_io.store import Store
from streamkeeper_spark.sinks.cassandra import CassandraWindows

BAD = (b"no JSON", b'{"city": "Fes"}')


@pytest.fixture
def new_stream(
    spark: SparkSession, settings: Settings, store: Store, tmp_path: Path
) -> Callable[..., Stream]:
    """Make a stream of the test's own."""
    return lambda **options: make_stream(spark, settings, store, tmp_path, **options)


def rows_of(stream: Stream, zone: str, hour: datetime = FIRST) -> list[dict[str, Any]]:
    """Return the visible rows of a closed hour."""
    found = read_closed(stream.settings.lake, closed_file(stream.spec, zone, hour))
    return [] if found is None else found[1].to_pylist()


def within(readings: list[Reading], hour: datetime) -> list[Reading]:
    """Return the readings of an hour."""
    return [r for r in readings if hour <= r.timestamp < hour + HOUR]


def visible(stream: Stream, hour: datetime = FIRST) -> dict[str, int]:
    """Return the revisions of an hour's visible files."""
    zones = [CURATED, *(kpi_zone(kpi.name) for kpi in stream.spec.kpis)]
    paths = {zone: closed_file(stream.spec, zone, hour) for zone in zones}
    footers = {zone: read_footer(stream.settings.lake, path) for zone, path in paths.items()}
    return {zone: footer.revision for zone, footer in footers.items() if footer}


WINDOWS = """
select city, time_bucket(interval '30 seconds', timestamp) as start,
    avg(temperature), max(temperature), min(temperature), avg(humidity), count(*)
from readings group by all
"""


def assert_windows(stream: Stream, readings: list[Reading]) -> None:
    """Hold the Cassandra table against DuckDB's windows of the readings."""
    expected = {row[:2]: row[2:] for row in computed(readings, WINDOWS)}
    found = stream.windows()
    assert set(found) == set(expected)
    for key, measures in expected.items():
        assert found[key] == pytest.approx(measures), key


def assert_kpis(stream: Stream, readings: list[Reading], hour: datetime) -> None:
    """Hold the declared KPIs against DuckDB's."""
    overall = computed(
        readings,
        "select count(*), count(distinct city), count(distinct sensor_id), avg(temperature), "
        "max(temperature), min(temperature), avg(humidity) from readings",
    )
    by_city = computed(
        readings,
        "select city, avg(temperature) as mean, max(temperature), min(temperature), count(*) "
        "from readings group by city order by mean desc",
    )
    hottest = computed(
        readings,
        "select sensor_id, city, temperature, humidity, timestamp from readings "
        "order by temperature desc, timestamp limit 5",
    )
    for name, expected in (("overall", overall), ("by_city", by_city), ("hottest", hottest)):
        found = [tuple(row.values()) for row in rows_of(stream, kpi_zone(name), hour)]
        assert len(found) == len(expected)
        for mine, theirs in zip(found, expected, strict=True):
            assert [v if isinstance(v, str | datetime) else pytest.approx(v) for v in theirs] == [
                *mine
            ]


def assert_live_rows_are_outranked(stream: Stream, readings: list[Reading]) -> None:
    """Write a live row of a later launch over a closed window: the closed one stays."""
    (sink,) = [s for s in stream.spec.sinks if isinstance(s, CassandraSink)]
    city, start = min(stream.windows())
    row = {
        "city": city,
        "window_start": start,
        "window_end": start + timedelta(seconds=30),
        **dict.fromkeys(("avg_temp", "max_temp", "min_temp", "avg_humidity"), 999.0),
        "num_readings": 999,
    }
    live = CassandraWindows(stream.spec, sink, stream.settings.cassandra, stream.settings.lake)
    assert live.write([pa.Table.from_pylist([row])], write_number(90_000, 0) - LIVE_RANK) == 1
    live.close()
    assert_windows(stream, readings)


def test_a_later_close_merges_only_what_landed_since(new_stream: Callable[..., Stream]) -> None:
    stream = new_stream()
    early = make_readings(400, seed=2)
    stream.send(early)
    stream.land()
    stream.look(FIRST, SECOND)
    stream.close(FIRST, SECOND)
    assert stream.close(FIRST, SECOND) == []
    late = make_readings(30, seed=3, over=HOUR)
    stream.send(late, *BAD)
    stream.land()
    (again,) = stream.close(FIRST, SECOND)
    assert (again.hour, again.revision, again.counts["batches"]) == (FIRST, 2, 1)
    assert again.counts["added"] == 30
    everything = within(early, FIRST) + late
    rows = rows_of(stream, CURATED)
    assert sorted(r["temperature"] for r in rows) == sorted(r.temperature for r in everything)
    assert_kpis(stream, everything, FIRST)
    assert set(visible(stream).values()) == {2}
    assert set(visible(stream, SECOND).values()) == {1}


def test_a_close_that_died_before_its_moves_is_finished_by_the_next(
    new_stream: Callable[..., Stream],
) -> None:
    stream = new_stream(windows=True)
    readings = make_readings(200, seed=4, over=HOUR)
    stream.send(readings)
    stream.land()
    stream.look(FIRST)

    assert stream.closed_by_process("close_that_dies.py", FIRST) == -signal.SIGKILL
    assert stream.revision(FIRST).stores_pending
    assert visible(stream) == {}
    assert stream.close(FIRST) == []
    assert not stream.revision(FIRST).stores_pending
    assert set(visible(stream).values()) == {1}
    assert len(rows_of(stream, CURATED)) == 200
    assert_windows(stream, readings)
    assert_live_rows_are_outranked(stream, readings)
    assert folder_names(stream.settings.lake, f"{stream.spec.lake.path}/curated/_tmp") == []


def test_a_close_that_froze_changes_nothing_once_another_has_closed(
    new_stream: Callable[..., Stream], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = new_stream()
    stream.send(make_readings(100, seed=5, over=HOUR))
    stream.land()
    stream.look(FIRST)
    frozen, other = stream.closer, stream.closer
    commit = frozen.store.commit_revisions

    def wakes_late(revisions: Any) -> Any:
        assert len(other.run([FIRST])) == 1
        stream.send(make_readings(50, seed=6, over=HOUR))
        stream.land()
        assert len(other.run([FIRST])) == 1
        return commit(revisions)

    monkeypatch.setattr(frozen.store, "commit_revisions", wakes_late)
    with pytest.raises(RevisionConflict, match="another close was faster"):
        frozen.run([FIRST])
    assert stream.revision(FIRST).revision == 2
    assert set(visible(stream).values()) == {2}
    assert len(rows_of(stream, CURATED)) == 150


def test_a_partial_hour_says_what_is_missing_and_writes_no_windows(
    new_stream: Callable[..., Stream],
) -> None:
    stream = new_stream(windows=True)
    early, late = make_readings(90, seed=7, over=HOUR), make_readings(60, seed=8, over=HOUR)
    stream.send(early)
    stream.land()
    stream.send(late)
    stream.look(FIRST)
    live = stream.windows()
    (partial,) = stream.close(FIRST)
    assert partial.state == "partial"
    assert sum(end - first for gaps in partial.missing.values() for first, end in gaps) == 60
    assert stream.windows() == live
    assert not stream.revision(FIRST).stores_pending
    built = build_report(stream.settings, stream.store, stream.spec, partial)
    assert "This hour is partial" in built.markdown
    stream.land()
    (complete,) = stream.close(FIRST)
    assert (complete.revision, complete.state, complete.missing) == (2, "complete", {})
    assert_windows(stream, early + late)


def test_an_hour_without_rows_is_closed_without_files(new_stream: Callable[..., Stream]) -> None:
    stream = new_stream()
    stream.send(make_readings(20, seed=9, begin=SECOND, over=HOUR), *BAD)
    stream.land()
    stream.look(FIRST)
    (empty,) = stream.close(FIRST)
    assert (empty.state, empty.counts["valid"], empty.files) == ("complete", 0, {})
    assert visible(stream) == {}
    built = build_report(stream.settings, stream.store, stream.spec, empty)
    assert built.subject == f"{stream.spec.name} {FIRST:%H:%M}"
    assert "No readings of this hour" in built.markdown
    assert stream.close(FIRST) == []


def test_a_window_over_two_hours_waits_for_both(new_stream: Callable[..., Stream]) -> None:
    stream = new_stream(windows=True, sizes=["45min", "20min/5min"])
    readings = make_readings(300, seed=10)
    stream.send(readings)
    stream.land()
    hours = [FIRST, SECOND, SECOND + HOUR]
    stream.look(*hours)
    for number in range(1, len(hours) + 1):
        stream.close(*hours[:number])
        closed = set(hours[:number])
        for name, minutes in (("wide_0", 45), ("wide_1", 20)):
            for (_, start), timestamp in stream.write_times(name).items():
                by_close = all(h in closed for h in window_hours(timedelta(minutes=minutes), start))
                assert (timestamp > 0) == by_close, (name, start)
    expected = computed(
        readings,
        "select city, time_bucket(interval '45 minutes', timestamp) as start, count(*) "
        "from readings group by all",
    )
    assert stream.windows("wide_0") == {row[:2]: row[2:] for row in expected}
    # Each reading is in the four windows of 20 min that begin up to 20 min before it.
    expected = computed(
        readings,
        "select city, time_bucket(interval '5 minutes', timestamp) - back * interval '5 minutes' "
        "as start, count(*) from readings, range(4) as r(back) group by all",
    )
    assert stream.windows("wide_1") == {row[:2]: row[2:] for row in expected}
