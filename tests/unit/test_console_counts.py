"""What the console tells of a batch, from the published files."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamkeeper.manifest import Manifest
from streamkeeper.spec.loader import load_spec
from streamkeeper.spec.sinks import ConsoleSink
from streamkeeper_spark.sinks.console import ConsoleCounts, console_sink

SPEC = load_spec(Path(__file__).parents[1] / "streams" / "everything.yaml")
SINK = ConsoleSink(kind="console", counts="status")


def manifest(files: list[str], read: int, quarantined: int) -> Manifest:
    return Manifest(
        stream="logs", zone="raw", generation="00000000-0000-0000-0000-00000000000a", batch=7,
        epoch=1, write_number=1, topic="logs_raw", topic_id="t", span={0: (0, read)}, read=read,
        valid=read - quarantined, quarantined=quarantined, quarantined_by_rule={}, hours={},
        first_event=None, last_event=None, files=tuple(files), spec_sha256="",
        written_at=datetime(2026, 11, 24, tzinfo=UTC),
    )  # fmt: skip


def published(folder: Path, *files: list[tuple[int | None, bool]]) -> list[str]:
    for n, rows in enumerate(files):
        table = pa.table(
            {
                "status": pa.array([status for status, _ in rows], pa.int32()),
                "_errors": pa.array(
                    [["type:ts"] if bad else None for _, bad in rows], pa.list_(pa.string())
                ),
            }
        )
        pq.write_table(table, folder / f"{n}.parquet")
    return [f"{n}.parquet" for n in range(len(files))]


def told(sink: ConsoleSink, folder: Path, files: list[str], read: int, quarantined: int) -> int:
    made = console_sink(SPEC, sink, "file:///")
    assert isinstance(made, ConsoleCounts)
    assert made.name == "console:counts:status"
    return made.apply(manifest(files, read, quarantined), str(folder))


def test_valid_rows_are_counted_by_value(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = [(200, False)] * 1200 + [(404, False), (None, False), (500, True)]
    files = published(tmp_path, first, [(404, False), (304, False)])
    assert told(SINK, tmp_path, files, 1205, 1) == 1204
    assert capsys.readouterr().out == (
        "everything batch 7: 1,204 valid, 1 quarantined; "
        "status 200: 1,200, 404: 2, 304: 1, null: 1\n"
    )
    few = SINK.model_copy(update={"rows": 1})
    told(few, tmp_path, files, 1205, 1)
    assert capsys.readouterr().out.endswith("status 200: 1,200, 3 others: 4\n")
    only_bad = published(tmp_path, [(500, True)])
    assert told(SINK, tmp_path, only_bad, 1, 1) == 0
    assert capsys.readouterr().out == "everything batch 7: 0 valid, 1 quarantined; status none\n"
    assert told(SINK, tmp_path, [], 0, 0) == 0
    assert capsys.readouterr().out == ""


def test_a_text_breaks_no_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sink = ConsoleCounts(SPEC, SINK, "file:///", "path")
    table = {"path": ["/a\nlogs batch 8: 0 valid", "/b"], "_errors": [None, None]}
    schema = pa.schema([("path", pa.string()), ("_errors", pa.list_(pa.string()))])
    pq.write_table(pa.table(table, schema), tmp_path / "0.parquet")
    sink.apply(manifest(["0.parquet"], 2, 0), str(tmp_path))
    assert capsys.readouterr().out.count("\n") == 1
