"""Anomalies of closed hours: judged beside their KPIs, written like them; on local files."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from closes_of_hours import close, readings
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import SparkSession
from spark_specs import HOUR_12, make_spec

from streamkeeper.closing import Task
from streamkeeper.errors import Fenced, LakeDisagreement, TableDiffers
from streamkeeper.generations import Change
from streamkeeper.hours import HOUR, Completeness, Revision
from streamkeeper.names import closed_file, kpi_zone
from streamkeeper.spec.models import Spec
from streamkeeper_io.closed import read_closed
from streamkeeper_spark.anomalies import HourAnomalies
from streamkeeper_spark.closed_tables import ClosedTables
from streamkeeper_spark.files import LakeFiles
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


# Delta tables
def gold(staging: Staging, folder: Path, of: str) -> ClosedTables:
    """Return what writes a KPI or anomalies into a table."""
    sinks = [{"kind": "delta", "of": of, "path": f"{folder}/{of}", "partition_by": ["city"]}]
    return ClosedTables(Spec.model_validate(staging.spec.dump() | {"sinks": sinks}), LAKE)


def in_table(folder: Path, of: str) -> list[dict[str, Any]]:
    rows = pa.table(DeltaTable(f"{folder}/{of}").to_pyarrow_table()).to_pylist()
    return sorted(rows, key=lambda row: (row["hour"], row["city"]))


def in_lake(staging: Staging, of: str, hours: int) -> list[dict[str, Any]]:
    found = []
    for n in range(hours):
        hour = HOUR_12 + n * HOUR
        file = read_closed(LAKE, closed_file(staging.spec, kpi_zone(of), hour))
        assert file is not None
        own = {"hour": hour, "_revision": file[0].revision}
        found += [row | own for row in file[1].to_pylist()]
    return sorted(found, key=lambda row: (row["hour"], row["city"]))


@pytest.mark.parametrize("of", ["by_city", "odd_cities"])
def test_a_delta_table_holds_the_rows_of_the_visible_revisions(
    staging: Staging, tmp_path: Path, of: str
) -> None:
    latest: dict[datetime, Revision] = {}
    tables = gold(staging, tmp_path, of)
    course = {h: {"Fes": v, "Rabat": 18.0} for h, v in enumerate(COURSE[:3])}
    close(staging, readings(staging, course, 1), latest, 1)
    first = list(latest.values())
    assert tables.write(first) == 6
    assert in_table(tmp_path, of) == in_lake(staging, of, 3)
    assert tables.write(first) == 0, "again"
    close(staging, readings(staging, {1: {"Safi": 3.0}}, 2), latest, 2)
    # The close of the first revision, frozen until now, finds a later one in its place.
    assert tables.write(first) == 0
    assert tables.write([latest[HOUR_12 + HOUR]]) == 3
    assert tables.write(first) == 0
    assert in_table(tmp_path, of) == in_lake(staging, of, 3)


def test_a_file_that_is_gone_and_a_table_of_others_stop_the_close(
    staging: Staging, tmp_path: Path
) -> None:
    latest: dict[datetime, Revision] = {}
    close(staging, readings(staging, {0: {"Fes": 20.0}}, 1), latest, 1)
    write_deltalake(f"{tmp_path}/by_city", pa.table({"city": ["Fes"]}))
    with pytest.raises(TableDiffers, match="it lacks hour, _revision, so another program made it"):
        gold(staging, tmp_path, "by_city").write(list(latest.values()))
    Path(closed_file(staging.spec, ODD, HOUR_12)).unlink()
    with pytest.raises(LakeDisagreement, match="is missing, committed is revision 1; restore"):
        gold(staging, tmp_path, "odd_cities").write(list(latest.values()))
