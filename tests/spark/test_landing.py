"""Publishing batches and the fence, on a lake in a local folder."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from landed import NOW, SCHEMA, make_spec
from pyspark.sql import SparkSession

from streamkeeper import names
from streamkeeper.errors import Fenced, LakeDisagreement, TopicReplaced
from streamkeeper.generations import Generation
from streamkeeper.manifest import Manifest
from streamkeeper.spec.models import Spec
from streamkeeper_io.lake import published_batches, read_manifest
from streamkeeper_spark import accounts, fence
from streamkeeper_spark.checks import RecordChecks
from streamkeeper_spark.files import LakeFiles
from streamkeeper_spark.landing import Draining, Publisher, WriteNumbers, with_constants
from streamkeeper_spark.parse import Frame
from streamkeeper_spark.source import logged_offsets

LAKE = "file:///"
GOOD = b'{"t": 1.5, "timestamp": "2026-11-24T11:59:00Z"}'
EARLIER = b'{"t": 1.5, "timestamp": "2026-11-24T10:01:00Z"}'


@pytest.fixture(scope="module")
def files(spark: SparkSession) -> LakeFiles:
    return LakeFiles(spark, LAKE)


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    made = make_spec({"t": {"type": "double"}, "timestamp": {"type": "timestamp"}})
    return made.model_copy(update={"lake": made.lake.model_copy(update={"path": str(tmp_path)})})


def begin(files: LakeFiles, spec: Spec, epoch: int) -> Generation:
    return fence.begin_generation(
        files, spec, names.LAND, epoch=epoch, topic_id="id-1", start={0: 100, 1: 5}
    )


def log_offsets(files: LakeFiles, checkpoint: str, batch: int, offsets: dict[int, int]) -> None:
    """Write what Spark logs when it plans a batch."""
    entry = json.dumps({"readings": {str(p): n for p, n in offsets.items()}})
    files.write(f"{checkpoint}/offsets/{batch}", f'v1\n{{"batchWatermarkMs":0}}\n{entry}')


@pytest.fixture
def make_publisher(files: LakeFiles, spec: Spec) -> Callable[..., Publisher]:
    def make(generation: Generation, checkpoint: str, epoch: int, **changes: Any) -> Publisher:
        publisher = Publisher(
            spec=spec,
            zone="raw",
            folder=names.raw_path(spec),
            generation=generation,
            checkpoint=checkpoint,
            epoch=epoch,
            files=files,
            numbers=WriteNumbers(epoch),
            draining=changes.get("draining", threading.Event()),
            columns=accounts.RAW_COLUMNS,
            account=accounts.account_of_raw,
            published=changes.get("published", lambda _: None),
            complete=changes.get("complete", with_constants),
        )
        publisher.prepare()
        return publisher

    return make


def rows(spark: SparkSession, spec: Spec, values: list[bytes | None]) -> Any:
    messages = [(None, value, 0, 100 + n, NOW) for n, value in enumerate(values)]
    frame = spark.createDataFrame(messages, SCHEMA)
    return RecordChecks(spec, Frame()).apply(frame, "id-1")


def manifests(spec: Spec) -> list[Manifest]:
    folder = names.raw_path(spec)
    return [read_manifest(LAKE, folder, name) for name in published_batches(LAKE, folder)]


def test_a_batch_is_published_with_what_its_files_hold(
    spark: SparkSession, files: LakeFiles, spec: Spec, make_publisher: Callable[..., Publisher]
) -> None:
    generation = begin(files, spec, 3)
    checkpoint = fence.take_over(files, spec, generation, 3)
    told: list[Manifest] = []
    publisher = make_publisher(generation, checkpoint, 3, published=told.append)
    log_offsets(files, checkpoint, 0, {0: 104, 1: 5})
    publisher.publish(rows(spark, spec, [GOOD, EARLIER, b"junk", b'{"t": "1"}']), 0)
    (found,) = manifests(spec)
    assert told == [found]
    assert found.span == {0: (100, 104)}
    assert (found.read, found.valid, found.quarantined) == (4, 2, 2)
    assert found.quarantined_by_rule == {"parse:json": 1, "type:t": 1, "required:timestamp": 1}
    assert found.hours == {
        datetime(2026, 11, 24, 10, tzinfo=UTC): 1,
        datetime(2026, 11, 24, 11, tzinfo=UTC): 1,
    }
    assert found.first_event == datetime(2026, 11, 24, 10, 1, tzinfo=UTC)
    assert found.last_event == datetime(2026, 11, 24, 11, 59, tzinfo=UTC)
    assert (found.epoch, found.write_number, found.topic_id) == (3, 3 * 10**9, "id-1")
    assert files.names(f"{names.raw_path(spec)}/_tmp") == []
    landed = spark.read.parquet(
        *[
            f"{names.raw_path(spec)}/{names.BatchName(found.generation, 0).folder}/{n}"
            for n in found.files
        ]
    )
    row = landed.where("_offset = 102").first()
    assert row is not None
    assert (bytes(row["_value"]), row["_batch"]) == (b"junk", 0)
    assert row["_generation"] == generation.generation


def test_a_repeated_batch_is_skipped_and_another_span_refused(
    spark: SparkSession, files: LakeFiles, spec: Spec, make_publisher: Callable[..., Publisher]
) -> None:
    generation = begin(files, spec, 1)
    checkpoint = fence.take_over(files, spec, generation, 1)
    log_offsets(files, checkpoint, 0, {0: 101})
    make_publisher(generation, checkpoint, 1).publish(rows(spark, spec, [GOOD]), 0)
    before = manifests(spec)
    checkpoint = fence.take_over(files, spec, generation, 2)
    told: list[Manifest] = []
    again = make_publisher(generation, checkpoint, 2, published=told.append)
    again.publish(rows(spark, spec, [GOOD]), 0)
    assert manifests(spec) == before == told
    files.delete(f"{checkpoint}/offsets/0")
    log_offsets(files, checkpoint, 0, {0: 102})
    with pytest.raises(LakeDisagreement, match=r"covers partition 0: 100\.\.100, but"):
        again.publish(rows(spark, spec, [GOOD, GOOD]), 0)
    assert manifests(spec) == before


def test_a_checkpoint_that_was_taken_over_tells_nothing(files: LakeFiles, spec: Spec) -> None:
    """A launch frozen after its take-over reads of a folder that has moved, not emptied."""
    generation = begin(files, spec, 1)
    checkpoint = fence.take_over(files, spec, generation, 1)
    log_offsets(files, checkpoint, 0, {0: 101})
    assert fence.logged(files, generation, checkpoint) == {0: 101, 1: 5}
    fence.take_over(files, spec, generation, 2)
    for read in (fence.logged, fence.committed, fence.refuse_emptied):
        with pytest.raises(Fenced, match="a newer launch took the query 'land' over"):
            read(files, generation, checkpoint)


def test_a_frozen_launchs_files_stay_until_its_batch_is_published(
    spark: SparkSession, files: LakeFiles, spec: Spec, make_publisher: Callable[..., Publisher]
) -> None:
    """It may wake at any time, write the rest of its files and publish all that is there."""
    generation = begin(files, spec, 1)
    checkpoint = fence.take_over(files, spec, generation, 1)
    log_offsets(files, checkpoint, 0, {0: 101})
    make_publisher(generation, checkpoint, 1)
    staging = f"{names.raw_path(spec)}/_tmp"
    files.write(f"{staging}/1-0-0/part-0.parquet", "the first of two")
    newer = make_publisher(generation, fence.take_over(files, spec, generation, 2), 2)
    assert files.names(staging) == ["1-0-0"], "nothing is in this batch's place yet"
    newer.publish(rows(spark, spec, [GOOD]), 0)
    assert files.names(staging) == []


def test_the_same_batch_by_another_version_is_skipped_by_its_span(
    spark: SparkSession, files: LakeFiles, spec: Spec, make_publisher: Callable[..., Publisher]
) -> None:
    """Published by one declaration, repeated by another: what counts is what was published.

    So it is too when the checkpoint was restored from an older copy: a batch that is planned again
    with the same span is skipped, one with another span stops the stream.
    """
    generation = begin(files, spec, 1)
    checkpoint = fence.take_over(files, spec, generation, 1)
    log_offsets(files, checkpoint, 0, {0: 101})
    make_publisher(generation, checkpoint, 1).publish(rows(spark, spec, [GOOD]), 0)
    log_offsets(files, checkpoint, 1, {0: 103})
    make_publisher(generation, checkpoint, 1).publish(rows(spark, spec, [GOOD, GOOD]), 1)
    before = manifests(spec)
    other = make_publisher(generation, checkpoint, 1)
    other.spec = spec.model_copy(update={"description": "Another version."})
    other.publish(rows(spark, spec, [b"bytes that the other version would refuse"]), 0)
    assert manifests(spec) == before
    # The older copy: its log ends with batch 0, and batch 1 is planned again.
    files.delete(f"{checkpoint}/offsets/1")
    log_offsets(files, checkpoint, 1, {0: 103})
    other.publish(rows(spark, spec, [GOOD, GOOD]), 1)
    files.delete(f"{checkpoint}/offsets/1")
    log_offsets(files, checkpoint, 1, {0: 150})
    with pytest.raises(LakeDisagreement, match=r"covers partition 0: 101\.\.102, but"):
        other.publish(rows(spark, spec, [GOOD]), 1)
    assert manifests(spec) == before


def test_offsets_without_messages_are_told_unless_they_are_declared(
    spark: SparkSession, files: LakeFiles, spec: Spec, make_publisher: Callable[..., Publisher]
) -> None:
    generation = begin(files, spec, 1)
    checkpoint = fence.take_over(files, spec, generation, 1)
    log_offsets(files, checkpoint, 0, {0: 103})
    publisher = make_publisher(generation, checkpoint, 1)
    with pytest.raises(LakeDisagreement, match=r"read 2 messages at 3 offsets .*transactional"):
        publisher.publish(rows(spark, spec, [GOOD, GOOD]), 0)
    assert manifests(spec) == []
    kafka = spec.source.kafka.model_copy(update={"kind": "transactional"})
    source = spec.source.model_copy(update={"kafka": kafka})
    publisher.spec = spec.model_copy(update={"source": source})
    publisher.publish(rows(spark, spec, [GOOD, GOOD]), 0)
    (found,) = manifests(spec)
    assert (found.read, found.span) == (2, {0: (100, 103)})


def test_the_slower_of_two_publishes_nothing(
    spark: SparkSession, files: LakeFiles, spec: Spec, make_publisher: Callable[..., Publisher]
) -> None:
    """Both hold the same batch in hand: one froze before its rename, the other took over."""
    generation = begin(files, spec, 1)
    checkpoint = fence.take_over(files, spec, generation, 1)
    log_offsets(files, checkpoint, 0, {0: 101})
    slow = make_publisher(generation, checkpoint, 1)
    span, name = slow.span_of(0), names.BatchName(generation.generation, 0)
    staging = f"{names.raw_path(spec)}/_tmp/1-0-0"
    slow._write(rows(spark, spec, [GOOD]), 0, staging, 1)
    manifest = slow._describe(name, span, staging)
    files.write(f"{staging}/_manifest.json", manifest.model_dump_json())
    newer = fence.take_over(files, spec, generation, 2)
    fast = make_publisher(generation, newer, 2)
    fast.publish(rows(spark, spec, [GOOD]), 0)
    (published,) = manifests(spec)
    assert published.epoch == 2
    # What it had staged was cleared away by the newer launch.
    with pytest.raises(Fenced):
        slow._rename(staging, name, manifest)
    # And without the clearing, the rename is refused.
    slow._write(rows(spark, spec, [GOOD]), 0, staging, 1)
    assert slow._rename(staging, name, manifest) == published
    assert manifests(spec) == [published]
    # The next batch finds its checkpoint gone.
    with pytest.raises(Fenced, match="a newer launch took it over"):
        slow.publish(rows(spark, spec, [GOOD]), 1)


def test_a_checkpoint_made_anew_publishes_nothing(
    spark: SparkSession, files: LakeFiles, spec: Spec, make_publisher: Callable[..., Publisher]
) -> None:
    """A launch froze between taking over and starting its query, and another took over."""
    generation = begin(files, spec, 1)
    old = fence.take_over(files, spec, generation, 1)
    fence.take_over(files, spec, generation, 2)
    publisher = make_publisher(generation, old, 1)
    log_offsets(files, old, 0, {0: 101})
    with pytest.raises(Fenced, match="metadata is not in"):
        publisher.publish(rows(spark, spec, [GOOD]), 0)
    files.write(f"{old}/metadata", json.dumps({"id": "another"}))
    with pytest.raises(Fenced, match="was made anew as another"):
        publisher.publish(rows(spark, spec, [GOOD]), 0)
    assert manifests(spec) == []


def test_a_draining_launch_begins_no_batch(
    spark: SparkSession, files: LakeFiles, spec: Spec, make_publisher: Callable[..., Publisher]
) -> None:
    generation = begin(files, spec, 1)
    checkpoint = fence.take_over(files, spec, generation, 1)
    log_offsets(files, checkpoint, 0, {0: 101})
    draining = threading.Event()
    draining.set()
    with pytest.raises(Draining):
        make_publisher(generation, checkpoint, 1, draining=draining).publish(
            rows(spark, spec, [GOOD]), 0
        )
    assert manifests(spec) == []


def test_only_one_launch_begins_a_generation(files: LakeFiles, spec: Spec) -> None:
    first = begin(files, spec, 1)
    with pytest.raises(Fenced, match="another launch began"):
        begin(files, spec, 2)
    assert fence.find_generation(files, spec, names.LAND, []) == first
    assert json.loads(files.read(f"{fence.take_over(files, spec, first, 1)}/metadata")) == {
        "id": first.generation
    }


def test_the_newest_launch_owns_the_checkpoint(files: LakeFiles, spec: Spec) -> None:
    generation = begin(files, spec, 1)
    old = fence.take_over(files, spec, generation, 1)
    new = fence.take_over(files, spec, generation, 4)
    assert not files.exists(old)
    assert files.exists(f"{new}/metadata")
    with pytest.raises(Fenced, match="launch 4 owns"):
        fence.take_over(files, spec, generation, 3)
    assert fence.is_fenced(files, old)
    assert not fence.is_fenced(files, new)
    # A woken query may make its folder again; the newest still rules.
    files.make_folder(old)
    assert fence.is_fenced(files, old)
    assert not fence.is_fenced(files, new)


def test_a_lost_checkpoint_and_another_topic_are_refused(files: LakeFiles, spec: Spec) -> None:
    generation = begin(files, spec, 1)
    fence.refuse_other_topic(generation, "id-1")
    with pytest.raises(TopicReplaced, match="reset the stream"):
        fence.refuse_other_topic(generation, "id-2")
    files.delete(names.checkpoint_path(spec, names.LAND))
    with pytest.raises(LakeDisagreement, match="its checkpoint is not in"):
        fence.find_generation(files, spec, names.LAND, [generation])
    assert fence.find_generation(files, spec, names.LAND, []) is None


def test_offset_logs_of_another_form_are_refused(files: LakeFiles, spec: Spec) -> None:
    generation = begin(files, spec, 1)
    assert logged_offsets('v1\n{}\n{"readings":{"0":7}}', generation) == {0: 7}
    for entry in ("v2\n{}\n{}", 'v1\n{}\n{"other":{"0":7}}', "v1\n{}"):
        with pytest.raises(ValueError, match="offset log"):
            logged_offsets(entry, generation)


def test_files_tell_missing_from_existing(files: LakeFiles, tmp_path: Path) -> None:
    path = f"{tmp_path}/folder/file"
    assert files.names(f"{tmp_path}/folder") == []
    files.write(path, "é")
    assert (files.read(path), files.names(f"{tmp_path}/folder")) == ("é", ["file"])
    with pytest.raises(FileExistsError):
        files.write(path, "x")
    files.make_folder(f"{tmp_path}/other")
    with pytest.raises(FileExistsError):
        files.rename(f"{tmp_path}/other", f"{tmp_path}/folder")
    with pytest.raises(FileNotFoundError):
        files.read(f"{tmp_path}/nothing")
    with pytest.raises(FileNotFoundError):
        files.rename(f"{tmp_path}/nothing", f"{tmp_path}/new")


def test_a_later_batch_compiles_no_code(
    spark: SparkSession, files: LakeFiles, spec: Spec, make_publisher: Callable[..., Publisher]
) -> None:
    """Code with a batch's number in it would be compiled and kept for every batch."""
    generation = begin(files, spec, 1)
    checkpoint = fence.take_over(files, spec, generation, 1)
    checks = RecordChecks(spec, Frame())
    topic = {names.TOPIC_ID: "'id-1'"}
    publisher = make_publisher(
        generation, checkpoint, 1, complete=lambda read, batch: checks.judge(read, topic | batch)
    )
    # Rows that it knows beforehand Spark computes without code of its own.
    batches = [
        checks.read(
            spark.createDataFrame([(None, GOOD, 0, 100 + n, NOW)], SCHEMA).localCheckpoint()
        )
        for n in range(3)
    ]
    jvm: Any = spark._jvm
    metric = jvm.org.apache.spark.metrics.source.CodegenMetrics.METRIC_COMPILATION_TIME()
    compiled = [metric.getCount()]
    for batch, read in enumerate(batches):
        log_offsets(files, checkpoint, batch, {0: 101 + batch})
        publisher.publish(read, batch)
        compiled.append(metric.getCount())
    assert sum(m.read for m in manifests(spec)) == 3
    assert compiled[0] < compiled[1] == compiled[2] == compiled[3]
