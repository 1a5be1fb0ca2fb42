"""The tasks of an hours__ DAG: wait until hours are complete, then close them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from streamkeeper.hours import HOUR
from streamkeeper.names import format_hour, hour_of, parse_hour
from streamkeeper.spec.models import Spec
from streamkeeper_airflow.operators.submit import SubmitOperator
from streamkeeper_airflow.triggers.hours import HoursTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context


def hours_of_run(
    interval: tuple[datetime, datetime] | None, asked: str | None, now: datetime
) -> list[datetime]:
    """Return the hours that a run is about.

    Parameters: interval, the run's data interval, None for a run by hand without a date; asked,
    the run's parameter `hour`; now.
    Raises ValueError for an hour that is not written as 2026-11-24T14, or has not ended.
    """
    if asked:
        hour = parse_hour(asked)
        if hour + HOUR > now:
            raise ValueError(
                f"the hour {asked} has not ended yet; the last full one is "
                f"{format_hour(hour_of(now) - HOUR)}"
            )
        return [hour]
    if interval is None or interval[0] >= interval[1]:
        return [hour_of(now) - HOUR]
    first, end = hour_of(interval[0]), interval[1]
    return [first + i * HOUR for i in range(int((end - first) / HOUR))] or [first]


class WaitForHoursOperator(BaseOperator):
    """Defers until each hour of the run is complete, or is to be closed as partial.

    Returns {"hours": [...], "states": {hour: {"state", "missing", "reason"}}} as XCom.

    Parameters: spec, the stream; poll_s, seconds between two looks.
    """

    def __init__(self, *, spec: Spec, poll_s: float = 3.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.spec, self.poll_s = spec, poll_s

    def execute(self, context: Context) -> None:
        """Find out the run's hours and defer."""
        run = context["dag_run"]
        interval = None
        if run.logical_date is not None and run.data_interval_start and run.data_interval_end:
            interval = (run.data_interval_start, run.data_interval_end)
        try:
            hours = hours_of_run(interval, context["params"].get("hour"), datetime.now(UTC))
        except ValueError as error:
            raise AirflowFailException(str(error)) from None
        self.log.info("Waiting for %s", ", ".join(map(format_hour, hours)))
        self.defer(
            trigger=HoursTrigger(
                spec=self.spec.dump(), hours=[format_hour(h) for h in hours], poll_s=self.poll_s
            ),
            method_name="execute_complete",
        )

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Log what was seen and hand it to the close."""
        for hour, seen in event["states"].items():
            self.log.info("%s is %s %s", hour, seen["state"], seen["reason"])
        return event


class CloseHoursOperator(SubmitOperator):
    """Closes the hours that the task before it names.

    Parameters: spec, the stream; wait_task_id, the task that returned {"hours": [...]}.
    """

    def __init__(self, *, spec: Spec, wait_task_id: str, **kwargs: Any) -> None:
        hours = f"{{{{ ti.xcom_pull(task_ids='{wait_task_id}')['hours'] | join(',') }}}}"
        super().__init__(
            script="close_hours.py",
            specs=[spec],
            name=f"streamkeeper close {spec.name}",
            application_args=["--stream", spec.name, "--hours", hours],
            **kwargs,
        )
