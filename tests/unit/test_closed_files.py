"""Files of closed hours: readers see one revision of an hour."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from local_lake import (
    NOON,
    declared_stream,
    write_closed,
)
from streamkeeper.errors import LakeDisagreement
from streamkeeper.hours import Revision
from streamkeeper.launches import EXIT_DISAGREEMENT
from streamkeeper.names import closed_file
from streamkeeper.spec.models import Spec
from streamkeeper_apps.cli import main
from streamkeeper_io import closed
from streamkeeper_io.closed import read_hour


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spec:
    """A declared stream whose lake is a folder."""
    return declared_stream(tmp_path, monkeypatch)


def revision(number: int) -> Revision:
    return Revision(
        stream="readings",
        hour=NOON,
        revision=number,
        epoch=number,
        write_number=number,
        state="complete",
        merged={},
        files={"curated": ["part-0.parquet"], "analytics/by_city": ["part-0.parquet"]},
        committed_at=NOON,
    )


def test_readers_wait_until_all_files_are_of_the_committed_revision(spec: Spec) -> None:
    wanted = {"curated": None, "analytics/by_city": ["city"]}
    write_closed(spec, "curated", 2, [{"city": "new"}])
    write_closed(spec, "analytics/by_city", 1, [{"city": "old", "n": 1}])
    asked = []

    def latest() -> Revision:
        asked.append(1)
        if len(asked) == 2:
            write_closed(spec, "analytics/by_city", 2, [{"city": "new", "n": 2}])
        return revision(2)

    told, tables = read_hour("file:///", spec, latest, wanted)
    assert len(asked) == 2
    assert told.revision == 2
    assert [tables[zone]["city"].to_pylist() for zone in wanted] == [["new"], ["new"]]
    assert tables["analytics/by_city"].column_names == ["city"]


def test_files_that_never_meet_their_revision_are_told(
    spec: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closed, "_LONGEST_WAIT_S", 0.3)
    write_closed(spec, "curated", 1, [{"city": "old"}])
    with pytest.raises(LakeDisagreement, match=r"revision 2 .*curated: 1, .*close the hour again"):
        read_hour(
            "file:///", spec, lambda: revision(2), {"curated": None, "analytics/by_city": None}
        )


def test_a_file_that_no_close_wrote_is_told(spec: Spec, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(closed_file(spec, "curated", NOON))
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table({"city": ["x"]}), path)
    assert main(["show", "readings", "--zone", "curated"]) == EXIT_DISAGREEMENT
    assert "carries no revision in its footer" in capsys.readouterr().err
