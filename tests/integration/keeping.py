"""A keeper in a real Airflow, as the tests see it and act on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from drivers import wait_for

from streamkeeper.launches import Kind, Launch
from streamkeeper.settings import Settings
from streamkeeper_airflow.launchers.local import LocalLauncher
from streamkeeper_apps.local.airflow_api import AirflowApi
from streamkeeper_apps.local.stack import LocalStack
from streamkeeper_io.processes import launch_processes
from streamkeeper_io.store import Store

PATIENCE_S = 180.0


@dataclass(frozen=True)
class Airflow:
    """A real Airflow on the run's servers: its REST API, its components, its declarations."""

    api: AirflowApi
    servers: LocalStack
    streams: Path


def connect_as_airflow(
    stack: LocalStack, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let this process run operators as Airflow's would, on settings of its own."""
    for name, value in stack.airflow.environment().items():
        if name.startswith(("AIRFLOW_CONN_", "AIRFLOW__CORE__DAGS_FOLDER", "STREAMKEEPER_")):
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("STREAMKEEPER_STREAMS", str(settings.streams))
    monkeypatch.setenv("STREAMKEEPER_STATE", str(settings.state))


class Keeping:
    """One keep__ or produce__ DAG and the launches that it makes."""

    def __init__(self, api: AirflowApi, store: Store, kind: Kind, name: str, dag_id: str) -> None:
        self.api, self.store, self.kind, self.name, self.dag_id = api, store, kind, name, dag_id
        self.task_id = "keep" if kind == "driver" else "produce"
        self.launcher = LocalLauncher()

    def known(self) -> dict[str, Any]:
        """Wait until Airflow knows the DAG."""
        return wait_for(
            lambda: self.api.dag(self.dag_id) or {}, f"{self.dag_id} in Airflow", PATIENCE_S
        )

    def unpause(self) -> None:
        self.known()
        self.api.pause(self.dag_id, False)

    def launch(self) -> Launch | None:
        """Return the launch that holds the lock."""
        return self.store.holder(self.kind, self.name)

    def working(self, newer_than: int = 0) -> Launch:
        """Wait for a live launch that has told of its progress."""

        def look() -> Launch | None:
            found = self.launch()
            if found is None or found.epoch <= newer_than or not self.launcher.running(found):
                return None
            return found if found.heartbeat_at and found.progress else None

        return wait_for(look, f"a working launch after {newer_than}", PATIENCE_S)

    def ended(self, epoch: int) -> Launch:
        """Wait for a launch's end, of its processes too."""
        launch: Launch = wait_for(
            lambda: found if (found := self.store.launch(epoch)).ended_at else None,
            f"the end of launch {epoch}",
            PATIENCE_S,
        )
        wait_for(
            lambda: self.launcher.running(launch) is False,
            f"no process of launch {epoch}",
            PATIENCE_S,
        )
        return launch

    def watching(self) -> str:
        """Wait until the newest run's task is deferred and owns the launch; return the run's id."""

        def look() -> str:
            runs = self.api.runs(self.dag_id)
            if not runs:
                return ""
            run_id = str(runs[0]["dag_run_id"])
            task = self.api.tasks(self.dag_id, run_id).get(self.task_id, {})
            launch = self.launch()
            owned = launch is not None and run_id in launch.owner
            return run_id if task.get("state") == "deferred" and owned else ""

        return wait_for(look, f"a deferred task of {self.dag_id}", PATIENCE_S)

    def state(self, run_id: str) -> str:
        """Return the state of the keeper's task in a run."""
        return str(self.api.tasks(self.dag_id, run_id)[self.task_id]["state"])

    def live(self) -> int:
        """Return how many launches of this name have live processes."""
        return sum(bool(self.launcher.running(found)) for found in self.launches())

    def launches(self) -> list[Launch]:
        """Return all launches of this name."""
        return self.store.launches(self.kind, self.name, 100)

    def kill(self, launch: Launch) -> None:
        """Kill a launch's processes as the kernel would, all but the shell that keeps the code."""
        assert launch.process is not None
        for process in launch_processes(launch.process, None):
            if process.pid != launch.process.pid:
                try:
                    process.kill()
                except psutil.NoSuchProcess:
                    continue
