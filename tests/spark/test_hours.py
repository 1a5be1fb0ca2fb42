"""Closed hours: one row a coordinate, one sorted file an hour, KPIs, footers; on local files."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from spark_specs import HOUR_12, HOURS, landed_row, make_spec, manifest_of

from streamkeeper.closing import Task, staged_hour
from streamkeeper.errors import LakeDisagreement
from streamkeeper.generations import Change, Counted, Generation
from streamkeeper.hours import Completeness, Revision
from streamkeeper.manifest import Manifest
from streamkeeper.names import (
    CLOSED_FILE,
    CURATED,
    alert_zone,
    closed_file,
    closed_name,
    csv_zone,
    hour_folder,
    kpi_zone,
)
from streamkeeper.spec.models import Spec
from streamkeeper_io.closed import REVISION_KEY, read_closed, read_footer
from streamkeeper_spark import hours
from streamkeeper_spark.files import LakeFiles
from streamkeeper_spark.kpis import kpi_rows
from streamkeeper_spark.schema import landed_schema
from streamkeeper_spark.staging import Staging

LAKE = "file:///"
EARLIER, LATER = "generation-a", "generation-b"


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    return make_spec(str(tmp_path / "lake"))


@pytest.fixture
def staging(spark: SparkSession, spec: Spec) -> Iterator[Staging]:
    spark.conf.set("spark.sql.maxConcurrentOutputFileWriters", "0")
    yield Staging(spark, LakeFiles(spark, LAKE), spec)
    spark.conf.set("spark.sql.maxConcurrentOutputFileWriters", "64")


def landed(spark: SparkSession, spec: Spec, rows: list[dict[str, Any]]) -> DataFrame:
    return spark.createDataFrame(rows, landed_schema(spec))


def counted(*generations: str, published: Sequence[Manifest] = ()) -> Counted:
    """Return generations that count, oldest first."""
    made = [
        Generation(
            stream="readings", query="land", generation=name, topic="readings", topic_id="topic",
            start={}, epoch=epoch,
        )
        for epoch, name in enumerate(generations, 1)
    ]  # fmt: skip
    return Counted(made, published)


def close(
    staging: Staging,
    rows: list[dict[str, Any]],
    *,
    before: Revision | None = None,
    epoch: int = 7,
    batch: int = 0,
) -> Revision:
    """Publish a batch and close the first hour, as `Close` does without its store."""
    spec = staging.spec
    manifest = manifest_of(spec, rows, batch=batch)
    folder = f"{spec.lake.path}/raw/batch={manifest.generation}-{batch}"
    landed(staging.spark, spec, rows).coalesce(1).write.parquet(folder)
    files = tuple(p.name for p in Path(folder).glob("*.parquet"))
    manifest = manifest.model_copy(update={"files": files})
    change = Change((manifest,), replaced=False, keeps=True)
    task = Task(HOUR_12, before, change, Completeness(complete=True), {manifest.generation: batch})
    path = staging.folder(epoch, task.number)
    written = staging.write([task], path, counted(manifest.generation))
    return Revision(
        stream=spec.name,
        hour=HOUR_12,
        revision=task.number,
        epoch=epoch,
        write_number=epoch * 10**9,
        state="complete",
        merged=dict(task.merged),
        files={zone: [closed_name(spec, zone)] for zone in written[HOUR_12]},
        staging=path,
        counts={"valid": written[HOUR_12].get(CURATED, 0)},
        committed_at=datetime.now(UTC),
    )


def test_one_row_a_coordinate_stays_that_of_the_newest_generation_and_batch(
    spark: SparkSession, spec: Spec
) -> None:
    rows = [
        landed_row(spec, 0, temperature=1.0, generation=EARLIER, batch=9),
        landed_row(spec, 0, temperature=2.0, generation=LATER, batch=1),
        landed_row(spec, 0, temperature=3.0, generation=LATER, batch=0),
        landed_row(spec, 0, partition=1, temperature=4.0, generation=EARLIER, batch=9),
        landed_row(spec, 0, topic_id="another", temperature=5.0, generation=EARLIER, batch=9),
    ]
    curated = landed(spark, spec, []).drop("_errors", "_value")
    merged = hours.merge(landed(spark, spec, rows), curated, spec, HOURS, counted(EARLIER, LATER))
    assert sorted(r["temperature"] for r in merged.collect()) == [2.0, 4.0, 5.0]


def test_quarantined_rows_and_other_hours_stay_out(spark: SparkSession, spec: Spec) -> None:
    rows = [
        landed_row(spec, 0),
        landed_row(spec, 1, errors=["range:temperature: too hot"]),
        landed_row(spec, 2, hour=HOUR_12 + timedelta(hours=5)),
    ]
    curated = landed(spark, spec, []).drop("_errors", "_value")
    merged = hours.merge(landed(spark, spec, rows), curated, spec, HOURS, counted(EARLIER))
    assert [r["_offset"] for r in merged.collect()] == [0]


def test_hundreds_of_hours_are_written_sorted_one_file_each_with_their_revision(
    spark: SparkSession, spec: Spec, tmp_path: Path, staging: Staging
) -> None:
    many = [HOUR_12 + timedelta(hours=i) for i in range(150)]
    rows = [
        landed_row(spec, n, hour=hour, minute=minute, partition=n % 3)
        for n, (hour, minute) in enumerate((h, m) for h in many for m in range(0, 60, 6))
    ]
    random.Random(1).shuffle(rows)
    curated = landed(spark, spec, []).drop("_errors", "_value")
    merged = hours.merge(landed(spark, spec, rows), curated, spec, many, counted(EARLIER))
    hours.write_hours(merged, f"file://{tmp_path}/out", 3)
    for hour in many:
        (file,) = Path(staged_hour(str(tmp_path), "out", hour)).glob("*.parquet")
        footer = read_footer(LAKE, str(file))
        assert footer is not None
        assert (footer.revision, footer.rows) == (3, 10)
        times = pq.read_table(file)["_event_time"].to_pylist()
        assert times == [hour + timedelta(minutes=m) for m in range(0, 60, 6)]


def test_kpis_have_their_rows_in_the_declared_order(staging: Staging) -> None:
    temperatures = {"Fes": [20.0, 22.0], "Rabat": [30.0], "Agadir": [25.0, None, 25.0]}
    rows = [
        landed_row(staging.spec, n, city=city, temperature=value)
        for n, (city, value) in enumerate((c, v) for c, vs in temperatures.items() for v in vs)
    ]
    revision = close(staging, rows)
    staging.move([revision])

    def kpi(name: str, zone: str = "") -> list[dict[str, Any]]:
        found = read_closed(LAKE, closed_file(staging.spec, zone or kpi_zone(name), HOUR_12))
        assert found is not None
        return found[1].to_pylist()

    assert kpi("by_city") == [
        {"city": "Rabat", "mean": 30.0, "readings": 1},
        {"city": "Agadir", "mean": 25.0, "readings": 3},
        {"city": "Fes", "mean": 21.0, "readings": 2},
    ]
    assert kpi("overall") == [{"readings": 6, "cities": 3, "mean": 24.4}]
    coldest = kpi("coldest")
    assert [(r["city"], r["temperature"]) for r in coldest] == [("Fes", 20.0), ("Fes", 22.0)]
    assert list(coldest[0]) == list(staging.spec.fields)
    warm = kpi("", alert_zone("warm"))
    assert [(r["city"], r["temperature"]) for r in warm] == [
        *(("Agadir", 25.0), ("Agadir", 25.0), ("Fes", 22.0))
    ]
    assert {r["_count"] for r in warm} == {3}


def as_csv(staging: Staging, hour: datetime = HOUR_12) -> Path:
    """The place of the CSV of `by_city`."""
    return Path(staging.spec.lake.path, csv_zone("by_city"), hour_folder(hour), "part-0.csv")


@pytest.fixture
def with_csv(staging: Staging) -> Staging:
    """A staging whose KPI `by_city` is written as CSV too."""
    data = staging.spec.dump()
    data["kpis"][1]["csv"] = True
    return Staging(staging.spark, staging.files, Spec.model_validate(data))


def test_a_csv_stands_beside_a_kpi_and_follows_its_revisions(with_csv: Staging) -> None:
    spec = with_csv.spec
    cities = [("Fes", 20.5), ('a "b", c', 30.0), ("", 10.0), ("=1", None)]
    rows = [landed_row(spec, n, city=c, temperature=t) for n, (c, t) in enumerate(cities)]
    first = close(with_csv, rows)
    assert first.files[csv_zone("by_city")] == ["part-0.csv"]
    assert not as_csv(with_csv).exists(), "nothing is visible before the commit"
    with_csv.move([first])
    assert as_csv(with_csv).read_text() == (
        'city,mean,readings\n"a ""b"", c",30.0,1\nFes,20.5,1\n"",10.0,1\n=1,,1\n'
    )
    second = close(with_csv, [landed_row(spec, 9, batch=1)], before=first, epoch=8, batch=1)
    assert "Fes,20.5,1" in as_csv(with_csv).read_text()
    with_csv.move([second])
    assert "Fes,20.25,2" in as_csv(with_csv).read_text()
    # A close that froze before its moves wakes up: another has moved its files, and later ones.
    with_csv.move([first, second])
    assert "Fes,20.25,2" in as_csv(with_csv).read_text()
    as_csv(with_csv).unlink()
    with pytest.raises(LakeDisagreement, match=r"revision 2 of .*part-0.csv is committed, but"):
        with_csv.move([second])


def test_a_csv_has_the_digits_of_each_kind_of_number(with_csv: Staging) -> None:
    folder, zone = with_csv.folder(7, 1), kpi_zone("by_city")
    fields = [{"name": "single", "metadata": {REVISION_KEY: 1}}]
    footer = {"org.apache.spark.sql.parquet.row.metadata": json.dumps({"fields": fields})}
    columns = {
        "single": pa.array([0.1], pa.float32()),
        "small": pa.array([Decimal("1E-8")], pa.decimal128(20, 8)),
    }
    place = Path(staged_hour(folder, zone, HOUR_12))
    place.mkdir(parents=True)
    pq.write_table(pa.table(columns, metadata=footer), place / CLOSED_FILE)
    assert with_csv._write_csv((folder, zone, HOUR_12)) == (HOUR_12, 1)
    written = Path(staged_hour(folder, csv_zone("by_city"), HOUR_12), "part-0.csv")
    assert written.read_text() == "single,small\n0.1,0.00000001\n"


def test_a_csv_is_moved_after_the_file_that_tells_its_revision(
    with_csv: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    csv_came, came_early = threading.Event(), []
    replace = LakeFiles.replace

    def slowly(files: LakeFiles, source: str, target: str) -> None:
        if target.endswith(".csv"):
            csv_came.set()
        else:
            came_early.append(csv_came.wait(0.5))
        replace(files, source, target)

    monkeypatch.setattr(LakeFiles, "replace", slowly)
    with_csv.move([close(with_csv, [landed_row(with_csv.spec, 0)])])
    assert csv_came.is_set()
    assert came_early == [False] * 4, "the rows and three KPIs went before it"


def test_what_a_close_of_csv_leaves_is_cleared(with_csv: Staging) -> None:
    left = close(with_csv, [landed_row(with_csv.spec, 0)], epoch=7)
    with_csv.move([close(with_csv, [landed_row(with_csv.spec, 1, batch=1)], epoch=8, batch=1)])
    assert Path(left.staging, csv_zone("by_city")).exists()
    newest = left.model_copy(update={"epoch": 8, "stores_pending": False})
    with_csv.clear({HOUR_12: newest})
    assert not list(Path(left.staging).rglob("*.csv"))


def test_the_first_groups_are_those_of_the_measure_equal_ones_by_their_key(
    spark: SparkSession, spec: Spec
) -> None:
    kpi: dict[str, Any] = {"name": "busiest", "by": ["city"], "measures": {"n": "count(*)"}}
    spec = Spec.model_validate(spec.dump() | {"kpis": [kpi | {"order_by": "n", "top": 3}]})
    counts = {"Rabat": 2, "Fes": 2, "Tanger": 2, "Agadir": 1, "Safi": 3}
    rows = [
        landed_row(spec, n, city=c)
        for n, c in enumerate(c for c in counts for _ in "x" * counts[c])
    ]
    rows += [landed_row(spec, 99, city="Agadir", hour=HOURS[1])]
    curated = landed(spark, spec, rows).withColumn("_close", F.col("_hour").cast("string"))
    found = [tuple(row)[1:] for row in kpi_rows(curated, spec, spec.kpis[0]).collect()]
    assert sorted(found) == sorted([("Safi", 3), ("Fes", 2), ("Rabat", 2), ("Agadir", 1)])
    assert [row for row in found if row != ("Agadir", 1)] == [("Safi", 3), ("Fes", 2), ("Rabat", 2)]


def test_a_second_close_adds_what_is_new_and_nothing_twice(staging: Staging) -> None:
    first = close(staging, [landed_row(staging.spec, n) for n in range(4)])
    staging.move([first])
    again = [landed_row(staging.spec, n, batch=1) for n in range(3, 7)]
    second = close(staging, again, before=first, epoch=8, batch=1)
    staging.move([second])
    found = read_closed(LAKE, closed_file(staging.spec, CURATED, HOUR_12))
    assert found is not None
    assert found[0].revision == 2
    assert found[1]["_offset"].to_pylist() == list(range(7))


def test_moving_twice_and_moving_an_overtaken_revision_change_nothing(staging: Staging) -> None:
    first = close(staging, [landed_row(staging.spec, 0)])
    staging.move([first])
    staging.move([first])
    second = close(staging, [landed_row(staging.spec, 1)], before=first, epoch=8, batch=1)
    staging.move([second])
    staging.move([first])
    footer = read_footer(LAKE, closed_file(staging.spec, CURATED, HOUR_12))
    assert footer is not None
    assert footer.revision == 2


def test_a_committed_file_that_is_nowhere_is_told(staging: Staging) -> None:
    revision = close(staging, [landed_row(staging.spec, 0)])
    staging.files.delete(revision.staging)
    with pytest.raises(LakeDisagreement, match=r"revision 1 of .*restore"):
        staging.move([revision])


def test_only_files_that_can_never_become_visible_are_cleared(staging: Staging) -> None:
    lost = close(staging, [landed_row(staging.spec, 0)], epoch=7)
    won = close(staging, [landed_row(staging.spec, 1)], epoch=8, batch=1)

    def aside(revision: Revision) -> bool:
        return staging.files.exists(staged_hour(revision.staging, CURATED, HOUR_12))

    staging.clear({})
    assert aside(lost)
    assert aside(won)
    staging.clear({HOUR_12: won})
    assert not aside(lost)
    assert aside(won)


def test_quarantined_records_count_by_arrival_and_once_a_rule(
    spark: SparkSession, spec: Spec
) -> None:
    twice = ["range:temperature: 99: too hot", "range:temperature: again", "required:city: null"]
    rows = [
        landed_row(spec, 0, errors=twice),
        landed_row(spec, 1, errors=["parse:json: cut off"]),
        landed_row(spec, 2, errors=["parse:json: cut off"], arrival=HOUR_12 - timedelta(days=1)),
        landed_row(spec, 3),
    ]
    counts = hours.quarantined_by_hour(landed(spark, spec, rows), HOURS)
    assert counts[HOUR_12] == {
        "": 2,
        "range:temperature": 1,
        "required:city": 1,
        "parse:json": 1,
    }
    assert not counts[HOURS[1]]
