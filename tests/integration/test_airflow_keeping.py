"""Keepers in a real Airflow: one live launch whatever a person, a crash or Airflow does to it.

What is the same for every launch is tried with a producer, which starts in a second; the rest
with a driver. The tests of one keeper build on one another, in the order of this file.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml
from drivers import end_offsets, landed, manifests, wait_for
from keeping import PATIENCE_S, Airflow, Keeping
from readings import TEMPERATURE, assert_nothing_lost_or_doubled

from streamkeeper.generations import Counted
from streamkeeper.launches import EXIT_DRAINED
from streamkeeper.names import LAND
from streamkeeper.settings import Settings
from streamkeeper.spec.loader import load_spec
from streamkeeper.spec.models import Spec
from streamkeeper_apps.control import Control
from streamkeeper_apps.rewinding import Going, Rewinding
from streamkeeper_io.store import Store

NAME = "kept"
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def spec(airflow: Airflow) -> Spec:
    """The declared stream `temperature` under another name, a batch every 2 s."""
    data = yaml.safe_load(TEMPERATURE.read_text())
    data["source"]["kafka"]["topic"] = "kept-temperature"
    data["lake"] = {"path": "/kept", "every": "2s"}
    data["producer"]["simulator"]["hours_back"] = 0
    data["windows"], data["sinks"] = [], []
    path = airflow.streams / f"{NAME}.yaml"
    path.write_text(yaml.safe_dump(data, allow_unicode=True))
    return load_spec(path)


@pytest.fixture(scope="module")
def producer(airflow: Airflow, store: Store, spec: Spec) -> Keeping:
    keeping = Keeping(airflow.api, store, "producer", NAME, f"produce__{NAME}")
    keeping.unpause()
    return keeping


@pytest.fixture(scope="module")
def driver(airflow: Airflow, store: Store, spec: Spec, producer: Keeping) -> Iterator[Keeping]:
    keeping = Keeping(airflow.api, store, "driver", NAME, f"keep__{NAME}")
    keeping.unpause()
    yield keeping
    for each in (keeping, producer):
        airflow.api.pause(each.dag_id)
        launch = each.launch()
        if launch is not None:
            each.launcher.end(launch)


class TestEveryLaunch:
    def test_is_made_and_watched_at_no_worker_slot(self, producer: Keeping) -> None:
        launch = producer.working()
        run_id = producer.watching()
        assert producer.state(run_id) == "deferred"
        assert launch.process is not None

    def test_a_clear_adopts(self, producer: Keeping) -> None:
        launch, run_id = producer.working(), producer.watching()
        producer.api.clear(producer.dag_id, run_id, producer.task_id)
        wait_for(lambda: "2]" in producer.working().owner, "the second try to own the launch")
        assert producer.watching() == run_id
        assert producer.working().epoch == launch.epoch
        assert producer.store.launch(launch.epoch).stop_requested_at is None

    @pytest.mark.parametrize("state", ["failed", "success"])
    def test_a_marked_one_drains_and_the_next_run_launches(
        self, producer: Keeping, state: str
    ) -> None:
        launch, run_id = producer.working(), producer.watching()
        producer.api.mark(producer.dag_id, run_id, producer.task_id, state)
        after = producer.working(newer_than=launch.epoch)
        before = producer.ended(launch.epoch)
        assert before.exit_code == EXIT_DRAINED
        assert before.stop_requested_by == f"its task was marked {state}"
        assert producer.watching() != run_id
        assert producer.live() == 1
        assert after.began_at >= before.ended_at

    def test_a_later_run_adopts_one_that_no_task_owns(self, producer: Keeping) -> None:
        launch, run_id = producer.working(), producer.watching()
        producer.store.adopt(launch.epoch, "")
        producer.api.mark(producer.dag_id, run_id, producer.task_id, "success")
        wait_for(lambda: producer.watching() != run_id, "another run to own the launch")
        assert producer.working().epoch == launch.epoch
        assert producer.store.launch(launch.epoch).stop_requested_at is None

    def test_a_pause_leaves_it_alone_and_a_mark_then_stops_it(self, producer: Keeping) -> None:
        launch, run_id = producer.working(), producer.watching()
        producer.api.pause(producer.dag_id)
        assert producer.launcher.running(launch)
        producer.api.mark(producer.dag_id, run_id, producer.task_id, "failed")
        assert producer.ended(launch.epoch).exit_code == EXIT_DRAINED
        assert producer.live() == 0
        producer.api.pause(producer.dag_id, False)
        assert producer.working(newer_than=launch.epoch)


class TestDriver:
    def test_lands_what_is_produced(self, driver: Keeping, settings: Settings, spec: Spec) -> None:
        launch = driver.working()
        wait_for(lambda: landed(settings, spec) > 100, "landed rows", PATIENCE_S)
        assert driver.watching()
        assert driver.store.launch(launch.epoch).owner != ""

    def test_a_killed_scheduler_and_triggerer_change_nothing(
        self, driver: Keeping, airflow: Airflow, settings: Settings, spec: Spec
    ) -> None:
        launch, run_id = driver.working(), driver.watching()
        parts = ("airflow_scheduler", "airflow_triggerer")
        for name in parts:
            airflow.servers.kill(name)
        before = landed(settings, spec)
        wait_for(lambda: landed(settings, spec) > before, "rows landed without Airflow", PATIENCE_S)
        with ThreadPoolExecutor() as pool:
            list(pool.map(airflow.servers.start, parts))
        assert driver.watching() == run_id
        assert driver.working().epoch == launch.epoch
        assert driver.live() == 1

    def test_a_killed_one_is_launched_again_and_nothing_is_lost(
        self, driver: Keeping, settings: Settings, spec: Spec
    ) -> None:
        # After the test before this one, so the restarted triggerer is the one that notices.
        launch, run_id = driver.working(), driver.watching()
        driver.kill(launch)
        after = driver.working(newer_than=launch.epoch)
        assert driver.watching() == run_id
        before = landed(settings, spec)
        wait_for(lambda: landed(settings, spec) > before, "more landed rows", PATIENCE_S)
        assert driver.live() == 1
        assert driver.store.launch(launch.epoch).exit_code == 137
        assert after.epoch > launch.epoch

    def test_stop_drains_and_survives_everything(
        self, driver: Keeping, producer: Keeping, airflow: Airflow, store: Store, spec: Spec
    ) -> None:
        settings = airflow.servers.settings()
        producer.api.pause(producer.dag_id)
        producer.api.mark(producer.dag_id, producer.watching(), producer.task_id, "failed")
        wait_for(lambda: producer.live() == 0, "the producer's end", PATIENCE_S)
        wait_for(lambda: _all_landed(driver, settings, spec), "all to be landed", PATIENCE_S)
        launch, run_id = driver.working(), driver.watching()
        assert Control(settings, store, "test").stop(NAME, PATIENCE_S)
        ended = driver.ended(launch.epoch)
        assert ended.exit_code == EXIT_DRAINED
        wait_for(lambda: driver.state(run_id) == "success", "the run's success", PATIENCE_S)
        assert_nothing_lost_or_doubled(settings, spec)
        # A later run rests, and a clear of it does not launch.
        resting = wait_for(lambda: _resting(driver, run_id), "a resting run", PATIENCE_S)
        driver.api.clear(driver.dag_id, resting, driver.task_id)
        wait_for(lambda: _resting(driver, run_id), "the cleared run to rest again", PATIENCE_S)
        assert driver.live() == 0
        latest = driver.launch()
        assert latest is not None
        assert latest.epoch == launch.epoch

    def test_start_launches_again_and_begins_the_rewind_that_was_asked_for(
        self, driver: Keeping, airflow: Airflow, store: Store, spec: Spec
    ) -> None:
        settings = airflow.servers.settings().model_copy(update={"streams": airflow.streams})
        before, end = driver.launch(), end_offsets(settings, spec)
        assert before is not None
        rewinding = Rewinding(settings, store, "test")
        assert rewinding.rewind(NAME, "begin", Going(yes=True)) == 0
        store.set_desired(NAME, "running", "test")
        wait_for(lambda: driver.live() == 1, "a live launch", PATIENCE_S)
        assert driver.launches()[0].epoch > before.epoch
        wait_for(lambda: _all_landed(driver, settings, spec), "all to be read again", PATIENCE_S)
        counting = Counted(store.generations(NAME, LAND), manifests(settings, spec)).counting
        assert [generation.target for generation in counting] == [{}, end]


def _all_landed(driver: Keeping, settings: Settings, spec: Spec) -> bool:
    """Tell whether the driver has committed the topic's end."""
    land = driver.working().progress["queries"].get(f"{NAME}/land", {})
    return {int(p): o for p, o in land.get("offsets", {}).items()} == end_offsets(settings, spec)


def _resting(driver: Keeping, not_run: str) -> str:
    """Return the id of a newer run whose task is deferred; empty while there is none."""
    run_id = str(driver.api.runs(driver.dag_id)[0]["dag_run_id"])
    return run_id if run_id != not_run and driver.state(run_id) == "deferred" else ""
