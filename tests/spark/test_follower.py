"""A sink's thread: batches in order, once each, whatever fails meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from streamkeeper.errors import CassandraUnavailable, StoreUnavailable, TableDiffers
from streamkeeper.manifest import Manifest
from streamkeeper.names import MANIFEST_FILE, BatchName
from streamkeeper_spark.sinks.follower import Follower

LAKE, FIRST, SECOND = "file:///", "0b5f1cce-c51d-5de0-bf8e-ead9f2eb3485", "a" * 36


class Collector:
    """A sink that keeps the order of batches and fails as often as it is told."""

    name = "collector"

    def __init__(self, *failures: Exception) -> None:
        self.applied: list[BatchName] = []
        self.failures = list(failures)
        self.closed = 0

    def apply(self, manifest: Manifest, folder: str) -> int:
        if self.failures:
            raise self.failures.pop(0)
        assert Path(folder).name == f"batch={manifest.generation}-{manifest.batch}"
        self.applied.append(BatchName(manifest.generation, manifest.batch))
        return manifest.read

    def close(self) -> None:
        self.closed += 1


class Marks:
    """The store's marks, away as often as it is told."""

    def __init__(self, away: int = 0, **mark: int) -> None:
        self.kept, self.away = dict(mark), away

    def _reach(self) -> None:
        if self.away:
            self.away -= 1
            raise StoreUnavailable("the store is away")

    def mark(self, stream: str, sink: str) -> dict[str, int]:
        self._reach()
        return dict(self.kept)

    def set_mark(self, stream: str, sink: str, generation: str, batch: int) -> None:
        self._reach()
        self.kept[generation] = max(batch, self.kept.get(generation, -1))


def publish(zone: Path, generation: str, batch: int) -> Manifest:
    """Write a manifest as if its batch had been published."""
    manifest = Manifest(
        stream="s", zone="windows/w", generation=generation, batch=batch, epoch=1,
        write_number=batch, topic="t", topic_id="i", span={0: (batch, batch + 1)}, read=1, valid=1,
        quarantined=0, quarantined_by_rule={}, hours={}, first_event=None, last_event=None,
        files=(), spec_sha256="", written_at=datetime.now(UTC),
    )  # fmt: skip
    folder = zone / BatchName(generation, batch).folder
    folder.mkdir(parents=True)
    (folder / MANIFEST_FILE).write_text(manifest.model_dump_json())
    return manifest


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def follow(zone: Path, sink: Any, marks: Any) -> Follower:
    found = Follower(
        sink, stream="s", lake=LAKE, zone_folder=str(zone), generations=[SECOND, FIRST], store=marks
    )
    found.start()
    return found


def test_published_batches_come_in_order_from_the_mark(tmp_path: Path) -> None:
    for generation, batch in ((FIRST, 10), (FIRST, 9), (SECOND, 0), (SECOND, 2), (SECOND, 1)):
        publish(tmp_path, generation, batch)
    sink, marks = Collector(), Marks(**{SECOND: 0})
    follower = follow(tmp_path, sink, marks)
    until(lambda: len(sink.applied) == 4)
    follower.notify(publish(tmp_path, FIRST, 11))
    follower.notify(
        Manifest.model_validate_json(
            (tmp_path / BatchName(FIRST, 10).folder / MANIFEST_FILE).read_text()
        )
    )
    assert follower.finish(10)
    expected = [(SECOND, 1), (SECOND, 2), (FIRST, 9), (FIRST, 10), (FIRST, 11)]
    assert sink.applied == expected
    assert marks.kept == {SECOND: 2, FIRST: 11}
    assert follower.progress() == {
        "mark": marks.kept, "lag": 0, "rows": 5, "state": "ok", "error": "",
    }  # fmt: skip
    assert sink.closed == 1


def test_a_sink_that_is_away_is_behind_and_catches_up(tmp_path: Path) -> None:
    publish(tmp_path, FIRST, 0)
    sink = Collector(CassandraUnavailable("away"), CassandraUnavailable("away"), ValueError("away"))
    follower = follow(tmp_path, sink, Marks())
    until(lambda: follower.state == "behind")
    assert follower.progress()["error"] == "away"
    follower.notify(publish(tmp_path, FIRST, 1))
    until(lambda: follower.state == "ok")
    assert follower.finish(10)
    assert sink.applied == [(FIRST, 0), (FIRST, 1)]


def test_a_table_that_differs_is_told_and_tried_again(tmp_path: Path) -> None:
    publish(tmp_path, FIRST, 0)
    sink = Collector(TableDiffers("run: ALTER TABLE"))
    follower = follow(tmp_path, sink, Marks())
    until(lambda: follower.state == "failed")
    assert "ALTER TABLE" in follower.error
    until(lambda: follower.state == "ok")
    assert follower.finish(10)
    assert sink.applied == [(FIRST, 0)]


def test_a_store_that_is_away_delays_the_mark_only(tmp_path: Path) -> None:
    publish(tmp_path, FIRST, 0)
    marks = Marks()
    sink = Collector()
    follower = follow(tmp_path, sink, marks)
    until(lambda: marks.kept == {FIRST: 0})
    marks.away = 1
    follower.notify(publish(tmp_path, FIRST, 1))
    until(lambda: len(sink.applied) == 2 and not marks.away)
    follower.notify(publish(tmp_path, FIRST, 2))
    assert follower.finish(10)
    assert marks.kept == {FIRST: 2}


def test_a_mark_that_is_owed_is_kept_though_no_batch_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamkeeper_spark.sinks.follower._LONGEST_PAUSE_S", 0.05)
    publish(tmp_path, FIRST, 0)
    marks = Marks()
    follower = follow(tmp_path, Collector(), marks)
    until(lambda: marks.kept == {FIRST: 0})
    marks.away = 2
    follower.notify(publish(tmp_path, FIRST, 1))
    until(lambda: marks.kept == {FIRST: 1})
    assert follower.finish(10)


def test_without_a_store_only_new_batches_come(tmp_path: Path) -> None:
    publish(tmp_path, FIRST, 0)
    sink = Collector()
    follower = follow(tmp_path, sink, None)
    follower.notify(publish(tmp_path, FIRST, 1))
    assert follower.finish(10)
    assert sink.applied == [(FIRST, 1)]


class Marking(Collector):
    """A sink that keeps its mark beside its rows."""

    def __init__(self, *failures: Exception, **mark: int) -> None:
        super().__init__(*failures)
        self.kept = mark

    def mark(self) -> dict[str, int]:
        return dict(self.kept)


def test_a_sinks_own_mark_is_believed_before_the_stores(tmp_path: Path) -> None:
    for batch in range(4):
        publish(tmp_path, FIRST, batch)
    # The store is ahead of a database that was restored, and may be away.
    sink, marks = Marking(**{FIRST: 1}), Marks(**{FIRST: 3})
    follower = follow(tmp_path, sink, marks)
    assert follower.finish(20)
    assert [name.batch for name in sink.applied] == [2, 3]
    assert follower.mark == {FIRST: 3}


def test_a_mark_that_a_dead_launch_did_not_tell_is_told_though_no_batch_comes(
    tmp_path: Path,
) -> None:
    publish(tmp_path, FIRST, 3)
    sink, marks = Marking(**{FIRST: 3}), Marks(**{FIRST: 2})
    follower = follow(tmp_path, sink, marks)
    until(lambda: marks.kept == {FIRST: 3})
    assert follower.finish(20)
    assert sink.applied == []


def test_a_table_made_anew_after_a_failure_gets_all_batches(tmp_path: Path) -> None:
    publish(tmp_path, FIRST, 0)
    sink = Marking()
    follower = follow(tmp_path, sink, Marks())
    until(lambda: len(sink.applied) == 1)
    # The table differs, and is dropped and made again: its mark is gone.
    sink.failures = [TableDiffers("not as declared")]
    follower.notify(publish(tmp_path, FIRST, 1))
    until(lambda: len(sink.applied) == 3)
    assert follower.finish(20)
    assert [name.batch for name in sink.applied] == [0, 0, 1]
