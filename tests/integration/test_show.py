"""`streamkeeper show` on real servers: every zone holds what was sent, each row once."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from closes import FIRST, SECOND, Reading, Stream, make_readings, make_stream
from pyspark.sql import SparkSession
from topics import declare

from streamkeeper.hours import HOUR
from streamkeeper.names import format_hour
from streamkeeper.settings import Settings
from streamkeeper_apps.cli import main
from streamkeeper_io.store import Store

BAD = (b"no JSON \xff\x00\\", b'{"city": "Fes"}')
EARLY, LATE, OPEN = 400, 30, 50
THIRD = SECOND + HOUR
SHOWN_BAD = {"no JSON \\xff\\x00\\\\", '{"city": "Fes"}'}


class Show:
    """Runs the command and reads what it prints."""

    def __init__(self, stream: Stream, capsys: pytest.CaptureFixture[str]) -> None:
        self._name, self._capsys = stream.spec.name, capsys

    def text(self, *arguments: str) -> str:
        """Return what it printed."""
        self._capsys.readouterr()
        assert main(["show", self._name, *arguments]) == 0
        return self._capsys.readouterr().out

    def rows(self, *arguments: str) -> list[dict[str, Any]]:
        """Return the rows that it printed as JSON."""
        found = json.loads(self.text(*arguments, "--format", "json"))
        assert isinstance(found, list)
        return found


def land_and_close(stream: Stream) -> list[Reading]:
    """Send and land readings of three hours, of which two are closed; return all of them."""
    early, late = make_readings(EARLY, seed=5), make_readings(LATE, seed=6, over=HOUR)
    stream.send(early, *BAD)
    stream.land()
    stream.look(FIRST, SECOND)
    stream.close(FIRST, SECOND)
    still_open = make_readings(OPEN, seed=7, begin=THIRD, over=HOUR)
    stream.send([*late, *still_open])
    stream.land()
    return [*early, *late, *still_open]


def assert_rows_once(show: Show, everything: list[Reading], state: str) -> None:
    """Hold the rows of all hours together against what was sent."""
    sent = Counter((r.sensor_id, r.temperature, r.humidity) for r in everything)
    for hours in ((), ("--hour", f"{format_hour(FIRST)}..{format_hour(THIRD)}")):
        rows = show.rows("--limit", "1000", *hours)
        assert Counter((r["sensor_id"], r["temperature"], r["humidity"]) for r in rows) == sent
    first = show.rows("--hour", format_hour(FIRST), "--limit", "1000")
    assert len(first) == EARLY // 2 + LATE
    assert [tuple(row.values()) for row in show.rows("--count")] == [
        (format_hour(FIRST), EARLY // 2 + LATE, EARLY // 2, LATE, 1, state),
        (format_hour(SECOND), EARLY // 2, EARLY // 2, 0, 1, state),
        (format_hour(THIRD), OPEN, 0, OPEN, None, "not closed"),
    ]


def assert_topic(show: Show, everything: list[Reading]) -> None:
    """Hold the messages shown against what was sent."""
    messages = show.rows("--zone", "topic", "--limit", "1000")
    sent = {*(r.message().decode() for r in everything), *SHOWN_BAD}
    assert {r["value"] for r in messages} == sent
    total = len(everything) + len(BAD)
    assert sum(r["offsets"] for r in show.rows("--zone", "topic", "--count")) == total
    today = "..".join(format_hour(FIRST + n * HOUR) for n in (0, 8))
    assert len(show.rows("--zone", "topic", "--hour", today, "--limit", "1000")) == total
    assert show.rows("--zone", "topic", "--hour", "2001-01-01T00") == []


@pytest.mark.parametrize("with_store", [True, False])
def test_every_zone_holds_what_was_sent(
    *,
    spark: SparkSession,
    settings: Settings,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    with_store: bool,
) -> None:
    stream = make_stream(spark, settings, store, tmp_path)
    declare(stream.spec, tmp_path / "declared")
    given = settings.model_copy(update={"streams": tmp_path / "declared"})
    for name, value in (given.environment() | {"COLUMNS": "200"}).items():
        monkeypatch.setenv(name, value)
    if not with_store:
        monkeypatch.delenv("STREAMKEEPER_STORE")
    show = Show(stream, capsys)
    if with_store:
        assert "nothing has landed yet" in show.text()
    everything = land_and_close(stream)
    state = "complete" if with_store else "not told"
    assert_rows_once(show, everything, state)
    assert_topic(show, everything)
    assert len(show.rows("--zone", "raw", "--limit", "1000")) == len(everything)
    assert f"{len(everything)} valid rows, 2 quarantined" in show.text("--zone", "raw", "--count")
    assert len(show.rows("--zone", "curated", "--hour", format_hour(FIRST), "--limit", "7")) == 7
    closed = show.rows("--zone", "curated", "--count")
    assert [r["rows"] for r in closed] == [EARLY // 2] * 2
    assert [r["state"] for r in closed] == [state] * 2
    not_closed = show.text("--zone", "curated", "--hour", format_hour(THIRD))
    assert f"{OPEN} rows have landed: streamkeeper show {stream.spec.name} --hour" in not_closed
    kpis = show.rows("--zone", "kpis", "--kpi", "by_city", "--count")
    assert [(r["rows"], r["revision"], r["state"]) for r in kpis] == [(6, 1, state)] * 2
    (kpi,) = show.rows("--zone", "kpis", "--kpi", "overall", "--hour", format_hour(FIRST))
    assert EARLY // 2 in kpi.values()
    assert {"column": "temperature", "type": "double"} in show.rows("--schema")
    assert {r["_value"] for r in show.rows("--zone", "quarantine")} == SHOWN_BAD
    assert all(r["_errors"] for r in show.rows("--zone", "quarantine"))
