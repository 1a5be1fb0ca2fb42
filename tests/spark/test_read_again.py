"""What a rewind does to closed hours, and which checkpoints it goes on with; on local files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from spark_specs import HOUR_12, HOURS, landed_row, make_spec, manifest_of

from streamkeeper.closing import Task, plan_close
from streamkeeper.errors import Fenced, LakeDisagreement, OffsetsLost
from streamkeeper.generations import Counted, Generation
from streamkeeper.hours import Look, Revision
from streamkeeper.manifest import Manifest
from streamkeeper.names import (
    CLOSED_FILE,
    CURATED,
    LAND,
    BatchName,
    checkpoint_path,
    closed_file,
    kpi_zone,
    raw_path,
)
from streamkeeper.spec.models import Spec
from streamkeeper_io.closed import read_closed
from streamkeeper_spark import fence, hours
from streamkeeper_spark.files import LakeFiles
from streamkeeper_spark.schema import landed_schema
from streamkeeper_spark.staging import Staging

LAKE = "file:///"
OLD, NEW = "0" * 36, "1" * 36


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    return make_spec(str(tmp_path / "lake"))


@pytest.fixture
def files(spark: SparkSession) -> LakeFiles:
    return LakeFiles(spark, LAKE)


@pytest.fixture
def staging(spark: SparkSession, files: LakeFiles, spec: Spec) -> Iterator[Staging]:
    spark.conf.set("spark.sql.maxConcurrentOutputFileWriters", "0")
    yield Staging(spark, files, spec)
    spark.conf.set("spark.sql.maxConcurrentOutputFileWriters", "64")


def made(name: str, start: dict[int, int], **changes: Any) -> Generation:
    values = {
        "stream": "readings", "query": LAND, "generation": name, "topic": "readings",
        "topic_id": "topic", "start": start, "epoch": 1,
    }  # fmt: skip
    return Generation.model_validate(values | changes)


FIRST = made(OLD, {0: 0})
SECOND = made(NEW, {0: 2}, target={0: 4}, request=1, epoch=2)


def publish(
    staging: Staging, rows: Sequence[dict[str, Any]], generation: Generation, number: int = 0
) -> Manifest:
    """Publish landed rows as a batch of a generation."""
    spec = staging.spec
    named = [r | {"_generation": generation.generation, "_batch": number} for r in rows]
    folder = f"{raw_path(spec)}/{BatchName(generation.generation, number).folder}"
    frame = staging.spark.createDataFrame(named, landed_schema(spec))
    frame.coalesce(1).write.parquet(f"file://{folder}")
    found = tuple(p.name for p in Path(folder).glob("*.parquet"))
    changes = {"files": found, "generation": generation.generation, "epoch": generation.epoch}
    return manifest_of(spec, named, batch=number).model_copy(update=changes)


def close(staging: Staging, counted: Counted, before: dict[datetime, Revision]) -> list[Task]:
    """Close both hours as `Close` does without its store; the revisions go into `before`."""
    look = Look(
        stream="readings", hour=HOUR_12, topic_id="topic", taken_at=HOUR_12, end_offsets={0: 0}
    )
    looks = dict.fromkeys(HOURS, look)
    tasks = [t for t in plan_close(HOURS, latest=before, counted=counted, looks=looks) if t.needed]
    for number in {task.number for task in tasks}:
        group = [task for task in tasks if task.number == number]
        epoch = 10 + number
        folder = staging.folder(epoch, number)
        written = staging.write(group, folder, counted)
        for task in group:
            zones = written[task.hour]
            before[task.hour] = Revision(
                stream="readings", hour=task.hour, revision=number, epoch=epoch,
                write_number=epoch, state="complete", merged=dict(task.merged),
                files={zone: [CLOSED_FILE] for zone in zones}, staging=folder,
                counts={"valid": zones.get(CURATED, 0)}, committed_at=datetime.now(UTC),
            )  # fmt: skip
            staging.move([before[task.hour]])
    return tasks


def visible(staging: Staging, zone: str, hour: datetime) -> tuple[int, list[dict[str, Any]]]:
    """Return the revision and the rows of an hour's visible file."""
    found = read_closed(LAKE, closed_file(staging.spec, zone, hour))
    assert found is not None
    return found[0].revision, found[1].to_pylist()


def test_rows_read_again_replace_older_ones_whatever_became_of_them(staging: Staging) -> None:
    """Of four rows two stay, one changes its hour, one is quarantined; an hour loses its only."""
    spec = staging.spec
    old = publish(
        staging,
        [landed_row(spec, n) for n in range(3)] + [landed_row(spec, 3, hour=HOURS[1])],
        FIRST,
    )
    revisions: dict[datetime, Revision] = {}
    close(staging, Counted([FIRST], [old]), revisions)
    assert visible(staging, CURATED, HOURS[1])[0] == 1
    again = [
        landed_row(spec, 2, city="Rabat"),
        landed_row(spec, 3, hour=HOURS[1], errors=["range:temperature: too hot"]),
    ]
    new = publish(staging, again, SECOND)
    # Half of it is not enough.
    half = new.model_copy(update={"span": {0: (2, 3)}})
    assert close(staging, Counted([FIRST, SECOND], [old, half]), revisions) == []

    counted = Counted([FIRST, SECOND], [old, new])
    assert len(close(staging, counted, revisions)) == 2
    number, rows = visible(staging, CURATED, HOUR_12)
    assert number == 2
    assert [(r["_offset"], r["_generation"], r["city"]) for r in rows] == [
        (0, OLD, "Fes"),
        (1, OLD, "Fes"),
        (2, NEW, "Rabat"),
    ]
    # The other hour has a file without rows in each of its zones, of its new revision.
    for zone in (CURATED, *(kpi_zone(kpi.name) for kpi in spec.kpis)):
        assert visible(staging, zone, HOURS[1]) == (2, [])
    assert revisions[HOURS[1]].counts == {"valid": 0}
    assert close(staging, counted, revisions) == []
    # What was quarantined counts once too.
    landed = hours.read_landed(staging.spark, staging.files, spec, hours.batch_files(spec, [new]))
    standing = hours.without_replaced(landed, counted)
    assert hours.quarantined_by_hour(standing, HOURS)[HOURS[1]][""] == 1
    # A late row brings the emptied hour back.
    late = publish(staging, [landed_row(spec, 4, hour=HOURS[1])], SECOND, 1)
    close(staging, Counted([FIRST, SECOND], [old, new, late]), revisions)
    number, rows = visible(staging, CURATED, HOURS[1])
    assert (number, [r["_offset"] for r in rows]) == (3, [4])


def test_only_coordinates_of_newer_spans_are_dropped(spark: SparkSession, spec: Spec) -> None:
    rows = [
        landed_row(spec, 1, generation=OLD),
        landed_row(spec, 2, generation=OLD),
        landed_row(spec, 2, partition=1, generation=OLD),
        landed_row(spec, 2, topic_id="another", generation=OLD),
        landed_row(spec, 4, generation=OLD),
    ]
    covers = manifest_of(spec, rows, batch=0).model_copy(
        update={"generation": NEW, "span": {0: (2, 4)}}
    )
    counted = Counted([FIRST, SECOND], [covers])
    frame = spark.createDataFrame(rows, landed_schema(spec))
    left = hours.without_replaced(frame, counted).collect()
    assert [(r["_topic_id"], r["_partition"], r["_offset"]) for r in left] == [
        ("topic", 0, 1),
        ("topic", 1, 2),
        ("another", 0, 2),
        ("topic", 0, 4),
    ]


def begin(files: LakeFiles, spec: Spec, epoch: int, **changes: Any) -> Generation:
    return fence.begin_generation(
        files, spec, LAND, epoch=epoch, topic_id="topic", start={0: 5}, **changes
    )


def log(files: LakeFiles, checkpoint: str, batch: int, end: int, *, commit: bool) -> None:
    entry = json.dumps({"readings": {"0": end}})
    files.write(f"{checkpoint}/offsets/{batch}", f"v1\n{{}}\n{entry}")
    if commit:
        files.write(f"{checkpoint}/commits/{batch}", 'v1\n{"nextBatchWatermarkMs":0}')


def test_a_new_generation_is_the_one_that_a_query_goes_on_with(
    files: LakeFiles, spec: Spec
) -> None:
    first = begin(files, spec, 1)
    second = begin(files, spec, 2, target={0: 9}, request=3)
    assert first.generation != second.generation
    assert (second.target, second.request) == ({0: 9}, 3)
    assert fence.generations_in(files, spec, LAND) == [first, second]
    assert fence.find_generation(files, spec, LAND, [first, second]) == second
    # It is recorded by the launch that made it; the store may not know of it.
    assert fence.find_generation(files, spec, LAND, [first]) == second
    # The first one's checkpoint was lost, and the second is not in the store yet.
    files.delete(f"{checkpoint_path(spec, LAND)}/{first.generation}")
    assert fence.find_generation(files, spec, LAND, [first]) == second
    first = begin(files, spec, 1)
    with pytest.raises(Fenced, match="another launch began"):
        begin(files, spec, 3, request=3)
    # The older driver is refused by its own generation's fence.
    fence.take_over(files, spec, first, 2)
    with pytest.raises(Fenced, match="launch 2 owns"):
        fence.take_over(files, spec, first, 1)


def test_where_a_query_stood_is_told_by_its_logs(files: LakeFiles, spec: Spec) -> None:
    generation = begin(files, spec, 1)
    checkpoint = fence.take_over(files, spec, generation, 1)
    assert fence.committed(files, generation, checkpoint) == {0: 5}
    log(files, checkpoint, 0, 20, commit=True)
    log(files, checkpoint, 1, 30, commit=False)
    assert fence.committed(files, generation, checkpoint) == {0: 20}
    assert fence.logged(files, generation, checkpoint) == {0: 30}
    fence.refuse_lost(files, generation, checkpoint, {0: 20, 1: 0})
    with pytest.raises(OffsetsLost) as caught:
        fence.refuse_lost(files, generation, checkpoint, {0: 25, 1: 2})
    told = str(caught.value)
    assert "7 messages of 'readings' were deleted before the query 'land' had read them" in told
    assert "partition 0: 20..24; partition 1: 0..1" in told
    assert "`streamkeeper stream accept-lost readings`" in told


def test_an_emptied_checkpoint_is_told_before_spark_fills_it(files: LakeFiles, spec: Spec) -> None:
    generation = begin(files, spec, 1)
    checkpoint = fence.take_over(files, spec, generation, 1)
    fence.refuse_emptied(files, generation, checkpoint)
    files.delete(f"{checkpoint}/metadata")
    with pytest.raises(LakeDisagreement, match="was emptied: its id is missing, not"):
        fence.refuse_emptied(files, generation, checkpoint)
    files.write(f"{checkpoint}/metadata", json.dumps({"id": "another"}))
    with pytest.raises(LakeDisagreement, match="its id is another"):
        fence.refuse_emptied(files, generation, checkpoint)
    files.delete(checkpoint_path(spec, LAND))
    with pytest.raises(LakeDisagreement, match="holds no checkpoint"):
        fence.take_over(files, spec, generation, 2)
