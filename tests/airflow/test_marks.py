"""The listener that hears of marks in the API server."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.listeners.listener import get_listener_manager

from streamkeeper.supervision import Owner
from streamkeeper_airflow import marks

TI = SimpleNamespace(dag_id="keep__t", task_id="keep", run_id="run 1", try_number=2)


@pytest.fixture
def drained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the listener asks to drain; in the calling thread."""
    asked: list[tuple[Any, ...]] = []

    class Now:
        def __init__(self, *, args: tuple[Any, ...], **_: Any) -> None:
            self.args = args

        def start(self) -> None:
            asked.append(self.args)

    monkeypatch.setattr(marks.threading, "Thread", Now)
    return asked


def test_a_mark_drains_the_tasks_launch(drained: list[tuple[Any, ...]]) -> None:
    owner = Owner("keep__t", "keep", "run 1", 2)
    marks.on_task_instance_failed(None, TI, "by hand")
    marks.on_task_instance_success(None, TI)
    assert drained == [
        ("driver", "t", owner, "marked failed"),
        ("driver", "t", owner, "marked success"),
    ]


def test_a_task_that_ends_by_itself_drains_nothing(drained: list[tuple[Any, ...]]) -> None:
    marks.on_task_instance_failed("running", TI, "error")
    marks.on_task_instance_success("running", TI)
    assert drained == []


@pytest.mark.parametrize("dag_id", ["hours__t", "report__t", "other"])
def test_other_dags_are_none_of_its_business(drained: list[tuple[Any, ...]], dag_id: str) -> None:
    marks.on_task_instance_failed(None, SimpleNamespace(**vars(TI) | {"dag_id": dag_id}), None)
    assert drained == []
    assert marks.keeper_of("produce__a_b") == ("producer", "a_b")


def test_airflow_accepts_the_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "plugins"))
    import streamkeeper_plugin

    [listener] = streamkeeper_plugin.StreamkeeperPlugin.listeners
    manager = get_listener_manager()
    manager.add_listener(listener)
    try:
        assert manager.has_listeners
    finally:
        manager.pm.unregister(listener)
        sys.modules.pop("streamkeeper_plugin", None)
