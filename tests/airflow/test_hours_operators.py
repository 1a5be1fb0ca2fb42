"""Which hours a run is about, and how the waiting is deferred."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from streamkeeper.spec.loader import load_spec
from streamkeeper_airflow.operators.hours import WaitForHoursOperator, hours_of_run
from streamkeeper_airflow.triggers.hours import HoursTrigger

SPEC = load_spec(Path(__file__).parents[2] / "include" / "streams" / "temperature.yaml")
NOW = datetime(2026, 11, 24, 14, 7, tzinfo=UTC)


def at(hour: int) -> datetime:
    return datetime(2026, 11, 24, hour, tzinfo=UTC)


def test_a_scheduled_run_closes_its_interval() -> None:
    assert hours_of_run((at(12), at(13)), None, NOW) == [at(12)]
    assert hours_of_run((at(0), at(12)), None, NOW) == [at(h) for h in range(12)]


def test_a_run_by_hand_closes_the_last_full_hour() -> None:
    assert hours_of_run(None, None, NOW) == [at(13)]
    assert hours_of_run((NOW, NOW), None, NOW) == [at(13)]


def test_a_run_by_hand_may_name_the_hour() -> None:
    assert hours_of_run(None, "2026-11-23T05", NOW) == [datetime(2026, 11, 23, 5, tzinfo=UTC)]
    assert hours_of_run((at(12), at(13)), "2026-11-23T05", NOW)[0].day == 23


@pytest.mark.parametrize("text", ["2026-11-24T14", "2027-01-01T00", "14", "2026-11-24"])
def test_an_hour_that_has_not_ended_or_is_no_hour_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"has not ended|is not an hour"):
        hours_of_run(None, text, NOW)


def context(asked: str | None, **run: Any) -> Any:
    none = {"logical_date": None, "data_interval_start": None, "data_interval_end": None}
    return {"dag_run": SimpleNamespace(**(none | run)), "params": {"hour": asked}}


def test_waiting_takes_no_worker_slot() -> None:
    task = WaitForHoursOperator(task_id="wait", spec=SPEC)
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(context(None, logical_date=at(5), **interval(5)))
    trigger = deferred.value.trigger
    assert isinstance(trigger, HoursTrigger)
    assert trigger.hours == ["2026-11-24T05"]
    path, arguments = trigger.serialize()
    again = HoursTrigger(**arguments)
    assert path.endswith("triggers.hours.HoursTrigger")
    assert again.serialize() == trigger.serialize()


def interval(hour: int) -> dict[str, datetime]:
    return {"data_interval_start": at(hour), "data_interval_end": at(hour) + timedelta(hours=1)}


def test_a_wrong_hour_fails_without_retries() -> None:
    task = WaitForHoursOperator(task_id="wait", spec=SPEC)
    with pytest.raises(AirflowFailException, match="is not an hour"):
        task.execute(context("noon"))
