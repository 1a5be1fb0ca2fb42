"""Anomalies of closed hours: judged beside their KPIs, written like them; on local files."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from spark_specs import HOUR_12, landed_row, make_spec, manifest_of

from streamkeeper.closing import Task
from streamkeeper.errors import Fenced
from streamkeeper.generations import Change, Counted, Generation
from streamkeeper.hours import HOUR, Completeness, Revision
from streamkeeper.names import CLOSED_FILE, closed_file, kpi_zone
from streamkeeper.spec.models import Spec
from streamkeeper_io.closed import read_closed
from streamkeeper_spark.anomalies import HourAnomalies
from streamkeeper_spark.files import LakeFiles
from streamkeeper_spark.schema import landed_schema
from streamkeeper_spark.staging import Staging

LAKE = "file:///"
ODD = kpi_zone("odd_cities")


@pytest.fixture
def staging(spark: SparkSession, tmp_path: Path) -> Iterator[Staging]:
    given = make_spec(str(tmp_path / "lake")).dump()
    given["anomalies"] = [{"name": "odd_cities", "of": "by_city.mean", "least": 4}]
    spark.conf.set("spark.sql.maxConcurrentOutputFileWriters", "0")
    yield Staging(spark, LakeFiles(spark, LAKE), Spec.model_validate(given))
    spark.conf.set("spark.sql.maxConcurrentOutputFileWriters", "64")


def published(staging: Staging, rows: list[dict[str, Any]], batch: int) -> Any:
    """Publish a batch and return its manifest."""
    spec = staging.spec
    manifest = manifest_of(spec, rows, batch=batch)
    folder = f"{spec.lake.path}/raw/batch={manifest.generation}-{batch}"
    frame = staging.spark.createDataFrame(rows, landed_schema(spec))
    frame.coalesce(1).write.parquet(folder)
    files = tuple(p.name for p in Path(folder).glob("*.parquet"))
    return manifest.model_copy(update={"files": files})


def close(
    staging: Staging,
    rows: list[dict[str, Any]],
    latest: dict[datetime, Revision],
    batch: int,
    *,
    partial: Collection[datetime] = (),
    replaced: bool = False,
) -> dict[datetime, dict[str, int]]:
    """Publish a batch and close its hours in one close, as `Close` does without its store.

    The revisions go into `latest`. Returns how many anomalies were found.
    """
    manifest = published(staging, rows, batch)
    change = Change((manifest,), replaced=replaced, keeps=True)
    tasks = [
        Task(h, latest.get(h), change, Completeness(complete=h not in partial), {"g": batch})
        for h in sorted({row["_hour"] for row in rows})
    ]
    counted = Counted(
        [
            Generation(
                **{"stream": "readings", "query": "land", "topic": "readings"},
                **{"generation": manifest.generation, "topic_id": "topic", "start": {}, "epoch": 1},
            )
        ],
        [],
    )
    folders = {n: staging.folder(batch + 1, n) for n in sorted({t.number for t in tasks})}
    written: dict[datetime, dict[str, int]] = {}
    for number, folder in folders.items():
        group = [task for task in tasks if task.number == number]
        written |= staging.write(group, folder, counted)
    found = HourAnomalies(staging, tasks, folders, written, latest).write()
    made = [
        Revision(
            **{"stream": "readings", "hour": t.hour, "revision": t.number, "epoch": batch + 1},
            **{"write_number": batch + 1, "merged": {}, "staging": folders[t.number]},
            state="partial" if t.hour in partial else "complete",
            files={zone: [CLOSED_FILE] for zone in written[t.hour]},
            committed_at=datetime.now(UTC),
        )
        for t in tasks
    ]
    staging.move(made)
    latest |= {revision.hour: revision for revision in made}
    return found


def readings(
    staging: Staging, temperatures: dict[int, dict[str, float | None]], batch: int
) -> list[dict[str, Any]]:
    """Return a reading of each city in each hour, so that it is the KPI's mean."""
    return [
        landed_row(
            staging.spec,
            1000 * batch + n,
            hour=HOUR_12 + hour * HOUR,
            city=city,
            temperature=value,
            generation="00000000-0000-0000-0000-00000000000a",
            batch=batch,
        )
        for n, (hour, city, value) in enumerate(
            (h, c, v) for h, cities in temperatures.items() for c, v in cities.items()
        )
    ]


def visible(staging: Staging, hour: int) -> tuple[int, list[dict[str, Any]]]:
    found = read_closed(LAKE, closed_file(staging.spec, ODD, HOUR_12 + hour * HOUR))
    assert found is not None
    return found[0].revision, found[1].to_pylist()


COURSE = [20.0, 21.0, 20.5, 19.0, 22.0, 21.5, 20.0, 60.0]


def test_one_close_of_many_hours_judges_each_by_those_before(staging: Staging) -> None:
    rows = readings(
        staging, {h: {"Fes": v, "Rabat": 18.0, "Safi": None} for h, v in enumerate(COURSE)}, 1
    )
    found = close(staging, rows, {}, 1)
    assert [found[HOUR_12 + h * HOUR]["odd_cities"] for h in range(8)] == [*[0] * 7, 1]
    for hour, value in enumerate(COURSE):
        revision, verdicts = visible(staging, hour)
        assert revision == 1
        # The KPI's own order: by its mean, nulls last.
        assert [v["city"] for v in verdicts] == ["Fes", "Rabat", "Safi"]
        fes, rabat, safi = verdicts
        assert (fes["value"], fes["hours"]) == (value, hour)
        assert (safi["value"], safi["anomalous"], safi["basis"]) == (None, None, "no_value")
        assert rabat["basis"] == ("few_hours" if hour < 4 else "no_spread")
        if hour >= 4:
            before = f"(select unnest({COURSE[:hour]}::double[]) as x)"
            (middle, mad), *_ = duckdb.sql(f"select median(x), mad(x) from {before}").fetchall()
            assert (fes["median"], fes["mad"]) == (middle, mad)
            assert fes["score"] == pytest.approx(0.6745 * (value - middle) / mad)
            assert fes["anomalous"] is (hour == 7)
            assert fes["first_hour"] == HOUR_12
            assert fes["last_hour"] == HOUR_12 + (hour - 1) * HOUR
    file = pq.read_table(closed_file(staging.spec, ODD, HOUR_12))
    assert file.schema.names == [
        *("city", "value", "median", "mad", "score", "hours"),
        *("first_hour", "last_hour", "anomalous", "basis"),
    ]


def test_hours_closed_before_are_history_and_partial_ones_are_not(staging: Staging) -> None:
    latest: dict[datetime, Revision] = {}
    partial = HOUR_12 + 2 * HOUR
    first = readings(staging, {h: {"Fes": v} for h, v in enumerate(COURSE[:6])}, 1)
    close(staging, first, latest, 1, partial=[partial])
    assert visible(staging, 3)[1][0]["hours"] == 2
    assert visible(staging, 2)[1][0]["hours"] == 2, "a partial hour itself is judged"
    close(staging, readings(staging, {7: {"Fes": 60.0}}, 2), latest, 2)
    (verdict,) = visible(staging, 7)[1]
    assert (verdict["hours"], verdict["anomalous"]) == (5, True)


def test_an_hour_closed_again_changes_its_own_verdict_and_no_later_one(staging: Staging) -> None:
    latest: dict[datetime, Revision] = {}
    course = readings(staging, {h: {"Fes": v} for h, v in enumerate(COURSE)}, 1)
    close(staging, course, latest, 1)
    later = visible(staging, 7)
    # A late row makes the mean of the sixth hour -10.
    assert close(staging, readings(staging, {5: {"Fes": -41.5}}, 2), latest, 2) == {
        HOUR_12 + 5 * HOUR: {"odd_cities": 1}
    }
    revision, (verdict,) = visible(staging, 5)
    assert (revision, verdict["value"], verdict["hours"]) == (2, -10.0, 5)
    assert verdict["anomalous"] is True
    assert visible(staging, 7) == later
    assert later[1][0]["median"] == 20.5
    # A close of both: each by what is then there.
    both = readings(staging, {5: {"Fes": -10.0}, 7: {"Fes": 60.0}}, 3)
    close(staging, both, latest, 3)
    assert (visible(staging, 5)[0], visible(staging, 7)[0]) == (3, 2)
    assert visible(staging, 7)[1][0]["median"] == 20.0


def test_rows_that_went_leave_a_file_without_verdicts(staging: Staging) -> None:
    latest: dict[datetime, Revision] = {}
    close(staging, readings(staging, {0: {"Fes": 20.0}, 1: {"Fes": 21.0}}, 1), latest, 1)
    given = staging.spec.dump()
    # No row meets the KPI's condition any more, as if the rows that did had been read anew.
    given["kpis"][1]["where"] = "temperature > 1000"
    emptied = Staging(staging.spark, staging.files, Spec.model_validate(given))
    close(emptied, readings(emptied, {1: {"Fes": 22.0}}, 2), latest, 2, replaced=True)
    assert visible(staging, 1) == (2, [])
    assert visible(staging, 0)[0] == 1


def test_files_of_an_older_declaration_are_no_history(staging: Staging) -> None:
    latest: dict[datetime, Revision] = {}
    old = staging.spec.dump() | {"anomalies": []}
    old["kpis"][1]["measures"] = {"other": "avg(temperature)"}
    old["kpis"][1]["order_by"] = "other"
    before = Staging(staging.spark, staging.files, Spec.model_validate(old))
    close(before, readings(before, {h: {"Fes": 20.0} for h in range(5)}, 1), latest, 1)
    close(staging, readings(staging, {6: {"Fes": 20.0}}, 2), latest, 2)
    (verdict,) = visible(staging, 6)[1]
    assert (verdict["hours"], verdict["basis"]) == (0, "few_hours")


def test_a_close_whose_files_were_cleared_away_ends(staging: Staging) -> None:
    task = Task(HOUR_12, None, Change((), replaced=False, keeps=True), Completeness(complete=True),
                {})  # fmt: skip
    written = {HOUR_12: {kpi_zone("by_city"): 3}}
    anomalies = HourAnomalies(staging, [task], {1: staging.folder(9, 1)}, written, {})
    with pytest.raises(Fenced, match="is gone; another close cleared it away"):
        anomalies.write()
