"""Rewinds, resets and topics that lose, change or hide messages, with real servers."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from anew import (
    counted,
    has_landed_all,
    left_in,
    load,
    made_again,
    of_kind,
    refused,
    rows,
    sent,
    topic_id,
    transaction,
)
from closes import (
    FIRST,
    SECOND,
    Reading,
    Stream,
    computed,
    make_readings,
    make_stream,
)
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import NewPartitions, NewTopic
from drivers import manifests, wait_for
from pyspark.sql import SparkSession
from topics import declare

from streamkeeper import names
from streamkeeper.hours import HOUR
from streamkeeper.launches import EXIT_DRAINED
from streamkeeper.names import LAND, format_hour
from streamkeeper.settings import Settings
from streamkeeper.spans import size
from streamkeeper.spec.models import Spec
from streamkeeper_apps.cli import main
from streamkeeper_io import kafka
from streamkeeper_io.lake import folder_names, hdfs_client
from streamkeeper_io.store import Store

HOURS = (FIRST, SECOND)
WINDOWS = """
select city, time_bucket(interval '30 seconds', timestamp) as start,
    avg(temperature), max(temperature), min(temperature), avg(humidity), count(*)
from readings group by all
"""


@pytest.fixture(scope="module", autouse=True)
def compacted_topic(settings: Settings) -> str:
    """A compacted topic of ten keys sent four times; the broker compacts it in its own time."""
    topic, admin = f"compacted-{secrets.token_hex(4)}", kafka.Admin(settings)
    config = {
        "cleanup.policy": "compact",
        "message.timestamp.type": "LogAppendTime",
        "segment.ms": "200",
        "min.cleanable.dirty.ratio": "0.01",
        "min.compaction.lag.ms": "0",
    }
    new = NewTopic(topic, num_partitions=1, replication_factor=1, config=config)
    admin.create_topics([new])[topic].result(15)
    producer = Producer({"bootstrap.servers": settings.kafka})
    for times in range(4):
        for n, reading in enumerate(make_readings(10, seed=50 + times, over=HOUR)):
            producer.produce(topic, key=str(n), value=reading.message())
        assert producer.flush(15) == 0
        # A segment is closed by the first message after its time.
        threading.Event().wait(0.3)
    return topic


Command = Callable[..., tuple[int, str]]


@pytest.fixture
def command(
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Command:
    """Run `streamkeeper stream ...` on a stream; return its exit code and what it says."""

    def run(stream: Stream, what: str, *arguments: str) -> tuple[int, str]:
        declare(stream.spec, tmp_path / "declared")
        given = settings.model_copy(update={"streams": tmp_path / "declared"})
        for name, value in (given.environment() | {"COLUMNS": "240"}).items():
            monkeypatch.setenv(name, value)
        capsys.readouterr()
        code = main(["stream", what, stream.spec.name, *arguments])
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


def test_rewinds_under_load_one_of_them_given_up(
    spark: SparkSession, settings: Settings, store: Store, tmp_path: Path, command: Command
) -> None:
    stream = make_stream(spark, settings, store, tmp_path, windows=True)
    readings, late = make_readings(900, seed=21), make_readings(160, seed=22)
    with load(stream, readings):
        first = stream.land_until(lambda: manifests(settings, stream.spec))
        assert first.code == EXIT_DRAINED, first.reason
    stream.land()
    stream.look(*HOURS)
    assert [(r.revision, r.state) for r in stream.close(*HOURS)] == [(1, "complete")] * 2
    assert_rows(stream)
    stands = counted(stream).stands(topic_id(stream))
    offsets = {0: stands[0] // 2, 1: stands[1] - 30}

    check_dry_run(stream, command, offsets, stands)
    check_given_up(stream, command, offsets)

    chosen = [f"--offset={p}={offset}" for p, offset in offsets.items()]
    code, said = command(stream, "rewind", *chosen, "--yes", "--wait", "0")
    assert code == 0, said
    with load(stream, late) as all_sent:
        enough = lambda: all_sent.is_set() and has_landed_all(stream)  # noqa: E731
        again = stream.land_until(enough, max_messages=400)
    assert again.code == EXIT_DRAINED, again.reason
    generation = counted(stream).counting[-1]
    assert generation.start == {**stands, **offsets}
    assert generation.target == stands
    code, said = command(stream, "due")
    assert all(f"{format_hour(hour)} is due again, revision 2" in said for hour in HOURS)
    assert f"--dag-id hours__{stream.spec.name}" in said
    closed = stream.close(*HOURS)
    assert [(r.revision, r.state) for r in closed] == [(2, "complete")] * 2
    assert_rows(stream)
    found = rows(stream, *HOURS)
    read_again = [r for r in found if r["_offset"] >= offsets.get(r["_partition"], 10**9)]
    assert {r["_generation"] for r in read_again} == {generation.generation}
    windows = {row[:2]: row[2:] for row in computed([*readings, *late], WINDOWS)}
    table = stream.windows()
    assert set(table) == set(windows)
    assert all(table[key] == pytest.approx(measures) for key, measures in windows.items())
    assert stream.close(*HOURS) == []


def test_a_rewind_with_a_stricter_declaration_takes_rows_and_windows_away(
    spark: SparkSession, settings: Settings, store: Store, tmp_path: Path, command: Command
) -> None:
    stream = make_stream(spark, settings, store, tmp_path, windows=True, sizes=["2min/1min"])
    readings = make_readings(120, seed=25, over=HOUR)
    stream.send(readings)
    stream.land()
    stream.look(FIRST)
    stream.close(FIRST)
    assert len(stream.windows()) == len(computed(readings, WINDOWS))
    assert final_slides(stream) == computed_slides(readings)
    values = stream.spec.dump()
    values["fields"]["temperature"]["range"] = [-60, 30]
    stricter = Stream(spark, settings, store, Spec.model_validate(values), tmp_path)
    code, said = command(stricter, "rewind", "--begin", "--yes", "--wait", "0")
    assert code == 0, said
    stricter.land()
    (closed,) = stricter.close(FIRST)
    kept = [r for r in readings if r.temperature <= 30]
    assert 10 < len(kept) < 110
    assert (closed.revision, closed.counts["valid"]) == (2, len(kept))
    assert {r["temperature"] for r in rows(stricter, FIRST)} == {r.temperature for r in kept}
    windows = {row[:2]: row[2:] for row in computed(kept, WINDOWS)}
    table = stricter.windows()
    assert set(table) == set(windows)
    assert all(table[key] == pytest.approx(measures) for key, measures in windows.items())
    assert final_slides(stricter) == computed_slides(kept)


def final_slides(stream: Stream) -> dict[tuple[Any, ...], Any]:
    """Return the windows of 2 min, one each minute, that lie within the closed hour."""
    last = FIRST + HOUR - timedelta(minutes=2)
    found = stream.windows("wide_0").items()
    return {(city, start): n for (city, start), (n,) in found if FIRST <= start <= last}


def computed_slides(readings: Sequence[Reading]) -> dict[tuple[Any, ...], Any]:
    """Return what DuckDB makes of these windows."""
    found = computed(
        readings,
        "select city, time_bucket(interval '1 minute', timestamp) - back * interval '1 minute' "
        "as start, count(*) from readings, range(2) as r(back) group by all",
    )
    last = FIRST + HOUR - timedelta(minutes=2)
    return {(city, start): n for city, start, n in found if FIRST <= start <= last}


def assert_rows(stream: Stream) -> None:
    """Hold the closed hours against the topic: each coordinate once, with its own reading."""
    found = {
        (r["_partition"], r["_offset"]): (r["sensor_id"], r["temperature"])
        for r in rows(stream, *HOURS)
    }
    assert len(found) == len(rows(stream, *HOURS))
    assert found == sent(stream)


def check_dry_run(
    stream: Stream, command: Command, offsets: dict[int, int], stands: dict[int, int]
) -> None:
    chosen = [f"--offset={p}={offset}" for p, offset in offsets.items()]
    code, said = command(stream, "rewind", *chosen, "--dry-run")
    assert code == 0, said
    spans = f"partition 0: {offsets[0]}..{stands[0] - 1}; partition 1: {offsets[1]}.."
    assert f"{spans}{stands[1] - 1}" in said
    assert f"{stands[0] - offsets[0] + 30:,}" in said
    hours = ", ".join(format_hour(hour) for hour in HOURS)
    assert f"closed hours that will be due again: 2 ({hours})" in said
    assert "sinks that get these rows again: cassandra iot" in said
    assert f"the topic keeps partition 0: 0..{stands[0] - 1}; partition 1: 0.." in said
    assert "a dry run: nothing was changed" in said
    assert stream.store.last_request(stream.spec.name) is None
    code, said = command(stream, "rewind", f"--offset=0={stands[0] + 1}", "--yes")
    assert code == 1
    assert "is not kept; valid: 0.." in said


def check_given_up(stream: Stream, command: Command, offsets: dict[int, int]) -> None:
    """A rewind that was given up half-way changes nothing."""
    chosen = [f"--offset={p}={offset}" for p, offset in offsets.items()]
    code, said = command(stream, "rewind", *chosen, "--yes", "--wait", "0")
    assert code == 0, said
    assert f"DAG keep__{stream.spec.app} launches it" in said
    assert "the next launch begins with it" in status(stream, command)
    before = counted(stream)
    some = lambda: len(manifests(stream.settings, stream.spec)) > len(before.published)  # noqa: E731
    half = stream.land_until(some, max_messages=30)
    assert half.code == EXIT_DRAINED, half.reason
    now = counted(stream)
    assert now.under_way() is not None
    assert now.counting == before.counting
    assert "land: reads again; counts once" in status(stream, command)
    assert stream.close(*HOURS) == []
    code, said = command(stream, "rewind", "--abandon", "--yes", "--wait", "0")
    assert code == 0, said
    stream.land()
    stands = before.stands(topic_id(stream))
    assert counted(stream).stands(topic_id(stream)) == stands
    assert counted(stream).under_way() is None
    assert stream.close(*HOURS) == []
    assert "no closed hour is due again" in command(stream, "due")[1]
    assert_rows(stream)


def status(stream: Stream, command: Command) -> str:
    """Return what `stream status` says of a stream whose driver has ended."""
    return command(stream, "status")[1]


def test_messages_lost_partitions_added_checkpoints_emptied_and_topics_made_again(
    spark: SparkSession, settings: Settings, store: Store, tmp_path: Path, command: Command
) -> None:
    stream = make_stream(spark, settings, store, tmp_path)
    topic, admin = stream.spec.source.kafka.topic, kafka.Admin(settings)
    readings = make_readings(60, seed=31, over=HOUR)
    stream.send(readings[:20])
    stream.land()
    add_partitions_down_and_running(stream, admin, readings[20:])

    # Retention takes messages that nobody has read yet.
    stream.send(make_readings(40, seed=32, over=HOUR))
    stands = counted(stream).stands(topic_id(stream))
    _, end = kafka.end_offsets(admin, topic)
    (lossy,) = [p for p in end if end[p] - stands.get(p, 0) >= 3][:1]
    until = TopicPartition(topic, lossy, stands[lossy] + 2)
    admin.delete_records([until])[until].result(15)
    told = refused(stream)
    lost = f"partition {lossy}: {stands[lossy]}..{stands[lossy] + 1}"
    assert f"2 messages of '{topic}' were deleted before the query 'land' had read them" in told
    assert lost in told
    assert f"`streamkeeper stream accept-lost {stream.spec.name}`" in told
    code, said = command(stream, "accept-lost", "--yes", "--wait", "0")
    assert code == 0, said
    assert f"never read, and accepted as lost: {lost}" in said
    stream.land()
    stream.look(FIRST)
    (closed,) = stream.close(FIRST)
    assert (closed.state, closed.counts["valid"]) == ("complete", 98)

    check_emptied(stream, command)

    # The topic is deleted and made again under its name.
    old = topic_id(stream)
    admin.delete_topics([topic])[topic].result(15)
    wait_for(lambda: made_again(admin, stream.spec, old), "the topic under a new id", 30)
    stream.send(make_readings(25, seed=33, over=HOUR))
    assert f"`streamkeeper stream reset {stream.spec.name}`" in refused(stream)
    code, said = command(stream, "reset", "--yes", "--wait", "0")
    assert code == 0, said
    assert f"rows of the topic id {old} stay as they are" in said
    stream.land()
    (closed,) = stream.close(FIRST)
    assert (closed.revision, closed.state, closed.counts["valid"]) == (2, "complete", 98 + 25)
    assert {r["_topic_id"] for r in rows(stream, FIRST)} == {old, topic_id(stream)}


def add_partitions_down_and_running(
    stream: Stream, admin: kafka.Admin, readings: list[Reading]
) -> None:
    """New partitions begin at 0, whether they come while no driver runs or under one."""
    topic = stream.spec.source.kafka.topic
    admin.create_partitions([NewPartitions(topic, 4)])[topic].result(15)

    def spread(count: int, some: list[Reading]) -> Callable[[], bool]:
        by_place = TopicPartition(topic, count - 1)
        producer = Producer({"bootstrap.servers": stream.settings.kafka})
        for reading in some:
            producer.produce(topic, value=reading.message(), partition=by_place.partition)
        assert producer.flush(30) == 0
        return lambda: counted(stream).stands(topic_id(stream)).get(count - 1) == len(some)

    down = spread(4, readings[:20])
    stream.land()
    assert down()
    running: list[Callable[[], bool]] = []

    def add() -> bool:
        if not running:
            admin.create_partitions([NewPartitions(topic, 5)])[topic].result(15)
            running.append(spread(5, readings[20:]))
        return running[0]()

    assert stream.land_until(add).code == EXIT_DRAINED
    (generation,) = counted(stream).counting
    assert set(generation.start) == {0, 1, 2}
    assert sum(size(m.span) for m in counted(stream).manifests) == 60


def check_emptied(stream: Stream, command: Command) -> None:
    """A checkpoint that was emptied, and one that is gone, are refused; a reset goes on."""
    lake, name = hdfs_client(stream.settings.lake), stream.spec.name
    root = f"{names.checkpoint_path(stream.spec, LAND)}/{counted(stream).counting[-1].generation}"
    (own,) = [n for n in folder_names(stream.settings.lake, root) if n.startswith("e")]
    for inside in folder_names(stream.settings.lake, f"{root}/{own}"):
        lake.delete(f"{root}/{own}/{inside}", True)
    told = refused(stream)
    assert "was emptied: its id is missing, not" in told
    assert f"`streamkeeper stream reset {name}`" in told
    lake.delete(root, True)
    assert "its checkpoint is not in" in refused(stream)
    code, said = command(stream, "reset", "--yes", "--wait", "0")
    assert code == 0, said
    before = counted(stream).stands(topic_id(stream))
    stream.land()
    assert counted(stream).stands(topic_id(stream)) == before
    assert stream.close(FIRST) == []


def test_transactional_and_compacted_topics(
    spark: SparkSession, settings: Settings, store: Store, tmp_path: Path, compacted_topic: str
) -> None:
    plain = make_stream(spark, settings, store, tmp_path / "t")
    topic = plain.spec.source.kafka.topic
    readings = make_readings(60, seed=41, over=HOUR)
    producer = Producer({"bootstrap.servers": settings.kafka, "transactional.id": topic})
    producer.init_transactions(15)
    transaction(producer, topic, readings[:30])
    transaction(producer, topic, readings[30:40], commit=False)
    transaction(producer, topic, readings[40:50])

    # Undeclared, its gaps are told and nothing is published.
    told = refused(plain)
    assert "source.kafka.kind: transactional" in told
    assert manifests(settings, plain.spec) == []

    stream = of_kind(plain, "transactional")
    producer.begin_transaction()
    for reading in readings[50:]:
        producer.produce(topic, value=reading.message(), partition=0)
    producer.flush(15)
    stream.look(FIRST)
    stream.land()
    assert sum(m.read for m in manifests(settings, stream.spec)) == 40
    (partial,) = stream.close(FIRST)
    assert (partial.state, partial.counts["valid"]) == ("partial", 40)
    producer.commit_transaction(15)
    stream.land()
    (complete,) = stream.close(FIRST)
    assert (complete.state, complete.counts["valid"]) == ("complete", 50)
    kept = {r.temperature for r in readings[:30] + readings[40:]}
    assert {r["temperature"] for r in rows(stream, FIRST)} == kept
    found = manifests(settings, stream.spec)
    assert sum(size(m.span) for m in found) > sum(m.read for m in found) == 50

    compacted = make_stream(spark, settings, store, tmp_path / "c")
    check_compacted(of_kind(compacted, "compacted", topic=compacted_topic))


def check_compacted(stream: Stream) -> None:
    """What is left of a compacted topic lands; its holes are covered by the span."""
    topic = stream.spec.source.kafka.topic
    wait_for(lambda: left_in(stream, topic) < 40, "the topic to be compacted", 60)
    stream.look(FIRST)
    stream.land()
    (closed,) = stream.close(FIRST)
    found = manifests(stream.settings, stream.spec)
    assert sum(size(m.span) for m in found) == 40
    assert closed.state == "complete"
    assert 10 <= closed.counts["valid"] == sum(m.read for m in found) < 40
