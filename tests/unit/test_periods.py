"""Periods: which there are, which are due, and what their files tell of the hours they cover."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkeeper.errors import LakeDisagreement, StreamkeeperError
from streamkeeper.hours import HOUR, Revision
from streamkeeper.names import period_csv, period_file
from streamkeeper.periods import Covered, Period, due_periods, read_period, wanted_periods
from streamkeeper.spec.loader import load_spec
from streamkeeper_io.period_files import read_covered, read_period_rows

SPEC = load_spec(Path(__file__).parents[1] / "streams" / "everything.yaml")
DAY = datetime(2026, 11, 24, tzinfo=UTC)
NOW = DAY + timedelta(days=1, hours=2)


def closed(hour: int, revision: int = 1, state: Any = "complete") -> Revision:
    return Revision(
        stream="s", hour=DAY + hour * HOUR, revision=revision, epoch=1, write_number=1,
        state=state, merged={}, files={}, committed_at=NOW,
    )  # fmt: skip


def test_hours_in_a_row_at_one_revision_are_told_together() -> None:
    revisions = [closed(3), closed(0), closed(1), closed(4, 2, "partial"), closed(25)]
    day = Covered.of(Period(date(2026, 11, 24)), revisions)
    assert day.period == "2026-11-24"
    assert day.runs == (("2026-11-24T00", 2, 1), ("2026-11-24T03", 1, 1), ("2026-11-24T04", 1, 2))
    assert day.partial == ("2026-11-24T04",)
    assert len(Covered.of(Period(), revisions).hours()) == 5


@given(st.dictionaries(st.integers(0, 60), st.integers(1, 3)))
def test_no_hour_and_no_revision_is_lost(hours: dict[int, int]) -> None:
    covered = Covered.of(Period(), [closed(h, r) for h, r in hours.items()])
    assert covered.hours() == {DAY + h * HOUR: r for h, r in hours.items()}
    assert Covered.model_validate_json(covered.model_dump_json()) == covered


def test_days_count_once_they_have_ended() -> None:
    revisions = [closed(0), closed(24)]
    days = [Period(date(2026, 11, 24))]
    assert wanted_periods(("day", "all"), revisions, NOW) == [*days, Period()]
    assert wanted_periods(("day",), revisions, NOW) == days
    assert wanted_periods(("all",), [], NOW) == []
    assert wanted_periods(("day",), revisions, DAY + timedelta(hours=23, minutes=59)) == []


def test_a_period_is_due_when_a_file_is_missing_or_tells_of_other_revisions() -> None:
    revisions, period = [closed(0), closed(1)], Period()
    told = Covered.of(period, revisions)
    assert due_periods([period], revisions, {period: [told, told]}) == []
    assert due_periods([period], revisions, {period: [told, None]}) == [period]
    assert due_periods([period], [*revisions, closed(2)], {period: [told]}) == [period]
    again = [closed(0), closed(1, 2)]
    assert due_periods([period], again, {period: [told]}) == [period]
    completed = [closed(0), closed(1, 1, "partial")]
    assert due_periods([period], completed, {period: [told]}) == [period]


@pytest.mark.parametrize(
    ("kind", "day", "told"),
    [("day", "", "name no period"), ("all", "2026-11-24", "name no period"),
     ("week", "2026-11-24", "name no period"), ("day", "24/11/2026", "is not a day")],
)  # fmt: skip
def test_what_names_no_period_is_refused(kind: str, day: str, told: str) -> None:
    with pytest.raises(StreamkeeperError, match=told):
        read_period(kind, day)


def test_periods_have_places_of_their_own() -> None:
    day = read_period("day", "2026-11-24")
    base = "/streams/everything/analytics/hottest"
    assert period_file(SPEC, "hottest", day) == f"{base}_day/dt=2026-11-24/part-0.parquet"
    assert period_csv(SPEC, "hottest", day) == f"{base}_day_csv/dt=2026-11-24/part-0.csv"
    assert period_file(SPEC, "hottest", read_period("all", "")) == f"{base}_all/part-0.parquet"


def test_a_file_that_tells_nothing_is_refused(tmp_path: Path) -> None:
    assert read_covered("file:///", str(tmp_path / "none.parquet")) is None
    assert read_period_rows("file:///", str(tmp_path / "none.parquet")) is None
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(LakeDisagreement, match="does not tell what it covers"):
        read_covered("file:///", str(tmp_path / "other.parquet"))
