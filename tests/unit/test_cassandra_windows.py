"""Windows read from Cassandra by known keys: which statements are asked, and what comes of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

import pyarrow as pa
import pytest
from cassandra import InvalidRequest

from streamkeeper.dashboards import Span
from streamkeeper.settings import Settings
from streamkeeper.spec.loader import load_spec
from streamkeeper_apps.local.places import CHECKOUT
from streamkeeper_io import cassandra_windows
from streamkeeper_io.cassandra_windows import cassandra_sink, read_windows

BEGIN = datetime(2026, 11, 26, 23, tzinfo=UTC)
SPAN = Span(BEGIN, BEGIN + timedelta(hours=2))
SETTINGS = Settings(cassandra="127.0.0.1:9042")
SPEC = load_spec(CHECKOUT / "include" / "streams" / "temperature.yaml")


class Answer(NamedTuple):
    success: bool
    rows: Sequence[tuple[Any, ...]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is asked of a cluster that has one row in each partition of Fes."""
    told: list[Any] = []

    class Session:
        def prepare(self, text: str) -> str:
            if told == ["no table"]:
                raise InvalidRequest("unconfigured table")
            return text

    @contextmanager
    def session(settings: Settings) -> Iterator[Session]:
        assert settings is SETTINGS
        yield Session()

    def execute(_: Session, text: str, parameters: Any, *, concurrency: int) -> list[Answer]:
        told.append((text, parameters))
        assert concurrency > 1
        at = BEGIN.replace(tzinfo=None)
        row = ("Fes", at, 20.5, 21.0, 20.0, 50.0, 7)
        return [Answer(True, [row] if p[0] == "Fes" else []) for p in parameters]

    monkeypatch.setattr(cassandra_windows, "session", session)
    monkeypatch.setattr(cassandra_windows, "execute_concurrent_with_args", execute)
    return told


def read() -> pa.Table:
    sink = cassandra_sink(SPEC, "city_30s")
    assert sink is not None
    return read_windows(SETTINGS, SPEC, sink, [("Fes",), ("Rabat",)], SPAN)


def test_whole_partitions_are_asked(asked: list[Any]) -> None:
    rows = read().to_pylist()
    ((text, parameters),) = asked
    assert text == (
        'SELECT "city", "window_start", "avg_temp", "max_temp", "min_temp", "avg_humidity", '
        '"num_readings" FROM "iot"."temperature_city_30s" WHERE "city" = ? AND "day" = ? '
        'AND "window_start" >= ? AND "window_start" < ?'
    )
    days = (date(2026, 11, 26), date(2026, 11, 27))
    assert parameters == [(c, day, *SPAN) for c in ("Fes", "Rabat") for day in days]
    assert [(r["city"], r["window_start"], r["num_readings"]) for r in rows] == [
        ("Fes", BEGIN, 7)
    ] * 2


def test_a_table_that_is_not_made_yet_has_no_rows(asked: list[Any]) -> None:
    asked.append("no table")
    assert read().num_rows == 0
