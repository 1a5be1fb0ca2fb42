"""A watched folder's producer against a transactional log that forgets what was not committed.

Whatever is done to the files, and wherever the producer dies: each content that was sent is in the
topic whole, every record once and in its order, and the ledger tells how many.
"""

from __future__ import annotations

import gzip
import hashlib
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from watched_folder import Died, FakeLog, Folder, declare, lines


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_a_file_is_read_once_it_has_settled(folder: Folder) -> None:
    sha = folder.write("a.json", lines(1, 2))
    folder.look()
    assert folder.log.topic == []
    assert folder.watching.progress()["waiting"] == 1
    assert folder.watching.progress().get("event_time") is None
    folder.settle()
    one, two = lines(1).rstrip(), lines(2).rstrip()
    assert folder.log.topic == [("a.json", sha, 1, one), ("a.json", sha, 2, two)]
    entry = folder.entry("a.json")
    assert (entry.state, entry.records, entry.sha256, entry.reading) == ("sent", 2, sha, 1)
    assert folder.watching.sent == 2
    assert folder.watching.progress()["event_time"]
    assert "a.json: 2 records, 78 bytes" in folder.said
    commits = folder.log.transactions
    folder.settle()
    assert folder.log.transactions == commits, "nothing new, nothing written"


def test_a_file_that_grows_is_not_read(folder: Folder) -> None:
    for count in range(1, 8):
        folder.write("a.json", lines(*range(count)))
        folder.look(0.5)
        assert folder.log.topic == []
    folder.settle()
    assert len(folder.log.topic) == 7
    for count in range(8, 30):
        folder.write("a.json", lines(*range(count)))
        folder.look(0.9)
    assert folder.entry("a.json").state == "waiting"
    assert folder.entry("a.json").why == "it is written to all the time"
    assert folder.watching.pending_files == 0, "hours do not wait for it"
    assert len(folder.log.topic) == 7


def test_a_broken_off_file_waits_then_counts_as_incomplete_until_it_changes(folder: Folder) -> None:
    folder.write("a.json", lines(1) + b'{"n": 2, "at"')
    folder.look()
    folder.look()
    assert folder.entry("a.json").state == "waiting"
    assert folder.watching.pending_files == 1
    commits = folder.log.transactions
    folder.look()
    assert folder.log.transactions == commits
    folder.look(10)
    assert folder.entry("a.json").state == "incomplete"
    assert folder.watching.pending_files == 0
    folder.launch()
    folder.settle()
    assert folder.log.topic == []
    sha = folder.write("a.json", lines(1, 2))
    folder.settle()
    assert len(folder.log.of("a.json", sha)) == 2


def test_a_changed_file_is_read_again_only_when_asked(folder: Folder) -> None:
    first = folder.write("a.json", lines(1))
    folder.settle()
    second = folder.write("a.json", lines(1, 2))
    folder.settle()
    entry = folder.entry("a.json")
    assert (entry.state, entry.sha256, entry.records) == ("changed", first, 1)
    assert "`produce folder --again` sends it anew" in entry.why
    folder.settle()
    assert folder.log.of("a.json") == [lines(1).rstrip()]
    folder.log.ask("a.json")
    folder.settle()
    entry = folder.entry("a.json")
    assert (entry.state, entry.sha256, entry.records, entry.earlier) == ("sent", second, 2, 1)
    assert (entry.reading, folder.log.asked, folder.watching.sent) == (2, {}, 3)
    assert len(folder.log.of("a.json", second)) == 2


def test_a_file_that_is_only_touched_or_put_back_is_the_same(folder: Folder) -> None:
    sha = folder.write("a.json", lines(1))
    folder.settle()
    folder.write("a.json", lines(1))
    folder.settle()
    assert (folder.entry("a.json").state, len(folder.log.topic)) == ("sent", 1)
    folder.write("a.json", lines(2))
    folder.settle()
    folder.write("a.json", lines(1))
    folder.settle()
    entry = folder.entry("a.json")
    assert (entry.state, entry.sha256, entry.why) == ("sent", sha, "")
    assert len(folder.log.topic) == 1


def test_the_same_content_under_another_name_is_another_file(folder: Folder) -> None:
    folder.write("a.json", lines(1))
    folder.write("b.json", lines(1))
    folder.settle()
    assert [path for path, *_ in folder.log.topic] == ["a.json", "b.json"]
    assert folder.log.transactions == 1, "small files share a transaction"
    (folder.root / "a.json").unlink()
    folder.settle()
    assert folder.entry("a.json").state == "sent"


def test_verdicts_without_records(folder: Folder) -> None:
    folder.write("empty.json", b"")
    folder.write("notes.txt", b"hello")
    folder.write("half.json.gz", gzip.compress(lines(*range(999)))[:-20])
    folder.write("utf16.json", '{"n": 1}'.encode("utf-16"))
    for hidden in (".a.json", "_a.json", "a.json.tmp", "a.json.part"):
        folder.write(hidden, lines(1))
    outside = folder.root.parent / f"{folder.root.name}-outside.json"
    outside.write_bytes(lines(1))
    (folder.root / "link.json").symlink_to(outside)
    folder.write("inside.json", lines(5))
    (folder.root / "good_link.json").symlink_to(folder.root / "inside.json")
    folder.look()
    folder.look(11)
    found = {path: (entry.state, entry.why) for path, entry in folder.log.entries.items()}
    assert found == {
        "empty.json": ("sent", ""),
        "inside.json": ("sent", ""),
        "good_link.json": ("sent", ""),
        "notes.txt": ("unknown", "its name fits none of the declared patterns"),
        "half.json.gz": (
            "incomplete",
            "the archive breaks off: Compressed file ended before the end-of-stream marker was "
            "reached",
        ),
        "utf16.json": ("refused", "is UTF-16, not UTF-8; declare producer.folder.encoding"),
        "link.json": ("unreadable", "is a symbolic link out of the folder, which is not followed"),
    }
    assert folder.entry("empty.json").records == 0


def test_names_that_no_utf8_can_write_do_not_stop_it(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write("a.json", b'{"caf\xe9": 1}\n{"\\ud800": 1}\n')
    folder.settle()
    assert folder.entry("a.json").notes[0] == r"keys not declared: caf\udce9 (1), \ud800 (1)"
    csv = Folder(tmp_path, declare(format="csv"), FakeLog())
    csv.write("a.csv", b"n,at,caf\xe9\n1,2,3\n")
    csv.settle()
    assert csv.log.of("a.csv") == [b"1,2"]
    for line in [*folder.said, *csv.said]:
        line.encode()


def test_an_unreadable_file_is_told_and_read_once_it_can_be(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write("a.json", lines(1))
    # Tests may run as root, whom no mode keeps out.
    monkeypatch.setattr("os.access", lambda path, mode: False)
    folder.settle()
    entry = folder.entry("a.json")
    assert (entry.state, entry.why) == ("unreadable", "cannot be read: permission denied")
    monkeypatch.undo()
    folder.settle()
    assert (folder.entry("a.json").state, len(folder.log.topic)) == ("sent", 1)


def test_a_folder_that_goes_away_is_told_once(folder: Folder) -> None:
    folder.root.rename(folder.root.with_suffix(".away"))
    folder.look()
    folder.look()
    assert [s for s in folder.said if "No such file" in s] == [
        f"the folder {folder.root} cannot be read: No such file or directory"
    ]
    folder.root.with_suffix(".away").rename(folder.root)
    folder.look()
    assert folder.said[-1] == "the folder can be read again"


def test_subfolders_by_pattern(tmp_path: Path) -> None:
    folder = Folder(tmp_path, declare(files=["**/*.json"]))
    folder.write("a.json", lines(1))
    folder.write("x/y/b.json", lines(2))
    folder.write("x/.z/c.json", lines(3))
    folder.settle()
    assert sorted(folder.log.entries) == ["a.json", "x/y/b.json"]


def test_a_large_file_takes_several_transactions_and_a_stop_comes_between(tmp_path: Path) -> None:
    folder = Folder(tmp_path, log=FakeLog(limit=500))
    sha = folder.write("a.json", lines(*range(1800)))
    folder.look()
    full = folder.log.full
    folder.log.full = lambda: full() and not setattr(folder, "stopped", "asked")  # type: ignore[method-assign]
    folder.look()
    entry = folder.entry("a.json")
    assert (entry.state, entry.records, len(folder.log.topic)) == ("sending", 500, 500)
    folder.stopped, folder.log.full = "", full  # type: ignore[method-assign]
    folder.launch()
    folder.settle()
    assert folder.log.of("a.json", sha) == lines(*range(1800)).splitlines()
    assert (folder.entry("a.json").state, folder.watching.sent) == ("sent", 1300)
    assert folder.log.transactions == 4


def test_a_file_that_changes_between_two_launches_keeps_what_was_sent(tmp_path: Path) -> None:
    folder = Folder(tmp_path, log=FakeLog(limit=500))
    sha = folder.write("a.json", lines(*range(1800)))
    folder.log.dies_at = 600
    with pytest.raises(Died):
        folder.settle()
    assert len(folder.log.topic) == 500
    folder.write("a.json", lines(*range(1801)))
    folder.launch()
    folder.settle()
    entry = folder.entry("a.json")
    assert (entry.state, entry.records, entry.sha256) == ("changed", 500, sha)
    (folder.root / "b").mkdir()
    assert len(folder.log.topic) == 500


def test_a_file_deleted_halfway_is_told(tmp_path: Path) -> None:
    folder = Folder(tmp_path, log=FakeLog(limit=500))
    folder.write("a.json", lines(*range(1800)))
    folder.log.dies_at = 600
    with pytest.raises(Died):
        folder.settle()
    (tmp_path / "a.json").unlink()
    folder.launch()
    folder.settle()
    entry = folder.entry("a.json")
    assert (entry.state, entry.records) == ("changed", 500)
    assert entry.why == "it was deleted when 500 of its records had been sent"


def test_a_file_that_changes_while_it_is_read_leaves_no_record(folder: Folder) -> None:
    folder.write("a.json", lines(1))
    folder.write("b.json", lines(2, 3))
    folder.look()
    send = folder.log.send

    def and_change(path: str, *given: Any) -> None:
        send(path, *given)
        if path == "b.json":
            folder.log.send = send  # type: ignore[method-assign]
            with (folder.root / "b.json").open("ab") as file:
                file.write(lines(4))

    folder.log.send = and_change  # type: ignore[method-assign]
    folder.look()
    assert folder.log.topic == []
    assert "b.json has changed while it was read; it is looked at again" in folder.said
    folder.settle()
    assert [n for path, _, n, _ in folder.log.topic] == [1, 1, 2, 3]


# What is done to the folder: write a file (name, how many records), look, a person asks, a crash.
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.sampled_from("abc"), st.integers(0, 7)),
        st.tuples(st.just("append"), st.sampled_from("abc"), st.integers(1, 3)),
        st.tuples(st.just("half"), st.sampled_from("abc"), st.integers(0, 3)),
        st.tuples(st.just("delete"), st.sampled_from("abc"), st.just(0)),
        st.tuples(st.just("again"), st.sampled_from("abc"), st.just(0)),
        st.tuples(st.just("look"), st.just(""), st.sampled_from([1, 12])),
        st.tuples(st.just("rest"), st.just(""), st.sampled_from([1, 12])),
        st.tuples(st.just("rest"), st.just(""), st.just(1)),
        st.tuples(st.just("die"), st.just(""), st.integers(1, 25)),
    ),
    min_size=8,
    max_size=30,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(actions=ACTIONS, limit=st.integers(1, 4))
def test_every_record_once_whatever_happens(
    actions: list[tuple[str, str, int]], limit: int
) -> None:
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        patch.setattr("streamkeeper_apps.producer.folder.watching._LOOK_EVERY", 1)
        folder = Folder(Path(place), declare(format="json_lines"), FakeLog(limit))
        contents: dict[str, list[bytes]] = {}
        asked = 0
        for what, name, number in [*actions, ("look", "", 1), ("look", "", 12), ("look", "", 12)]:
            path = folder.root / f"{name}.json"
            now = path.read_bytes() if name and path.exists() else b""
            if what == "write":
                now = lines(*range(number))
            elif what == "append":
                now += lines(*range(number))
            elif what == "half":
                now = lines(*range(number)) + b'{"n": '
            elif what == "delete":
                path.unlink(missing_ok=True)
            elif what == "again" and path.name in folder.log.entries:
                folder.log.ask(path.name)
                asked += 1
            elif what == "die":
                folder.log.dies_at = folder.log.steps + number
            elif what in ("look", "rest"):
                try:
                    folder.look(number)
                    # What has not changed since the look before is read.
                    if what == "rest":
                        folder.look(number)
                except Died:
                    folder.launch()
            if what in ("write", "append", "half"):
                contents[folder.write(path.name, now)] = now.splitlines()
        folder.log.dies_at = 10**9
        folder.launch()
        for _ in range(4):
            folder.look(12)
        check(folder, contents, asked)


def check(folder: Folder, contents: dict[str, list[bytes]], asked: int) -> None:
    """Hold the topic against the contents that were written, and the ledger against the topic."""
    readings: dict[tuple[str, str], list[list[tuple[int, bytes]]]] = {}
    for path, sha, number, record in folder.log.topic:
        found = readings.setdefault((path, sha), [])
        if number == 1:
            found.append([])
        found[-1].append((number, record))
    for (_, sha), each in readings.items():
        for found in each:
            # In order, without a gap, from the first record on: nothing twice, nothing left out.
            assert found == list(enumerate(contents[sha][: len(found)], 1))
    assert sum(len(each) for each in readings.values()) <= len(readings) + asked
    for path, entry in folder.log.entries.items():
        assert entry.earlier + entry.records == len(folder.log.of(path))
        if entry.state == "sent" and entry.records:
            assert readings[path, entry.sha256][-1][-1][0] == len(contents[entry.sha256])
    for file in folder.root.iterdir():
        entry = folder.entry(file.name)
        sha = hashlib.sha256(file.read_bytes()).hexdigest()
        whole = file.read_bytes().endswith(b"\n") or not file.read_bytes()
        if not whole:
            assert entry.state == "incomplete"
        elif entry.state == "sent":
            assert entry.sha256 == sha
        else:
            assert entry.state == "changed"
            assert entry.sha256 != sha
    assert not [p for p in folder.log.asked if (folder.root / p).exists()]
