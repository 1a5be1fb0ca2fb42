"""Landed rows and windows from the topic into PostgreSQL, and their close."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from closes import FIRST, SECOND, Stream, close_session, make_readings, make_stream
from drivers import manifests
from psycopg.rows import dict_row
from sinks import check_sink

from streamkeeper.launches import write_number
from streamkeeper.settings import Settings
from streamkeeper.spec.models import Spec
from streamkeeper.spec.sinks import PostgresSink
from streamkeeper_io.store import Store
from streamkeeper_spark.sinks.postgres import PostgresRaw, PostgresWindows


@pytest.fixture
def stream(settings: Settings, store: Store, tmp_path: Path) -> Iterator[Stream]:
    """A stream that writes its rows and windows into PostgreSQL, and its windows into Cassandra."""
    with close_session(settings) as spark:
        made = make_stream(spark, settings, store, tmp_path, windows=True)
        plain = made.spec.dump()
        plain["sinks"] += [
            {"kind": "postgresql", "of": "raw", "table": f"raw_{made.spec.name}",
             "indexes": [["city", "timestamp"]]},
            {"kind": "postgresql", "of": "city_30s", "table": f"plant.w_{made.spec.name}"},
        ]  # fmt: skip
        made.spec = Spec.model_validate(plain)
        yield made


def rows_of(stream: Stream, sink: PostgresSink) -> list[dict[str, Any]]:
    """Return all rows of a sink's table, with what ranks them."""
    url = stream.settings.postgres_url(sink.connection).replace("+psycopg", "")
    with psycopg.connect(url, row_factory=dict_row) as connection:
        found = connection.execute(f"SELECT * FROM {sink.table}").fetchall()
    return sorted(found, key=lambda row: [str(value) for value in row.values()])


def windows_of(stream: Stream, sink: PostgresSink) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """Return (city, start) -> measures, as `Stream.windows` does of Cassandra's table."""
    measures = list(stream.spec.window("city_30s").measures)
    return {
        (row["city"], row["window_start"]): tuple(row[name] for name in measures)
        for row in rows_of(stream, sink)
    }


def test_rows_and_windows_reach_postgres_and_are_closed(stream: Stream) -> None:
    raw, windows = [s for s in stream.spec.sinks if isinstance(s, PostgresSink)]
    readings = make_readings(1200, seed=3)
    for part in (readings[:700], readings[700:]):
        stream.send(part, b"no JSON")
        stream.land()
    found = rows_of(stream, raw)
    assert {(r["sensor_id"], r["temperature"], r["timestamp"]) for r in found} == {
        (r.sensor_id, r.temperature, r.timestamp) for r in readings
    }
    assert len(found) == len(readings)
    assert not any(row["_closed"] for row in rows_of(stream, windows))
    table = PostgresWindows(stream.spec, windows, stream.settings, stream.settings.lake)
    landed = PostgresRaw(stream.spec, raw, stream.settings, stream.settings.lake)
    batches = manifests(stream.settings, stream.spec, "city_30s")
    check_sink(landed, stream.spec, manifests(stream.settings, stream.spec),
               lambda: rows_of(stream, raw))  # fmt: skip
    check_sink(table, stream.spec, batches, lambda: rows_of(stream, windows))
    # The store's copy of the mark is the database's own.
    for sink in (table, landed):
        assert sink.mark() == stream.store.mark(stream.spec.name, sink.name) != {}
    stream.look(FIRST, SECOND)
    stream.close(FIRST, SECOND)
    closed = windows_of(stream, windows)
    other = stream.windows()
    assert set(closed) == set(other)
    for key, measures in other.items():
        assert closed[key] == pytest.approx(measures), key
    assert sum(measures[-1] for measures in closed.values()) == len(readings)
    assert all(row["_closed"] for row in rows_of(stream, windows))
    # A live batch of a later launch changes nothing of it.
    before = rows_of(stream, windows)
    late = batches[-1].model_copy(update={"write_number": write_number(90_000, 0)})
    check_sink(table, stream.spec, [*batches, late], lambda: rows_of(stream, windows))
    assert rows_of(stream, windows) == before
    table.close()
    landed.close()
