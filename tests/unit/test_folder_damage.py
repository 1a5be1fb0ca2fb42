"""Whatever lies in a watched folder: one of the documented verdicts, and the rest is sent."""

from __future__ import annotations

import gzip
import json
import lzma
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from watched_folder import FakeLog, Folder, declare, lines

DRAW = random.Random(26)
ROWS = [json.dumps({"n": DRAW.randint(0, 10**9), "at": "2026-11-26"}) for _ in range(1200)]
AS_LINES = "\n".join(ROWS).encode()
# One line, and longer than what a reader takes at once.
AS_ARRAY = f"[{','.join(ROWS)}]".encode()
AS_CSV = b"n,at\n" + b"\n".join(b"%d,2026-11-26" % DRAW.randint(0, 10**9) for _ in range(1200))
KINDS = {"lines": AS_LINES, "array": AS_ARRAY, "csv": AS_CSV}
PACKS: dict[str, Callable[[bytes], bytes]] = {
    "gz": lambda content: gzip.compress(content, mtime=0),
    "xz": lzma.compress,
}
ARCHIVES = {(kind, pack): PACKS[pack](content) for kind, content in KINDS.items() for pack in PACKS}
GOOD = lines(1, 2, 3)
PROPERTY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def looked_at(name: str, content: bytes, **declared: Any) -> Folder:
    """Return a folder in which a file has its last verdict, between two others that are well."""
    with tempfile.TemporaryDirectory() as place:
        folder = Folder(Path(place), declare(files=["*"], header=False, **declared))
        for path, given in (("a.json", GOOD), (name, content), ("z.json", GOOD)):
            folder.write(path, given)
        folder.look()
        folder.look(11)
        folder.look()
    assert folder.watching.pending_files == 0, folder.said
    for path in ("a.json", "z.json"):
        assert folder.entry(path).state == "sent", folder.said
        assert folder.log.of(path) == GOOD.splitlines()
    return folder


def check_verdict(folder: Folder, name: str, whole: list[bytes]) -> str:
    """A file is sent as it was before the damage, or nothing of it; return its state."""
    entry, sent = folder.entry(name), folder.log.of(name)
    assert entry.state in ("sent", "refused", "incomplete"), entry
    assert sent == (whole if entry.state == "sent" else [])
    assert entry.records == len(sent)
    return entry.state


def records_of(kind: str) -> list[bytes]:
    if kind == "csv":
        return AS_CSV.splitlines()
    return [row.encode() for row in ROWS]


@pytest.mark.parametrize("pack", PACKS)
@pytest.mark.parametrize("kind", KINDS)
@PROPERTY
@given(data=st.data())
def test_a_byte_flipped_anywhere_in_an_archive(kind: str, pack: str, data: st.DataObject) -> None:
    archive = bytearray(ARCHIVES[kind, pack])
    ends = st.integers(0, 20) | st.integers(len(archive) - 20, len(archive) - 1)
    place = data.draw(ends | st.integers(0, len(archive) - 1))
    archive[place] ^= data.draw(st.integers(1, 255))
    name = f"m.{kind}.{pack}"
    folder = looked_at(name, bytes(archive), format="csv" if kind == "csv" else "json")
    check_verdict(folder, name, records_of(kind))


@pytest.mark.parametrize("pack", PACKS)
@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_damaged_in_its_middle_is_refused(kind: str, pack: str) -> None:
    archive = bytearray(ARCHIVES[kind, pack])
    middle = len(archive) // 2
    archive[middle : middle + 40] = bytes(40)
    name = f"m.{kind}.{pack}"
    folder = looked_at(name, bytes(archive), format="csv" if kind == "csv" else "json")
    assert check_verdict(folder, name, records_of(kind)) == "refused"
    assert folder.entry(name).why.startswith("the archive is damaged: ")


@pytest.mark.parametrize("pack", PACKS)
@pytest.mark.parametrize("kind", KINDS)
@PROPERTY
@given(data=st.data())
def test_an_archive_cut_anywhere_is_incomplete(kind: str, pack: str, data: st.DataObject) -> None:
    archive = ARCHIVES[kind, pack]
    end = data.draw(st.integers(1, len(archive) - 1))
    name = f"m.{kind}.{pack}"
    folder = looked_at(name, archive[:end], format="csv" if kind == "csv" else "json")
    assert check_verdict(folder, name, records_of(kind)) == "incomplete"


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-16"])
@pytest.mark.parametrize("format", ["json", "json_lines", "csv"])
@PROPERTY
@given(content=st.binary() | st.text('[]{}",:1a \r\n\\').map(str.encode))
@example(b"\xff\xfe\x00")
@example(b"x" * 1_100_000)
def test_any_bytes_get_a_verdict(format: str, encoding: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Folder(Path(place), declare(files=["*"], format=format, encoding=encoding))
        folder.write("a", content)
        folder.look()
        folder.look(11)
    entry = folder.entry("a")
    assert entry.state in ("sent", "refused", "incomplete"), entry
    assert len(folder.log.of("a")) == (entry.records if entry.state == "sent" else 0)


def test_a_plain_file_under_the_name_of_an_archive_is_read() -> None:
    folder = looked_at("m.json.gz", AS_LINES)
    assert check_verdict(folder, "m.json.gz", records_of("lines")) == "sent"


@pytest.mark.parametrize("format", ["json", "csv"])
def test_names_of_any_length_do_not_fill_the_ledger(format: str) -> None:
    names_ = [b"k" * 400_000 + b"%d" % n for n in range(4)]
    objects = [b'{"%s": 1}' % name for name in names_]
    content = b"\n".join(objects) if format == "json" else b"n,at," + b",".join(names_) + b"\n1,2"
    with tempfile.TemporaryDirectory() as place:
        folder = Folder(Path(place), declare(files=["*"], format=format))
        folder.write("a", content + b"\n")
        folder.settle()
    entry = folder.entry("a")
    assert (entry.state, len(folder.log.of("a"))) == ("sent", 4 if format == "json" else 1)
    assert entry.notes[0].startswith(f"{'keys' if format == 'json' else 'columns'} not declared: k")
    assert len(entry.model_dump_json()) < 10_000


def rows_of(*sizes: int) -> list[bytes]:
    """Rows of so many bytes."""
    return [lines(n).rstrip()[:-2].ljust(size - 2) + b'"}' for n, size in enumerate(sizes)]


FORMS: dict[str, Callable[[list[bytes]], bytes]] = {
    "lines": b"\n".join,
    "array": lambda rows: b"[\n" + b",\n".join(rows) + b"\n]",
}


@pytest.mark.parametrize("form", FORMS)
def test_a_record_is_sent_if_the_topic_takes_it_else_its_file_is_refused(
    tmp_path: Path, form: str
) -> None:
    folder = Folder(tmp_path, log=FakeLog(takes=500))
    contents = {"a.json": rows_of(500, 60, 499), "b.json": rows_of(60, 501), "c.json": rows_of(60)}
    for path, rows in contents.items():
        folder.write(path, FORMS[form](rows))
    folder.settle()
    assert folder.log.of("a.json") == contents["a.json"]
    assert folder.log.of("c.json") == contents["c.json"]
    assert folder.log.of("b.json") == []
    entry = folder.entry("b.json")
    assert (entry.state, entry.records) == ("refused", 0)
    assert "the topic takes 500 bytes as a record of this file: raise its max.message" in entry.why
    # It is taken as soon as the topic takes it and a person asks.
    folder.log.takes = 501
    folder.settle()
    assert folder.entry("b.json").state == "refused"
    folder.log.ask("b.json")
    folder.settle()
    assert folder.log.of("b.json") == contents["b.json"]


def test_a_topic_that_takes_less_than_a_moment_ago(tmp_path: Path) -> None:
    """The limit goes down between a look and what it sends: the next look holds to it."""
    folder = Folder(tmp_path, log=FakeLog(takes=500))
    contents = {"a.json": rows_of(60), "b.json": rows_of(60, 400), "c.json": rows_of(60)}
    for path, rows in contents.items():
        folder.write(path, b"\n".join(rows))
    folder.look()
    folder.log.brokers_take = 300
    folder.look()
    assert folder.log.topic == []
    assert "b.json: Kafka does not take a record of 400 bytes; it is looked at again" in folder.said
    assert folder.watching.pending_files == 1
    folder.log.takes = 300
    folder.settle()
    assert [path for path, *_ in folder.log.topic] == ["a.json", "c.json"]
    assert folder.entry("b.json").state == "refused"


def test_what_kafka_does_not_take_twice_is_refused(tmp_path: Path) -> None:
    """Whatever its reason: the producer goes on with the others."""
    folder = Folder(tmp_path, log=FakeLog(limit=2))
    folder.log.brokers_take = 300
    contents = {"a.json": rows_of(60), "b.json": rows_of(60, 61, 62, 400), "c.json": rows_of(60)}
    for path, rows in contents.items():
        folder.write(path, b"\n".join(rows))
    folder.settle()
    entry = folder.entry("b.json")
    assert entry.state == "refused"
    # What was committed before nobody takes back, and it is told.
    assert folder.log.of("b.json") == contents["b.json"][: entry.records]
    assert entry.why == (
        f"Kafka does not take a record of 400 bytes; {entry.records} of its records had been sent"
    )
    assert folder.log.of("a.json") + folder.log.of("c.json") == contents["a.json"] * 2
    # Touched, or asked for, it is tried anew, and goes on where it stood.
    folder.log.brokers_take = 400
    folder.write("b.json", b"\n".join(contents["b.json"]))
    folder.settle()
    assert (folder.entry("b.json").state, folder.entry("b.json").reading) == ("sent", 1)
    assert folder.log.of("b.json") == contents["b.json"]
