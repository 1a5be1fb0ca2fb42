"""`produce folder` and `produce files` as far as they need no server."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from streamkeeper.files import FileEntry
from streamkeeper.settings import Settings
from streamkeeper.spec.loader import load_spec
from streamkeeper.spec.models import KafkaSource
from streamkeeper_apps.cli import main
from streamkeeper_apps.producer.folder.landed import Landed
from streamkeeper_apps.producer.folder.ledger import ledger_source, no_such_file
from streamkeeper_apps.producer.folder.run import folder_of
from streamkeeper_apps.producer.folder.table import table
from streamkeeper_apps.where import find_settings

STREAMS = Path(__file__).parents[2] / "include" / "streams"
SPEC = load_spec(STREAMS / "building_files.yaml")
AT = datetime(2026, 11, 26, 10, tzinfo=UTC)


def test_a_relative_folder_lies_below_that_of_the_project(tmp_path: Path) -> None:
    (tmp_path / "include" / "streams").mkdir(parents=True)
    settings = find_settings(tmp_path / "include", {})
    assert folder_of(settings, SPEC)[0] == tmp_path / "sensor_data"
    elsewhere = find_settings(tmp_path, {"STREAMKEEPER_FILES": "/data"})
    assert folder_of(elsewhere, SPEC)[0] == Path("/data/sensor_data")
    assert SPEC.producer.folder is not None
    absolute = SPEC.producer.folder.model_copy(update={"path": "/drop"})
    producer = SPEC.producer.model_copy(update={"folder": absolute})
    spec = SPEC.model_copy(update={"producer": producer})
    assert folder_of(elsewhere, spec)[0] == Path("/drop")
    assert Settings.from_environment(elsewhere.environment()).files == Path("/data")


@pytest.mark.parametrize("what", [["folder"], ["folder", "--again", "x"], ["files"]])
def test_a_stream_without_a_folder_says_so(
    what: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STREAMKEEPER_STREAMS", str(STREAMS))
    assert main(["produce", what[0], "iot", *what[1:]]) == 1
    told = "the stream 'iot' declares no folder; add producer.folder to it"
    assert told in capsys.readouterr().err


def test_the_ledger_is_a_compacted_topic_beside_the_streams() -> None:
    wanted = KafkaSource(topic="building-files.files", kind="compacted", partitions=1)
    assert ledger_source(SPEC) == wanted


def test_an_unknown_file_is_told_with_the_nearest() -> None:
    told = str(no_such_file(SPEC, "2026/a.jsn", ["2026/a.json", "b.json"]))
    assert "the ledger of building_files knows no file '2026/a.jsn'" in told
    assert told.endswith("did you mean '2026/a.json'?")


def test_the_table_shows_every_file_and_no_sign_of_control() -> None:
    entries = [
        FileEntry(path="a\x1b[31m[b].json", state="sent", records=1234, size=10**6, at=AT),
        FileEntry(
            path="c.json",
            state="changed",
            why="its content is another",
            earlier=5,
            notes=("blank lines: 1",),
            at=AT,
        ),
    ]
    console = Console(width=200, record=True)
    landed = {entries[0].path: Landed(1200, 34), "c.json": Landed(0, 0)}
    console.print(table(entries, {"c.json": AT}, landed))
    lines = console.export_text().splitlines()
    first, second = (line for line in lines if "json" in line)
    cells = [cell.strip() for cell in first.split("│")]
    assert cells[1:-1] == [
        *(r"a\x1b[31m[b].json", "sent", "1,234", "1,200", "34", "1,000,000"),
        *("2026-11-26 10:00:00", ""),
    ]
    assert (
        "its content is another; 5 records of earlier readings besides; is to be read again; "
        "blank lines: 1"
    ) in second
