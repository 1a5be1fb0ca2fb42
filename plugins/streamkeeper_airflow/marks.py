"""A person's marks, told by Airflow's API server at the moment they are made.

A trigger's `on_kill` hears of a mark seconds later, and not at all when the task was marked before
its trigger had started; with the DAG paused no later run would see it either. For a clear this
listener is not called.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

from airflow.listeners import hookimpl

from streamkeeper import names
from streamkeeper.launches import Kind
from streamkeeper.supervision import Owner

log = logging.getLogger(__name__)
_PREFIXES: dict[str, Kind] = {names.keep_dag_id(""): "driver", names.produce_dag_id(""): "producer"}


@hookimpl
def on_task_instance_failed(previous_state: Any, task_instance: Any, error: Any) -> None:
    """Drain the launch of a keeper's task that was marked failed."""
    _marked(previous_state, task_instance, "marked failed")


@hookimpl
def on_task_instance_success(previous_state: Any, task_instance: Any) -> None:
    """Drain the launch of a keeper's task that was marked success."""
    _marked(previous_state, task_instance, "marked success")


def _marked(previous_state: Any, task_instance: Any, how: str) -> None:
    # Airflow tells no previous state for a mark; it does for a task that ended by itself.
    if previous_state is not None:
        return
    found = keeper_of(task_instance.dag_id)
    if found is None:
        return
    ti = task_instance
    owner = Owner(ti.dag_id, ti.task_id, ti.run_id, ti.try_number)
    # The API server's answer to the person does not wait for the store.
    threading.Thread(target=_drain, args=(*found, owner, how), daemon=True).start()


def keeper_of(dag_id: str) -> tuple[Kind, str] | None:
    """Return kind and name of the launches that a DAG keeps; None for any other DAG."""
    for prefix, kind in _PREFIXES.items():
        if dag_id.startswith(prefix):
            return kind, dag_id.removeprefix(prefix)
    return None


def _drain(kind: Kind, name: str, owner: Owner, how: str) -> None:
    from streamkeeper_airflow.hooks.connections import store_from_connection

    try:
        store = store_from_connection()
        launch = store.holder(kind, name)
        if launch is not None and launch.ended_at is None:
            store.request_stop(launch.epoch, f"its task was {how}", owner=str(owner))
    except Exception:
        # The trigger's on_kill or the next run asks again.
        log.exception("Could not ask the %s %s to drain", kind, name)
