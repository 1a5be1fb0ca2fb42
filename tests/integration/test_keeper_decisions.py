"""The keeper's task against a real store and real processes, without Airflow's servers."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
from drivers import wait_for
from readings import TEMPERATURE

from streamkeeper.launches import (
    EXIT_CHECK,
    EXIT_DISAGREEMENT,
    EXIT_FENCED,
    EXIT_UNAVAILABLE,
    Launch,
)
from streamkeeper.settings import Settings
from streamkeeper.spec.loader import load_spec
from streamkeeper.spec.models import Spec
from streamkeeper_airflow.launchers.local import LocalLauncher
from streamkeeper_airflow.operators.keep import KeepOperator
from streamkeeper_airflow.triggers.keep import KeepTrigger
from streamkeeper_apps.local.stack import LocalStack
from streamkeeper_io.processes import alive, launch_processes
from streamkeeper_io.store import Store

SLEEP = "exec sleep 300"


class ShellKeeper(KeepOperator):
    """Keeps a shell command, so that every exit code can be had."""

    kind = "driver"

    def __init__(self, *, script: str, provisioned: bool = True, **kwargs: Any) -> None:
        super().__init__(task_id="keep", poll_s=0.05, **kwargs)
        self.script, self.provisioned = script, provisioned

    def command(self, settings: Settings, snapshot: Path, launch: Launch) -> list[str]:
        return ["/bin/sh", "-c", self.script]

    def provision(self, settings: Settings, specs: Any) -> None:
        if not self.provisioned:
            super().provision(settings, specs)


@pytest.fixture
def spec() -> Spec:
    """A stream of a name that no other test uses."""
    name = f"decided_{secrets.token_hex(4)}"
    data = load_spec(TEMPERATURE).dump() | {"name": name, "app": name}
    data["source"]["kafka"]["topic"] = name
    return Spec.model_validate(data)


@pytest.fixture(autouse=True)
def connections(stack: LocalStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow's connections to the run's servers, as its components have them."""
    for name, value in stack.airflow.environment().items():
        if name.startswith(("AIRFLOW_CONN_", "STREAMKEEPER_")):
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("STREAMKEEPER_STATE", str(tmp_path))
    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", staticmethod(lambda **_: {}))


@pytest.fixture(autouse=True)
def ends_all(store: Store, spec: Spec) -> Iterator[None]:
    yield
    for launch in store.launches("driver", spec.app):
        LocalLauncher().end(launch)


def context(run: str = "run 1", attempt: int = 1) -> Any:
    ti = SimpleNamespace(dag_id="keep__x", task_id="keep", run_id=run, try_number=attempt)
    return {"ti": ti, "params": {}}


def keeper(spec: Spec, script: str, **given: Any) -> ShellKeeper:
    return ShellKeeper(script=script, launch_name=spec.app, specs=[spec], **given)


def deferred(task: ShellKeeper, event: dict[str, Any] | None = None, **run: Any) -> KeepTrigger:
    """Run the task and return the trigger that it defers on."""
    here = context(**run)
    act = partial(task.execute_complete, event=event) if event is not None else task.execute
    with pytest.raises(TaskDeferred) as caught:
        act(context=here)
    trigger = caught.value.trigger
    assert isinstance(trigger, KeepTrigger)
    return trigger


def event_of(trigger: KeepTrigger) -> dict[str, Any]:
    """Run the trigger, made again as the triggerer makes it, to its event."""

    async def first() -> dict[str, Any]:
        async for event in KeepTrigger(**trigger.serialize()[1]).run():
            return dict(event.payload)
        raise AssertionError("no event")

    return asyncio.run(asyncio.wait_for(first(), timeout=60))


def test_launches_with_a_snapshot_and_adopts(store: Store, spec: Spec, tmp_path: Path) -> None:
    first = deferred(keeper(spec, SLEEP))
    launch = store.holder("driver", spec.app)
    assert launch is not None
    assert first.epoch == launch.epoch
    snapshot = json.loads((Path(launch.folder) / "launch.json").read_text())
    assert Launch.model_validate(snapshot["launch"]).process == launch.process
    assert [Spec.model_validate(s) for s in snapshot["specs"]] == [spec]
    second = deferred(keeper(spec, SLEEP), attempt=2)
    assert second.epoch == launch.epoch
    assert len(store.launches("driver", spec.app)) == 1


def test_a_deleted_run_s_launch_drains_before_the_next(store: Store, spec: Spec) -> None:
    epoch = deferred(keeper(spec, "sleep 0.5; exit 0")).epoch
    assert epoch is not None
    trigger = deferred(keeper(spec, SLEEP), run="run 2")
    assert trigger.epoch == epoch
    assert store.launch(epoch).stop_requested_by == "its task was deleted"
    event = event_of(trigger)
    again = deferred(keeper(spec, SLEEP), event, run="run 2")
    assert again.epoch is not None
    assert again.epoch > epoch
    assert again.launch_at is None


@pytest.mark.parametrize("code", [1, EXIT_UNAVAILABLE, EXIT_FENCED])
def test_quick_deaths_are_launched_again_later_each_time(
    store: Store, spec: Spec, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    task = keeper(spec, f"echo the last words; exit {code}")
    trigger = deferred(task)
    delays = []
    for _ in range(2):
        with caplog.at_level(logging.WARNING):
            waiting = deferred(task, event_of(trigger))
        assert waiting.launch_at is not None
        delays.append(datetime.fromisoformat(waiting.launch_at) - datetime.now(UTC))
        trigger = deferred(task, event_of(waiting))
    assert delays[1] > delays[0]
    ended = [row for row in store.launches("driver", spec.app) if row.ended_at]
    assert {row.exit_code for row in ended} == {code}


@pytest.mark.parametrize("code", [EXIT_DISAGREEMENT, EXIT_CHECK])
def test_what_a_person_must_decide_fails_with_the_drivers_last_words(spec: Spec, code: int) -> None:
    task = keeper(spec, f"echo its last words; exit {code}")
    event = event_of(deferred(task))
    with pytest.raises(AirflowFailException, match=r"person must decide(.|\n)*its last words"):
        task.execute_complete(context(), event)


def test_a_stopped_stream_rests_without_a_launch(store: Store, spec: Spec) -> None:
    store.set_desired(spec.name, "stopped", "test")
    trigger = deferred(keeper(spec, SLEEP))
    assert trigger.epoch is None
    assert store.holder("driver", spec.app) is None
    store.set_desired(spec.name, "running", "test")
    assert event_of(trigger)["what"] == "look"


def test_what_a_launch_left_behind_is_ended_before_the_next(store: Store, spec: Spec) -> None:
    task = keeper(spec, "sleep 300 & exit 1")
    first = _first_launch(task, store, spec)
    trigger = deferred(task, event_of(deferred(task, attempt=2)))
    again = deferred(task, event_of(trigger))
    assert again.epoch is not None
    assert again.epoch > first.epoch
    assert launch_processes(first.process, Path(first.folder)) == []


def test_a_driver_that_outlives_its_shell_is_watched(store: Store, spec: Spec) -> None:
    task = keeper(spec, SLEEP)
    first = _first_launch(task, store, spec)
    assert first.process is not None
    psutil.Process(first.process.pid).kill()
    wait_for(lambda: not alive(first.process), "the shell's end", 10)
    assert deferred(task, attempt=2).epoch == first.epoch


def _first_launch(task: ShellKeeper, store: Store, spec: Spec) -> Launch:
    deferred(task)
    launch = store.holder("driver", spec.app)
    assert launch is not None
    return launch


def test_kafka_away_is_told_and_tried_again_later(
    store: Store, spec: Spec, unused_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = {"bootstrap.servers": unused_address}
    text = json.dumps({"conn_type": "kafka", "extra": extra})
    monkeypatch.setenv("AIRFLOW_CONN_KAFKA_DEFAULT", text)
    trigger = deferred(keeper(spec, SLEEP, provisioned=False))
    assert trigger.launch_at is not None
    assert trigger.quick_deaths == 1
    assert store.holder("driver", spec.app) is None
