"""Hours in a real Airflow: produced back-dated, landed, closed by a backfill, reported by mail."""

from __future__ import annotations

import email
from collections.abc import Iterator
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
import yaml
from drivers import wait_for
from keeping import PATIENCE_S, Airflow, Keeping
from readings import TEMPERATURE

from streamkeeper import names
from streamkeeper.hours import HOUR
from streamkeeper.spec.loader import load_spec
from streamkeeper.spec.models import Spec
from streamkeeper_apps.local.stack import LocalStack
from streamkeeper_io.store import Store

NAME = "closed"
LONG_S = 600.0
pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def spec(airflow: Airflow) -> Spec:
    """The declared stream `temperature` with five sensors, one message each 10 s, 2 hours back."""
    data = yaml.safe_load(TEMPERATURE.read_text())
    data["source"]["kafka"]["topic"] = "closed-temperature"
    data["lake"] = {"path": "/closed", "every": "2s"}
    data["hours"]["grace"] = "1s"  # whatever the clock says when the tests run
    data["producer"]["simulator"] |= {"hours_back": 2, "entities": 5, "every": "10s"}
    data["sinks"] = [
        {"kind": "cassandra", "of": "city_30s", "keyspace": "closed", "table": "city_30s"}
    ]
    path = airflow.streams / f"{NAME}.yaml"
    path.write_text(yaml.safe_dump(data, allow_unicode=True))
    return load_spec(path)


@pytest.fixture(scope="module")
def hours(airflow: Airflow, store: Store, spec: Spec) -> Iterator[list[datetime]]:
    """The last two full hours, all their readings sent; a driver that lands them runs."""
    producer = Keeping(airflow.api, store, "producer", NAME, names.produce_dag_id(NAME))
    driver = Keeping(airflow.api, store, "driver", NAME, names.keep_dag_id(NAME))
    now = names.hour_of(datetime.now(UTC))
    driver.unpause()
    producer.unpause()
    wait_for(lambda: _sent_to(producer) >= now, "the past hours to be sent", LONG_S)
    yield [now - 2 * HOUR, now - HOUR]
    for each in (producer, driver):
        airflow.api.pause(each.dag_id)
        launch = each.launch()
        if launch is not None:
            each.launcher.end(launch)


def _sent_to(producer: Keeping) -> datetime:
    text = producer.working().progress.get("event_time")
    return datetime.fromisoformat(text) if text else datetime.min.replace(tzinfo=UTC)


def test_a_backfill_closes_the_hours_and_their_reports_are_mailed(
    airflow: Airflow, stack: LocalStack, store: Store, spec: Spec, hours: list[datetime]
) -> None:
    dag_id = names.hours_dag_id(NAME)
    airflow.api.pause(names.report_dag_id(NAME), False)
    # The backfill first: unpausing runs the latest tick at once unless it has a run already, and
    # the runs of a paused DAG's backfill stay queued.
    airflow.api.backfill(dag_id, hours[0], hours[-1])
    airflow.api.pause(dag_id, False)
    runs = wait_for(lambda: _finished(airflow, dag_id, 2), "both runs to finish", LONG_S)
    assert len(runs) == 2
    assert {run["run_type"] for run in runs} == {"backfill"}
    assert {run["state"] for run in runs} == {"success"}
    for hour in hours:
        revision = store.revision(NAME, hour)
        assert revision is not None
        assert (revision.revision, revision.state, revision.missing) == (1, "complete", {})
        assert store.landed_hours(NAME)[hour] == 5 * 360
    mails = wait_for(lambda: _mails(stack, NAME, 2), "two report mails", PATIENCE_S)
    assert sorted(mail["X-Streamkeeper-Hour"] for mail in mails) == [
        names.format_hour(hour) for hour in hours
    ]
    for mail in mails:
        assert spec.report is not None
        assert mail["To"] == ", ".join(spec.report.to)
        _assert_pictures_are_inline(mail)
    wait_for(lambda: not store.unmailed(NAME), "the mails to be recorded", PATIENCE_S)


def test_a_run_by_hand_sends_a_report_again(
    airflow: Airflow, stack: LocalStack, hours: list[datetime]
) -> None:
    before = len(_mails(stack, NAME, 0))
    dag_id = names.report_dag_id(NAME)
    run_id = airflow.api.trigger(dag_id, hour=names.format_hour(hours[0]))
    wait_for(lambda: _run(airflow, dag_id, run_id)["state"] == "success", "the run", PATIENCE_S)
    mails = wait_for(lambda: _mails(stack, NAME, before + 1), "one more mail", PATIENCE_S)
    again = [m for m in mails if m["X-Streamkeeper-Hour"] == names.format_hour(hours[0])]
    assert len(again) == 2
    assert len({mail["Message-ID"] for mail in again}) == 2


@pytest.mark.usefixtures("hours")
def test_a_report_of_an_hour_that_is_not_closed_fails_and_says_why(airflow: Airflow) -> None:
    dag_id = names.report_dag_id(NAME)
    run_id = airflow.api.trigger(dag_id, hour="2020-01-01T00")
    wait_for(lambda: _run(airflow, dag_id, run_id)["state"] == "failed", "the run", PATIENCE_S)
    assert "has not been closed" in airflow.api.log(dag_id, run_id, "mail")


def test_a_run_by_hand_closes_the_last_full_hour(
    airflow: Airflow, store: Store, hours: list[datetime]
) -> None:
    dag_id = names.hours_dag_id(NAME)
    run_id = airflow.api.trigger(dag_id)
    run = wait_for(lambda: _ended(_run(airflow, dag_id, run_id)), "the run", LONG_S)
    assert run["state"] == "success"
    assert run["logical_date"] is None


def _run(airflow: Airflow, dag_id: str, run_id: str) -> dict[str, Any]:
    return dict(airflow.api.call("GET", f"dags/{dag_id}/dagRuns/{run_id}"))


def _ended(run: dict[str, Any]) -> dict[str, Any] | None:
    return run if run["state"] in ("success", "failed") else None


def _finished(airflow: Airflow, dag_id: str, count: int) -> list[dict[str, Any]]:
    """Return the ended runs once there are as many."""
    runs = [run for run in airflow.api.runs(dag_id) if _ended(run)]
    return runs if len(runs) >= count else []


def _mails(stack: LocalStack, stream: str, count: int) -> list[EmailMessage]:
    """Return the report mails of a stream once there are as many."""
    folder = Path(stack.places.root) / "mails"
    found = []
    for path in sorted(folder.glob("*.eml")):
        mail = email.message_from_bytes(path.read_bytes(), policy=default)
        assert isinstance(mail, EmailMessage)
        if mail["X-Streamkeeper-Stream"] == stream:
            found.append(mail)
    return found if len(found) >= count else []


def _assert_pictures_are_inline(mail: EmailMessage) -> None:
    """Every picture that the text shows is in the mail, under the same name."""
    assert mail.get_content_type() == "multipart/related"
    parts = list(mail.iter_parts())
    html = parts[0].get_content()
    assert {part.get_content_type() for part in parts[1:]} == {"image/png"}
    assert {part.get_content_disposition() for part in parts[1:]} == {"inline"}
    attached = {part["Content-ID"].strip("<>") for part in parts[1:]}
    assert attached
    for name in attached:
        assert f"cid:{name}" in html
