"""`streamkeeper show` over a lake of local files: what each zone tells."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from local_lake import (
    HOUR,
    NEW,
    NOON,
    OLD,
    as_json,
    cities,
    closed_row,
    declared_stream,
    publish,
    row,
    shown,
    write_closed,
)
from streamkeeper.generations import Generation
from streamkeeper.names import BatchName, checkpoint_path
from streamkeeper.spec.models import Spec
from streamkeeper_io import rows_once


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spec:
    """A declared stream whose lake is a folder."""
    return declared_stream(tmp_path, monkeypatch)


def test_the_rows_that_landed_last_are_shown(
    spec: Spec, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(spec, [row(0, "Older")], batch=7, generation=OLD, epoch=1)
    publish(spec, [row(1, "Fes"), row(2, "Rabat", _errors=["range:x: no"])], batch=0)
    publish(spec, [row(3, "Agadir [b]"), row(4, "Tanger|🙂\nx")], batch=1)
    text = shown(capsys, "--zone", "raw", "--limit", "3")
    assert [text.find(c) >= 0 for c in ("Fes", "Agadir [b]", "Tanger|🙂\\nx")] == [True] * 3
    assert "Older" not in text
    assert "Rabat" not in text
    assert cities(capsys, "--zone", "raw") == ["Older", "Fes", "Agadir [b]", "Tanger|🙂\nx"]


def test_an_hour_and_counts(spec: Spec, capsys: pytest.CaptureFixture[str]) -> None:
    publish(spec, [row(0, "Fes"), row(1, "Rabat", NOON + HOUR)], batch=0)
    publish(spec, [row(2, "Fes"), row(3, "Bad", _errors=["parse:json: cut"])], batch=1)
    publish(spec, [row(4, "Sale", NOON + 2 * HOUR)], batch=2)
    for zone in ("raw", "rows"):
        assert cities(capsys, "--zone", zone, "--hour", "2026-11-24T13") == ["Rabat"]
        hours = "2026-11-24T13..2026-11-24T14"
        assert sorted(cities(capsys, "--zone", zone, "--hour", hours)) == ["Rabat", "Sale"]
        assert len(cities(capsys, "--zone", zone, "--day", "2026-11-24")) == 4
        assert cities(capsys, "--zone", zone, "--day", "2026-11-25") == []
    counts = shown(capsys, "--zone", "raw", "--count")
    assert "raw: 4 valid rows, 1 quarantined records, in 3 batches" in counts
    assert [line.split() for line in counts.splitlines() if "T1" in line] == [
        ["2026-11-24T12", "2"],
        ["2026-11-24T13", "1"],
        ["2026-11-24T14", "1"],
    ]
    hour = shown(capsys, "--zone", "raw", "--count", "--hour", "2026-11-24T12")
    assert "raw: 2 valid rows\n" in hour


def test_rows_of_a_closed_hour_and_those_that_landed_since_are_shown_once(
    spec: Spec, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(spec, [row(0, "a"), row(1, "b")], batch=0)
    write_closed(spec, "curated", 1, [closed_row(0, "a", 0), closed_row(1, "b", 0)])
    publish(spec, [row(2, "late"), row(3, "next", NOON + HOUR)], batch=1)
    hour = ("--hour", "2026-11-24T12")
    assert cities(capsys, *hour) == ["a", "b", "late"]
    assert cities(capsys, *hour, "--limit", "2") == ["b", "late"]
    assert cities(capsys) == ["a", "b", "late", "next"]
    assert as_json(capsys, "--count") == [
        {
            "hour": "2026-11-24T12",
            "rows": 3,
            "closed": 2,
            "landed since": 1,
            "revision": 1,
            "state": "not told",
        },
        {
            "hour": "2026-11-24T13",
            "rows": 1,
            "closed": 0,
            "landed since": 1,
            "revision": None,
            "state": "not closed",
        },
    ]


def test_an_hour_that_is_closed_again_meanwhile_is_read_again(
    spec: Spec, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(spec, [row(0, "a")], batch=0)
    write_closed(spec, "curated", 1, [closed_row(0, "a", 0)])
    publish(spec, [row(1, "late")], batch=1)
    read, closes = rows_once.read_last, [[closed_row(0, "a", 0), closed_row(1, "late", 1)]]

    def closed_meanwhile(*arguments: Any) -> Any:
        if closes:
            write_closed(spec, "curated", 2, closes.pop())
        return read(*arguments)

    monkeypatch.setattr(rows_once, "read_last", closed_meanwhile)
    assert cities(capsys, "--hour", "2026-11-24T12") == ["a", "late"]
    assert not closes


def test_rows_whose_batches_are_gone_come_from_their_closed_hours(
    spec: Spec, capsys: pytest.CaptureFixture[str]
) -> None:
    write_closed(spec, "curated", 1, [closed_row(0, "gone", 0), closed_row(1, "kept", 1)])
    assert cities(capsys) == ["gone", "kept"]
    publish(spec, [row(1, "kept")], batch=1)
    publish(spec, [row(2, "new")], batch=2)
    assert cities(capsys) == ["gone", "kept", "new"]
    # Retention deletes a batch's files and leaves its manifest.
    (Path(spec.lake.path) / "raw" / BatchName(NEW, 1).folder / "part-0.parquet").unlink()
    assert cities(capsys) == ["gone", "kept", "new"]


def test_batches_without_their_files_are_told(
    spec: Spec, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = row(1, "x", _errors=["parse:json: cut off"], _value=b"x")
    for batch in range(3):
        publish(spec, [row(0, "Fes"), bad], batch=batch)
    hour = ("--hour", "2026-11-24T12")
    looks = [
        ("--zone", zone, *more) for zone in ("rows", "raw", "quarantine") for more in ((), hour)
    ]
    assert not any("without their files" in shown(capsys, *look) for look in looks)
    files = [
        Path(spec.lake.path) / "raw" / BatchName(NEW, batch).folder / "part-0.parquet"
        for batch in range(3)
    ]
    files[0].unlink()
    files[1].unlink()
    for look in looks:
        assert "; 2 batches without their files\n" in shown(capsys, *look)
        # A look that finds enough before them cannot tell.
        assert "without their files" not in shown(capsys, *look, "--limit", "1")
    files[2].unlink()
    for look in looks:
        assert "no rows; 3 batches without their files\n" in shown(capsys, *look)


def test_windows_without_their_files_are_told(
    spec: Spec, capsys: pytest.CaptureFixture[str]
) -> None:
    window = {"city": "Fes", "window_start": NOON, "n": 1}
    zone = "windows/city_30s"
    for batch in range(2):
        publish(spec, [window], batch=batch, zone=zone, schema=None)
    folder = Path(spec.lake.path) / zone / BatchName(NEW, 0).folder
    (folder / "part-0.parquet").unlink()
    text = shown(capsys, "--zone", "windows")
    assert "live windows, newest first; 1 batches without their files\n" in text


def test_rows_that_were_read_again_are_shown_as_they_were_read_last(
    spec: Spec, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(spec, [row(0, "a"), row(1, "b")], batch=0, generation=OLD, epoch=1, span=(0, 2))
    closed_rows = [closed_row(0, "a", 0, OLD), closed_row(1, "b", 0, OLD)]
    write_closed(spec, "curated", 1, closed_rows)
    publish(spec, [row(1, "B")], batch=0, generation=NEW, epoch=2, span=(1, 2))
    assert cities(capsys) == ["a", "B"]
    assert cities(capsys, "--hour", "2026-11-24T12") == ["a", "B"]
    (count,) = as_json(capsys, "--count")
    assert (count["rows"], count["closed"], count["landed since"]) == (3, 2, 1), "each reading"


def test_a_rewind_that_has_not_passed_its_target_counts_for_nothing(
    spec: Spec, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(spec, [row(0, "a"), row(1, "b")], batch=0, generation=OLD, epoch=1, span=(0, 2))
    publish(spec, [row(0, "A")], batch=0, generation=NEW, epoch=2, span=(0, 1))
    for name, epoch, target in ((OLD, 1, {}), (NEW, 2, {0: 2})):
        generation = Generation(
            stream=spec.name,
            query="land",
            generation=name,
            topic="readings",
            topic_id="id",
            start={0: 0},
            target=target,
            epoch=epoch,
        )
        path = Path(checkpoint_path(spec, "land")) / name / "generation.json"
        path.parent.mkdir(parents=True)
        path.write_text(generation.model_dump_json())
    assert cities(capsys) == ["a", "b"]
    publish(spec, [row(1, "B")], batch=1, generation=NEW, epoch=2, span=(1, 2))
    assert cities(capsys) == ["A", "B"]


def test_quarantine_shows_reasons_and_original_bytes(
    spec: Spec, capsys: pytest.CaptureFixture[str]
) -> None:
    value = b'{"city": \xff\n' + b"x" * 500
    bad = row(1, "x", _errors=["parse:json: cut off"], _value=value)
    publish(spec, [row(0, "Fes"), bad], batch=0)
    text = shown(capsys, "--zone", "quarantine")
    assert "parse:json: cut off" in text
    assert '{"city": \\xff\\n' + "x" * 500 in text
    (found,) = as_json(capsys, "--zone", "quarantine", "--hour", "2026-11-24T12")
    assert found["_errors"] == ["parse:json: cut off"]
    assert found["_value"] == '{"city": \\xff\\n' + "x" * 500
    assert as_json(capsys, "--zone", "quarantine", "--hour", "2026-11-24T13") == []
    assert "1 records" in shown(capsys, "--zone", "quarantine", "--count")


def test_live_windows_show_their_last_state(spec: Spec, capsys: pytest.CaptureFixture[str]) -> None:
    def window(city: str, n: int, minute: int) -> dict[str, Any]:
        start = NOON + timedelta(minutes=minute)
        return {"city": city, "window_start": start, "n": n}

    zone = "windows/city_30s"
    first, later = [window("Fes", 11, 1), window("Rabat", 12, 1)], [window("Fes", 21, 1)]
    publish(spec, first, batch=0, zone=zone, schema=None)
    publish(spec, [*later, window("Fes", 22, 2)], batch=3, zone=zone, schema=None)
    found = as_json(capsys, "--zone", "windows")
    assert [(r["city"], r["n"]) for r in found] == [("Fes", 22), ("Fes", 21), ("Rabat", 12)]


def test_closed_hours(spec: Spec, capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, "--zone", "curated")
    assert "no hour is closed; nothing has landed yet" in text
    write_closed(spec, "curated", 2, [{"city": "Fes"}, {"city": "Rabat"}])
    write_closed(spec, "analytics/by_city", 2, [{"city": "Fes", "n": 1234567}])
    write_closed(spec, "analytics/by_city", 1, [{"city": "Fes", "n": 8}], NOON + HOUR)
    assert "revision 2, 2 rows" in shown(capsys, "--zone", "curated")
    assert "1234567" in shown(capsys, "--zone", "kpis", "--hour", "2026-11-24T12")
    day = shown(capsys, "--zone", "kpis", "--day", "2026-11-24", "--limit", "1")
    assert "1 rows (and 1 more hours); 2 of these 24 hours are closed" in day
    assert as_json(capsys, "--zone", "kpis", "--day", "2026-11-24") == [
        {"hour": "2026-11-24T12", "city": "Fes", "n": 1234567},
        {"hour": "2026-11-24T13", "city": "Fes", "n": 8},
    ]
    assert "int64" in shown(capsys, "--zone", "kpis", "--kpi", "by_city", "--schema")
    assert "2026-11-24T12" in shown(capsys, "--zone", "kpis", "--hour", "2026-11-24T20")
    assert "2 rows in 1 hours" in shown(capsys, "--zone", "curated", "--count")


def test_an_hour_that_is_not_closed_says_why_and_where_its_rows_are(
    spec: Spec, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(spec, [row(0, "Fes")], batch=0)
    text = shown(capsys, "--zone", "curated", "--hour", "2026-11-24T12")
    assert "is not closed, and due since 2026-11-24T13:05 UTC: hours__readings closes it" in text
    assert "1 rows have landed: streamkeeper show readings --hour 2026-11-24T12" in text
    text = shown(capsys, "--zone", "curated", "--hour", "2199-01-01T00")
    assert "has not begun" in text
    assert "nothing of it has landed" in text
    none = shown(capsys, "--zone", "kpis", "--day", "2026-11-24", "--count")
    assert "no hour of these is closed" in none


def test_nothing_landed_yet_is_told(spec: Spec, capsys: pytest.CaptureFixture[str]) -> None:
    for more in ((), ("--zone", "raw"), ("--zone", "raw", "--schema"), ("--count",)):
        text = shown(capsys, *more)
        assert "nothing has landed yet below" in text
        assert "streamkeeper stream status readings" in text
