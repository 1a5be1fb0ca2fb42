"""Hours in a real Airflow: produced back-dated, landed, closed by a backfill, reported by mail."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any

import pytest
import yaml
from drivers import send, wait_for
from keeping import PATIENCE_S, Airflow, Keeping
from readings import TEMPERATURE, reading
from reported import mails

from streamkeeper import names
from streamkeeper.hours import HOUR
from streamkeeper.settings import Settings
from streamkeeper.spec.loader import load_spec
from streamkeeper.spec.models import Spec
from streamkeeper_apps.local.stack import LocalStack
from streamkeeper_io.batch_index import sync_index
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
    """The two full hours before the producer's start, all sent; a driver that lands them runs."""
    producer = Keeping(airflow.api, store, "producer", NAME, names.produce_dag_id(NAME))
    driver = Keeping(airflow.api, store, "driver", NAME, names.keep_dag_id(NAME))
    driver.unpause()
    producer.unpause()
    # By what was sent: an hour may end between the looks at a clock.
    told = wait_for(lambda: store.produced(NAME), "the first messages", LONG_S)
    first = min(sent.hour for sent in told)
    hours = [first, first + HOUR]
    wait_for(lambda: _sent_to(producer) >= first + 2 * HOUR, "the past hours to be sent", LONG_S)
    yield hours
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
    runs = wait_for(lambda: _backfilled(airflow, dag_id, 2), "both runs to finish", LONG_S)
    assert {run["state"] for run in runs} == {"success"}
    assert sorted(_logical_hour(run) for run in runs) == hours
    for hour in hours:
        revision = store.revision(NAME, hour)
        assert revision is not None
        assert (revision.revision, revision.state, revision.missing) == (1, "complete", {})
        assert store.landed_hours(NAME)[hour] == 5 * 360
    found = [wait_for(lambda h=hour: _mails(stack, h), "a report", PATIENCE_S) for hour in hours]
    for (mail,) in found:
        assert spec.report is not None
        assert mail["To"] == ", ".join(spec.report.to)
        _assert_pictures_are_inline(mail)
    wait_for(lambda: not store.unmailed(NAME), "the mails to be recorded", PATIENCE_S)


def test_a_run_by_hand_sends_a_report_again(
    airflow: Airflow, stack: LocalStack, hours: list[datetime]
) -> None:
    before = len(_mails(stack, hours[0]))
    dag_id = names.report_dag_id(NAME)
    run_id = airflow.api.trigger(dag_id, hour=names.format_hour(hours[0]))
    wait_for(lambda: _run(airflow, dag_id, run_id)["state"] == "success", "the run", PATIENCE_S)
    again = wait_for(
        lambda: found if len(found := _mails(stack, hours[0])) > before else [],
        "one more mail",
        PATIENCE_S,
    )
    assert len(again) == before + 1
    assert len({mail["Message-ID"] for mail in again}) == before + 1


@pytest.mark.usefixtures("hours")
def test_a_report_of_an_hour_that_is_not_closed_fails_and_says_why(airflow: Airflow) -> None:
    dag_id = names.report_dag_id(NAME)
    run_id = airflow.api.trigger(dag_id, hour="2020-01-01T00")
    wait_for(lambda: _run(airflow, dag_id, run_id)["state"] == "failed", "the run", PATIENCE_S)
    assert "has not been closed" in airflow.api.log(dag_id, run_id, "mail")


@pytest.mark.usefixtures("hours")
def test_a_run_by_hand_closes_the_last_full_hour(
    airflow: Airflow, settings: Settings, store: Store, spec: Spec
) -> None:
    """Late readings make the last full hour due again: the run closes it anew, they are in it.

    The hour may end meanwhile, so there are readings of the present one too.
    """
    present = names.hour_of(datetime.now(UTC))
    before = {hour: _closed(store, hour) for hour in (present - HOUR, present)}
    late = present - HOUR
    there = _landed(settings, store, spec, late)
    send(settings, spec.source.kafka.topic, [reading(n, hour) for n, hour in enumerate(before)])
    wait_for(lambda: _landed(settings, store, spec, late) > there, "the late one", PATIENCE_S)
    dag_id = names.hours_dag_id(NAME)
    run_id = airflow.api.trigger(dag_id)
    run = wait_for(lambda: _ended(_run(airflow, dag_id, run_id)), "the run", LONG_S)
    assert run["state"] == "success"
    assert run["logical_date"] is None
    (hour,) = [h for h in before if f"Waiting for {names.format_hour(h)}" in
               airflow.api.log(dag_id, run_id, "wait")]  # fmt: skip
    closed = store.revision(NAME, hour)
    assert closed is not None
    assert closed.revision > before[hour]
    assert closed.state == "complete"
    assert closed.counts["valid"] == _landed(settings, store, spec, hour)


def _landed(settings: Settings, store: Store, spec: Spec, hour: datetime) -> int:
    """Return how many readings of an hour have landed."""
    sync_index(store, settings.lake, spec)
    return store.landed_hours(NAME).get(hour, 0)


def _closed(store: Store, hour: datetime) -> int:
    """Return how often an hour was closed."""
    found = store.revision(NAME, hour)
    return 0 if found is None else found.revision


def _run(airflow: Airflow, dag_id: str, run_id: str) -> dict[str, Any]:
    return dict(airflow.api.call("GET", f"dags/{dag_id}/dagRuns/{run_id}"))


def _ended(run: dict[str, Any]) -> dict[str, Any] | None:
    return run if run["state"] in ("success", "failed") else None


def _backfilled(airflow: Airflow, dag_id: str, count: int) -> list[dict[str, Any]]:
    """Return the ended runs of the backfill once there are as many.

    When an hour ends meanwhile, the schedule adds a run of it.
    """
    runs = [run for run in airflow.api.runs(dag_id) if run["run_type"] == "backfill"]
    ended = [run for run in runs if _ended(run)]
    return ended if len(ended) >= count else []


def _logical_hour(run: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(run["logical_date"])


def _mails(stack: LocalStack, hour: datetime) -> list[EmailMessage]:
    """Return the report mails of an hour."""
    text = names.format_hour(hour)
    return [mail for mail in mails(stack, NAME) if mail["X-Streamkeeper-Hour"] == text]


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
