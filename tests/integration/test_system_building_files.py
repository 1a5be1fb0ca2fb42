"""System 3's files: a watched folder, topic, driver, lake and the Delta table Bronze.

The producer is killed and frozen in the middle of a transaction.

Every figure is computed anew from the very files that were dropped.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import signal
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from closes import Stream
from declared import declared_stream, own_names
from drivers import manifests, wait_for
from pyspark.sql import SparkSession
from topics import InThread, Producing, Read, begin_producer, read_topic

from streamkeeper import names
from streamkeeper.files import FileEntry
from streamkeeper.launches import EXIT_DRAINED, EXIT_FENCED
from streamkeeper.settings import Settings
from streamkeeper_apps.cli import main
from streamkeeper_apps.producer.folder.ledger import Ledger
from streamkeeper_io.delta import open_delta
from streamkeeper_io.kafka import Admin, end_offsets
from streamkeeper_io.lake import arrow_filesystem
from streamkeeper_io.store import Store

DECLARATION = Path(__file__).parents[2] / "include" / "streams" / "building_files.yaml"
TYPES = {"temperature": "°C", "humidity": "%", "energy": "kWh", "CO2": "ppm"}
FREEZING = Path(__file__).with_name("producer_that_freezes.py")
# A transaction holds 50,000 records at most, so that this is within the second or a later one.
LARGE, FROZEN_AT = 70_000, 60_000
BEGIN = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=3)


@pytest.fixture
def stream(spark: SparkSession, settings: Settings, store: Store, tmp_path: Path) -> Stream:
    """The declared stream under names of its own, its folder below the test's."""
    given = own_names(DECLARATION)
    given["producer"]["folder"] |= {"every": "200ms", "settle": "300ms", "give_up": "1s"}
    (tmp_path / "sensor_data").mkdir()
    here = settings.model_copy(update={"files": tmp_path})
    return declared_stream(given, spark, here, store, tmp_path)


def readings(count: int, seed: int) -> list[dict[str, Any]]:
    """Readings of buildings, within two hours."""
    draw = random.Random(seed)
    made = []
    for n in range(count):
        kind = draw.choice(list(TYPES))
        made.append(
            {
                "timestamp": (BEGIN + n * timedelta(hours=2) / count).isoformat(),
                "device_id": f"device_{n % 50:02d}",
                "building": draw.choice("ABC"),
                "floor": draw.randint(-1, 9),
                "type": kind,
                "value": round(draw.uniform(0, 900), 3),
                "unit": TYPES[kind],
            }
        )
    return made


class Dropped:
    """A folder into which files are dropped, and what must become of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records: dict[str, list[bytes]] = {}
        self.bad: Counter[str] = Counter()

    def drop(self, path: str, content: bytes, records: Sequence[bytes], bad: int = 0) -> None:
        """Write a file beside the folder and move it in, whole, as a careful sender does."""
        place = self.folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        new = place.with_name(f".{place.name}")
        new.write_bytes(content)
        new.rename(place)
        self.records[path], self.bad[path] = list(records), bad

    def sha256(self, path: str) -> str:
        return hashlib.sha256((self.folder / path).read_bytes()).hexdigest()


def lines(rows: Sequence[dict[str, Any]]) -> list[bytes]:
    return [json.dumps(row, ensure_ascii=False).encode() for row in rows]


def drop_all(dropped: Dropped, large: int) -> None:
    """Drop files of every kind."""
    of = lines(readings(300, 1))
    dropped.drop("lines.json", b"\n".join(of[:100]), of[:100])
    dropped.drop("packed.jsonl.gz", gzip.compress(b"\r\n".join(of[100:200]) + b"\r\n"), of[100:200])
    array = json.dumps(readings(40, 2), indent=4, ensure_ascii=False)
    inner = [json.dumps(row, indent=4, ensure_ascii=False) for row in readings(40, 2)]
    elements = [text.replace("\n", "\n    ").encode() for text in inner]
    dropped.drop("site/2026/array.json", b"\xef\xbb\xbf" + array.encode(), elements)
    one = json.dumps(readings(1, 3)[0], indent=2).encode()
    dropped.drop("one.json", one, [one])
    broken = [b'{"timestamp": "yesterday", "device_id": "x"}', b"no JSON", b'{"caf\xe9": 1}']
    mixed = [*of[200:], *broken]
    dropped.drop("mixed.json", b"\n\n".join(mixed) + b"\n", mixed, bad=3)
    dropped.drop("empty.json", b"", [])
    many = lines(readings(large, 4))
    dropped.drop("large.json", b"\n".join(many) + b"\n", many)


def of_file(topic: Sequence[Read], path: str) -> list[Read]:
    return [m for m in topic if m.headers["file"].decode() == path]


def check_topic(topic: Sequence[Read], dropped: Dropped) -> None:
    """Every record of every file, once, in its order, unchanged, with its coordinates."""
    assert len(topic) == sum(map(len, dropped.records.values()))
    for path, records in dropped.records.items():
        found = of_file(topic, path)
        assert [m.value for m in found] == records, path
        assert [int(m.headers["record"]) for m in found] == list(range(1, len(records) + 1))
        assert {m.headers["sha256"].decode() for m in found} <= {dropped.sha256(path)}


def ledger(stream: Stream) -> dict[str, FileEntry]:
    found = Ledger(stream.settings, stream.spec, 15)
    found.refresh()
    return found.entries


def check_ledger(stream: Stream, topic: Sequence[Read], dropped: Dropped) -> None:
    """What the ledger tells of each file is what stands in folder and topic."""
    entries = ledger(stream)
    for path, records in dropped.records.items():
        entry, found = entries[path], of_file(topic, path)
        assert (entry.state, entry.records, entry.earlier) == ("sent", len(records), 0), entry
        assert entry.sha256 == dropped.sha256(path)
        assert entry.size == (dropped.folder / path).stat().st_size
        if found:
            places = {(m.partition, entry.topic_id) for m in found}
            assert places == {(entry.partition, entry.topic_id)}
            assert (entry.first_offset, entry.last_offset) == (found[0].offset, found[-1].offset)


def produce(stream: Stream, *options: str) -> Producing:
    return Producing(
        stream.settings, stream.folder / "producer.log", ["folder", stream.spec.name, *options]
    )


def produce_and_freeze(stream: Stream) -> Producing:
    """Start a producer and wait until it stands still in the second transaction of large.json."""
    arguments = ["folder", stream.spec.name]
    program = [str(FREEZING), "large.json", str(FROZEN_AT)]
    producing = Producing(stream.settings, stream.folder / "first.log", arguments, program)
    try:
        producing.freezes()
        # It has committed some, and more lies in the topic.
        entry = ledger(stream)["large.json"]
        assert entry.state == "sending", producing.said
        assert 0 < entry.records < FROZEN_AT, producing.said
        _, ends = end_offsets(Admin(stream.settings), stream.spec.source.kafka.topic)
        assert ends[0] > FROZEN_AT
    except BaseException:
        producing.end()
        raise
    return producing


def test_system_building_files(
    stream: Stream, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dropped = Dropped(stream.folder / "sensor_data")
    drop_all(dropped, large=LARGE)
    # It dies while it sends the second part of the large file.
    produce_and_freeze(stream).end()
    second = produce(stream, "--once")
    try:
        assert second.code() == 0, second.said
    finally:
        second.end()
    topic = read_topic(stream.settings, stream.spec.source.kafka.topic)
    check_topic(topic, dropped)
    check_ledger(stream, topic, dropped)
    assert "keys missing: building (2), floor (2), type (2), unit (2), value (2)" in second.said
    stream.land()
    check_landed(stream, topic, dropped)
    check_counts(stream, dropped, monkeypatch, capsys)


def check_landed(stream: Stream, topic: Sequence[Read], dropped: Dropped) -> None:
    """Each record of the topic landed once; the bad ones are in quarantine with their bytes."""
    found = manifests(stream.settings, stream.spec)
    bad = sum(dropped.bad.values())
    assert sum(m.read for m in found) == len(topic)
    assert (sum(m.valid for m in found), sum(m.quarantined for m in found)) == (
        len(topic) - bad,
        bad,
    )
    by_place = {(m.partition, m.offset): m for m in topic}
    check_bronze(stream, topic)
    rows = landed_rows(stream)
    assert len(rows) == len({(r["_partition"], r["_offset"]) for r in rows}) == len(topic)
    for row in rows:
        message = by_place.pop((row["_partition"], row["_offset"]))
        if row["_errors"] is not None:
            assert row["_value"] == message.value
            continue
        sent = json.loads(message.value)
        at = datetime.fromisoformat(sent.pop("timestamp"))
        assert row["timestamp"].replace(tzinfo=UTC) == at
        assert {name: row[name] for name in sent} == sent


def check_counts(
    stream: Stream,
    dropped: Dropped,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`produce files` counts by file what was sent and what has landed of it."""
    for name, value in stream.settings.environment().items():
        monkeypatch.setenv(name, value)
    capsys.readouterr()
    assert main(["produce", "files", stream.spec.name, "--landed", "--json"]) == 0
    told = {row["path"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert told.keys() == dropped.records.keys()
    for path, records in dropped.records.items():
        bad = dropped.bad[path]
        found = [told[path][name] for name in ("records", "valid", "quarantined")]
        assert found == [len(records), len(records) - bad, bad], path
    assert main(["produce", "files", stream.spec.name, "--landed"]) == 0
    assert f"{sum(map(len, dropped.records.values())):,} records in" in capsys.readouterr().out


def check_bronze(stream: Stream, topic: Sequence[Read]) -> None:
    """The Delta table holds what can be read of the files, value by value, each record once."""
    (path,) = stream.spec.delta_tables()
    table = open_delta(stream.settings.lake, path)
    assert table is not None
    found = pa.table(table.to_pyarrow_table()).to_pylist()
    expected = {}
    for message in topic:
        try:
            row = json.loads(message.value)
            row["timestamp"] = datetime.fromisoformat(row["timestamp"]).astimezone(UTC)
        except ValueError:
            continue
        expected[message.partition, message.offset] = row
    assert len(found) == len(expected)
    for row in found:
        sent = expected.pop((row["_partition"], row["_offset"]))
        assert {name: row[name] for name in stream.spec.fields} == sent


def landed_rows(stream: Stream) -> list[dict[str, Any]]:
    """Return all published rows."""
    lake = stream.settings.lake
    rows: list[dict[str, Any]] = []
    for manifest in manifests(stream.settings, stream.spec):
        folder = f"{names.raw_path(stream.spec)}/batch={manifest.generation}-{manifest.batch}"
        for file in manifest.files:
            rows += pq.read_table(f"{folder}/{file}", filesystem=arrow_filesystem(lake)).to_pylist()
    return rows


def test_an_older_producer_is_fenced_and_a_launch_drains(stream: Stream) -> None:
    dropped = Dropped(stream.folder / "sensor_data")
    many = lines(readings(LARGE, 5))
    dropped.drop("large.json", b"\n".join(many), many)
    first, second = produce_and_freeze(stream), None
    try:
        second = produce(stream, "--once")
        assert second.code() == EXIT_DRAINED, second.said
        first.process.send_signal(signal.SIGCONT)
        assert first.code() == EXIT_FENCED, first.said
    finally:
        first.end()
        if second:
            second.end()
    topic = stream.spec.source.kafka.topic
    check_topic(read_topic(stream.settings, topic), dropped)
    check_launch(stream, dropped)


def check_launch(stream: Stream, dropped: Dropped) -> None:
    """A launch tells the store of itself, serves what a person asks, and drains when asked."""
    spec, settings, store = stream.spec, stream.settings, stream.store
    launch, snapshot = begin_producer(store, spec, stream.folder)
    watching = InThread(settings, ["folder", spec.name, "--launch", snapshot])
    asking = InThread(settings, ["folder", spec.name, "--again", "large.json"])
    try:
        assert asking.code() == EXIT_DRAINED, asking.said
        wait_for(lambda: ledger(stream)["large.json"].reading == 2, "the second reading", 60)
        sent = len(dropped.records["large.json"])

        def told() -> bool:
            progress = store.launch(launch.epoch).progress
            rested = progress.get("event_time") and not progress["waiting"]
            return bool(rested and progress["sent"] == sent)

        wait_for(told, "the launch to tell that all is sent", 60)
        event_time = store.launch(launch.epoch).progress["event_time"]
        later = lambda: store.launch(launch.epoch).progress["event_time"] > event_time  # noqa: E731
        wait_for(later, "its time to go on though no file comes, so that hours do not wait", 30)
        store.request_stop(launch.epoch, "the test")
        assert watching.code() == EXIT_DRAINED, watching.said
    finally:
        asking.end()
        watching.end()
    entry = ledger(stream)["large.json"]
    assert (entry.state, entry.epoch) == ("sent", launch.epoch)
    assert (entry.records, entry.earlier) == (sent, sent)
    assert store.launch(launch.epoch).reason == "asked by the test"
    (counted,) = store.produced(spec.name, 1)
    assert (counted.epoch, counted.hour, counted.acked) == (launch.epoch, None, sent)
    again = read_topic(settings, spec.source.kafka.topic)[sent:]
    check_topic(again, dropped)
    assert {m.headers["epoch"] for m in again} == {str(launch.epoch).encode()}
