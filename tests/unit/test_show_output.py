"""`streamkeeper show`: tables, JSON and CSV, wrong names, servers that are away."""

from __future__ import annotations

import csv
import io
import socket
from pathlib import Path

import pyarrow as pa
import pytest

from local_lake import (
    RAW,
    as_json,
    cities,
    closed_row,
    declared_stream,
    publish,
    row,
    shown,
    write_closed,
)
from streamkeeper.errors import StoreUnavailable
from streamkeeper.hours import Revision
from streamkeeper.launches import EXIT_UNAVAILABLE
from streamkeeper.spec.models import Spec
from streamkeeper_apps.cli import main
from streamkeeper_io import zones
from streamkeeper_io.store import Store


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spec:
    """A declared stream whose lake is a folder."""
    return declared_stream(tmp_path, monkeypatch)


def test_a_column_that_was_declared_anew_between_two_batches(
    spec: Spec, capsys: pytest.CaptureFixture[str]
) -> None:
    old = pa.schema([f.with_name("at") if f.name == "city" else f for f in RAW][1:])
    publish(spec, [row(0, "")], batch=0, schema=old)
    kinds = [f.with_type(pa.int64()) if f.name == "city" else f for f in RAW]
    publish(spec, [row(1, 7)], batch=1, schema=pa.schema(kinds))  # type: ignore[arg-type]
    publish(spec, [row(2, "Fes")], batch=2)
    for more in ((), ("--zone", "raw"), ("--hour", "2026-11-24T12")):
        assert cities(capsys, *more) == [None, "7", "Fes"]


def test_columns_and_their_types_a_line_each(
    spec: Spec, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(spec, [row(0, "Fes")], batch=0)
    lines = [line.split() for line in shown(capsys, "--schema").splitlines()]
    assert ["temperature", "double"] in lines
    assert ["at", "timestamp[us,", "tz=UTC]"] in lines
    topic = as_json(capsys, "--zone", "topic", "--schema")
    assert sorted(topic, key=lambda r: r["path"]) == [
        {"column": name, "type": kind, "path": name, "required": "no"}
        for name, kind in (("at", "timestamp"), ("city", "string"), ("temperature", "double"))
    ]


def test_rows_wider_than_the_terminal_are_shown_a_column_a_line(
    spec: Spec, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(spec, [row(0, "Fes"), row(1, "東京")], batch=0)
    assert "── 1 of 2" not in shown(capsys)
    monkeypatch.setenv("COLUMNS", "60")
    lines = shown(capsys).splitlines()
    assert "── 1 of 2" in lines
    assert "city         Fes" in lines
    assert "temperature  20.5" in lines


def test_tables_are_aligned_whatever_the_width_of_their_letters(
    spec: Spec, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(spec, [row(0, "Fes"), row(1, "東京都庁")], batch=0)
    lines = shown(capsys).splitlines()
    fes, tokyo = (next(line for line in lines if city in line) for city in ("Fes", "東京"))
    # Each of the four letters takes two columns.
    assert fes.index("20.5") == tokyo.index("20.5") + 4


def test_csv_holds_texts_and_numbers_as_they_are(
    spec: Spec, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(spec, [row(0, 'Fes, "x"\ny', temperature=0.1 + 0.2)], batch=0)
    (found,) = csv.DictReader(io.StringIO(shown(capsys, "--format", "csv")))
    assert found["city"] == 'Fes, "x"\ny'
    assert float(found["temperature"]) == 0.1 + 0.2
    assert found["at"] == "2026-11-24T12:00:00.000Z"
    header = shown(capsys, "--format", "csv", "--hour", "2026-01-01T00")
    assert header.splitlines() == [",".join(found)]


def test_csv_tells_null_from_an_empty_text(spec: Spec, capsys: pytest.CaptureFixture[str]) -> None:
    publish(spec, [row(0, ""), row(1, None), row(2, "x", temperature=None)], batch=0)
    lines = shown(capsys, "--format", "csv").splitlines()[1:]
    assert [line.split(",")[1:3] for line in lines] == [['""', "20.5"], ["", "20.5"], ["x", ""]]


def test_a_wrong_name_is_told_with_the_valid_ones(
    spec: Spec, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", "readings", "--zone", "kpis", "--kpi", "by_cty"]) == 1
    told = capsys.readouterr().err
    assert "no KPI 'by_cty'; declared: by_city; did you mean 'by_city'?" in told
    assert main(["show", "reading"]) == 1
    assert "declared: readings; did you mean 'readings'?" in capsys.readouterr().err
    for arguments, expected in (
        (("--hour", "noon"), "write it as 2026-11-24T14"),
        (("--hour", "2026-11-24T14..2026-11-24T12"), "ends before it begins"),
        (("--day", "24.11."), "write it as 2026-11-24 (UTC)"),
        (("--limit", "0"), "not a number from 1 to 100,000"),
        (("--zone", "currated"), "valid: rows, raw, curated, kpis, windows, delta, quarantine,"),
        (("--zone", "currated"), "did you mean 'curated'?"),
    ):
        with pytest.raises(SystemExit):
            main(["show", "readings", *arguments])
        assert expected in capsys.readouterr().err
    assert main(["show", "readings", "--zone", "quarantine", "--count", "--day", "2026-11-24"]) == 1
    assert "counted by rule" in capsys.readouterr().err


def test_the_name_of_a_kpi_or_a_window_tells_its_zone(
    spec: Spec, capsys: pytest.CaptureFixture[str]
) -> None:
    write_closed(spec, "analytics/by_city", 1, [{"city": "Fes", "n": 8}])
    assert as_json(capsys, "--kpi", "by_city") == [{"city": "Fes", "n": 8}]
    assert as_json(capsys, "--kpi", "by_city", "--zone", "kpis") == [{"city": "Fes", "n": 8}]
    assert "city_30s: live windows" in shown(capsys, "--window", "city_30s")
    for arguments, expected in (
        (("--kpi", "by_cty"), "no KPI 'by_cty'; declared: by_city; did you mean 'by_city'?"),
        (("--window", "x"), "declares no window 'x'; declared: city_30s"),
        (
            ("--kpi", "by_city", "--zone", "rows"),
            "--kpi by_city is of the zone kpis, not of rows; leave out it or --zone rows",
        ),
        (
            ("--window", "city_30s", "--zone", "topic"),
            "--window city_30s is of the zone windows, not of topic",
        ),
        (
            ("--kpi", "by_city", "--window", "city_30s"),
            "--kpi by_city and --window city_30s are of two zones; leave one of them out",
        ),
    ):
        assert main(["show", "readings", *arguments]) == 1
        assert expected in capsys.readouterr().err


def test_a_store_that_is_away_is_done_without_and_asked_once(
    spec: Spec, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(spec, [row(0, "Fes")], batch=0)
    write_closed(spec, "curated", 2, [closed_row(0, "Fes", 0)])
    asked = []

    class Away(Store):
        def revisions(self, stream: str) -> list[Revision]:
            asked.append(stream)
            raise StoreUnavailable("away")

        manifests = revisions  # type: ignore[assignment]

    monkeypatch.setattr("streamkeeper_io.store.Store", Away)
    monkeypatch.setattr(zones, "_FEW", 0)
    monkeypatch.setenv("STREAMKEEPER_STORE", "postgresql+psycopg://x@localhost:1/x")
    (found,) = as_json(capsys, "--count")
    assert (found["rows"], found["closed"], found["state"]) == (1, 1, "not told")
    assert asked == ["readings"]


def test_servers_that_are_away_are_told_with_the_next_step(
    spec: Spec, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        monkeypatch.setenv("STREAMKEEPER_LAKE", f"hdfs://{address}")
        monkeypatch.setenv("STREAMKEEPER_KAFKA", address)
        monkeypatch.setattr("streamkeeper_apps.show_topic._WAIT_S", 2)
        for zone, server in (("rows", "lake"), ("kpis", "lake"), ("topic", "Kafka")):
            assert main(["show", "readings", "--zone", zone]) == EXIT_UNAVAILABLE
            told = capsys.readouterr().err
            assert told.startswith(
                f"error: the {server} at" if server == "lake" else "error: Kafka"
            )
            assert address in told
            assert "does not answer" in told
