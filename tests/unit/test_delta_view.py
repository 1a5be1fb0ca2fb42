"""`show --zone delta`: newest rows, columns, counts by hour, and what is not there."""

from __future__ import annotations

import json
import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from deltalake import write_deltalake

from delta_stream import HOUR, LAKE, NOON, apply, declaration, publish, sink_of, stream
from streamkeeper.spec.models import Spec
from streamkeeper_apps.cli import main
from streamkeeper_io.delta import open_delta


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spec:
    """A stream with a table of three batches, in the hours 12, 12 to 13, and 14."""
    declared = stream(tmp_path, metadata=["timestamp"])
    streams = tmp_path / "streams"
    streams.mkdir()
    data = declaration(tmp_path, metadata=["timestamp"])
    (streams / "readings.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    monkeypatch.setenv("STREAMKEEPER_STREAMS", str(streams))
    monkeypatch.setenv("STREAMKEEPER_LAKE", LAKE)
    monkeypatch.setenv("STREAMKEEPER_STATE", str(tmp_path / "state"))
    times = [[NOON, NOON + HOUR / 2], [NOON + HOUR / 2, NOON + HOUR], [NOON + 2 * HOUR]]
    for n, of_batch in enumerate(times):
        rows = [{"place": "A" if n else "B", "value": n, "at": at} for at in of_batch]
        apply(sink_of(declared), declared, publish(declared, rows, n))
    return declared


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    assert main(["show", "readings", "--zone", "delta", *arguments, "--format", "json"]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def test_rows_are_those_written_last(spec: Spec, capsys: pytest.CaptureFixture[str]) -> None:
    assert [row["value"] for row in shown(capsys)] == [0, 0, 1, 1, 2]
    assert [row["value"] for row in shown(capsys, "--limit", "2")] == [1, 2]
    (row,) = shown(capsys, "--hour", "2026-11-24T13")
    assert (row["at"], row["place"], row["_offset"]) == ("2026-11-24T13:00:00.000Z", "A", 101)
    assert shown(capsys, "--hour", "2026-11-24T15") == []
    assert "_timestamp" in row


def test_counts_are_by_hour(spec: Spec, capsys: pytest.CaptureFixture[str]) -> None:
    expected = {"2026-11-24T12": 3, "2026-11-24T13": 1, "2026-11-24T14": 1}
    assert {row["hour"]: row["rows"] for row in shown(capsys, "--count")} == expected
    of_one = shown(capsys, "--count", "--hour", "2026-11-24T12")
    assert of_one == [{"hour": "2026-11-24T12", "rows": 3}]
    assert main(["show", "readings", "--table", "table", "--count"]) == 0
    assert "version 3: 5 rows in 3 hours, 3 files, 0.0 MiB" in capsys.readouterr().out


def test_columns_are_those_of_the_log(spec: Spec, capsys: pytest.CaptureFixture[str]) -> None:
    found = {row["column"]: row["type"] for row in shown(capsys, "--schema")}
    assert found == {
        "place": "string", "floor": "integer", "value": "double", "at": "timestamp",
        "_timestamp": "timestamp", "_topic_id": "string", "_partition": "integer",
        "_offset": "long", "_write_number": "long",
    }  # fmt: skip


def test_what_is_not_there_is_told(spec: Spec, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "readings", "--table", "tabel"]) == 1
    assert "declares no Delta table 'tabel'; declared: " in capsys.readouterr().err
    assert main(["show", "readings", "--table", "x", "--kpi", "y"]) == 1
    assert "are of two zones" in capsys.readouterr().err
    (declared,) = spec.sinks
    Path(declared.path).rename(Path(declared.path + "-away"))
    assert main(["show", "readings", "--zone", "delta"]) == 0
    assert "there is no such table yet" in capsys.readouterr().out


def test_a_table_without_bounds_and_numbers_is_shown_too(
    spec: Spec, capsys: pytest.CaptureFixture[str]
) -> None:
    """What another program wrote: no statistics, nulls in the event time."""
    (declared,) = spec.sinks
    path = declared.path
    shutil.rmtree(path)
    times: list[datetime | None] = [NOON - HOUR, None, NOON + timedelta(minutes=1)]
    rows = pa.table({"at": pa.array(times, pa.timestamp("us", "UTC")), "value": [7.0, 8.0, 9.0]})
    write_deltalake(
        f"file://{path}", rows, configuration={"delta.dataSkippingNumIndexedCols": "0"}
    )  # fmt: skip
    assert open_delta(LAKE, path) is not None
    assert [row["value"] for row in shown(capsys)] == [7, 8, 9]
    counts = {row["hour"]: row["rows"] for row in shown(capsys, "--count")}
    assert counts == {"2026-11-24T11": 1, "2026-11-24T12": 1}
