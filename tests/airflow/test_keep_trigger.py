"""The keeper's trigger: what it yields, and what a person's acts make it do. No servers."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from streamkeeper.errors import StoreUnavailable
from streamkeeper.launches import Launch
from streamkeeper.supervision import Limits, Owner
from streamkeeper_airflow.triggers import keep
from streamkeeper_airflow.triggers.keep import KeepTrigger
from streamkeeper_io.processes import spawn, stop

OWNER = Owner("keep__t", "keep", "run 1", 1)
TICK_S = 0.02


class MemoryStore:
    """The store's part that a keeper reads, in memory; `away` makes every call fail."""

    def __init__(self, launch: Launch | None) -> None:
        self.held, self.state, self.away = launch, "running", False
        self.looks = 0

    def holder(self, kind: str, name: str) -> Launch | None:
        self.looks += 1
        if self.away:
            raise StoreUnavailable("the store is away")
        return self.held

    def launch(self, epoch: int) -> Launch:
        assert self.held is not None
        return self.held

    def desired(self, stream: str) -> str:
        return self.state

    def request_stop(self, epoch: int, by: str, *, owner: str | None = None) -> bool:
        assert self.held is not None
        if owner not in (None, self.held.owner) or self.held.stop_requested_at:
            return False
        asked = {"stop_requested_at": datetime.now(UTC), "stop_requested_by": by}
        self.held = self.held.model_copy(update=asked)
        return True


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Launch]:
    """A launch with a real process that ends when its input file appears."""
    flag = tmp_path / "stop"
    loop = f'while [ ! -e "{flag}" ]; do sleep 0.02; done; exit 3'
    process = spawn(["/bin/sh", "-c", loop], folder=tmp_path, env=dict(os.environ), epoch=7)
    yield Launch(
        epoch=7,
        kind="driver",
        name="t",
        owner=str(OWNER),
        folder=str(tmp_path),
        process=process,
        began_at=datetime.now(UTC),
    )
    stop(process, tmp_path, 5)


@pytest.fixture
def store(child: Launch, monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    found = MemoryStore(child)
    monkeypatch.setattr(keep, "store_from_connection", lambda: found)
    return found


def trigger(**given: Any) -> KeepTrigger:
    base = {"kind": "driver", "name": "t", "streams": ["t"], "owner": str(OWNER), "epoch": 7}
    return KeepTrigger(**({"poll_s": TICK_S} | base | given))


async def first_event(of: KeepTrigger) -> dict[str, Any]:
    async for event in of.run():
        return dict(event.payload)
    raise AssertionError("the trigger ended without an event")


def wait_for(of: KeepTrigger) -> dict[str, Any]:
    return asyncio.run(asyncio.wait_for(first_event(of), timeout=10))


async def watch_while(of: KeepTrigger, store: MemoryStore, looks: int) -> bool:
    """Return whether the trigger went on without an event for some looks."""
    task = asyncio.create_task(first_event(of))
    until = store.looks + looks
    while store.looks < until and not task.done():
        await asyncio.sleep(TICK_S)
    quiet = not task.done()
    task.cancel()
    return quiet


def test_its_arguments_make_it_again() -> None:
    first = trigger(launch_at="2026-11-24T12:00:00+00:00", broken=["b"], declarations={"f": "x"})
    path, arguments = first.serialize()
    assert path == "streamkeeper_airflow.triggers.keep.KeepTrigger"
    assert KeepTrigger(**arguments).serialize() == first.serialize()


def test_a_live_launch_makes_no_event(store: MemoryStore) -> None:
    assert asyncio.run(watch_while(trigger(), store, 5))


def test_a_death_is_noticed(store: MemoryStore, child: Launch) -> None:
    (Path(child.folder) / "stop").touch()
    event = wait_for(trigger(quick_deaths=2))
    assert event == {"what": "ended", "epoch": 7, "quick_deaths": 2}


def test_a_store_that_is_away_ends_nothing(store: MemoryStore) -> None:
    store.away = True
    assert asyncio.run(watch_while(trigger(), store, 5))


def test_desired_state_stopped_asks_for_a_drain(store: MemoryStore) -> None:
    store.state = "stopped"
    assert asyncio.run(watch_while(trigger(), store, 5))
    assert store.held is not None
    assert store.held.stop_requested_by == "desired state stopped"


def test_a_drain_that_takes_too_long_is_ended_by_signals(store: MemoryStore, child: Launch) -> None:
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    store.held = child.model_copy(update={"stop_requested_at": long_ago})
    store.state = "stopped"
    assert wait_for(trigger())["what"] == "ended"


def test_a_newer_launch_is_looked_at(store: MemoryStore, child: Launch) -> None:
    store.held = child.model_copy(update={"epoch": 8})
    assert wait_for(trigger())["what"] == "look"


def test_a_delay_is_waited_for_without_the_store(store: MemoryStore) -> None:
    store.away = True
    due = datetime.now(UTC) + timedelta(seconds=0.2)
    assert wait_for(trigger(epoch=None, launch_at=due.isoformat()))["what"] == "look"
    assert datetime.now(UTC) >= due
    assert store.looks == 0


def test_resting_ends_when_the_stream_is_wanted(store: MemoryStore) -> None:
    store.held, store.state = None, "stopped"
    resting = trigger(epoch=None)
    assert asyncio.run(watch_while(resting, store, 5))
    store.state = "running"
    assert wait_for(resting)["what"] == "look"


def test_a_broken_declaration_is_waited_for(store: MemoryStore, tmp_path: Path) -> None:
    store.held = None
    path = tmp_path / "t.yaml"
    path.write_text("broken")
    sha = keep.file_sha256(str(path))
    resting = trigger(epoch=None, streams=[], broken=["t"], declarations={str(path): sha})
    assert asyncio.run(watch_while(resting, store, 5))
    path.write_text("mended")
    assert wait_for(resting)["what"] == "look"


def kill(of: KeepTrigger, states: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", staticmethod(lambda **_: states))
    asyncio.run(of.on_kill())


@pytest.mark.parametrize(
    "states", [{"run 1": {"keep": "failed"}}, {"run 1": {"keep": "success"}}, {}]
)
def test_a_marked_or_deleted_task_drains_its_launch(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch, states: dict[str, Any]
) -> None:
    kill(trigger(), states, monkeypatch)
    assert store.held is not None
    assert store.held.stop_requested_by.startswith("its task was")


@pytest.mark.parametrize("state", [None, "deferred", "running", "scheduled"])
def test_a_clear_and_a_woken_triggerer_drain_nothing(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch, state: str | None
) -> None:
    kill(trigger(), {"run 1": {"keep": state}}, monkeypatch)
    assert store.held is not None
    assert store.held.stop_requested_at is None


def test_only_the_owner_drains(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    assert store.held is not None
    adopted = str(OWNER._replace(run_id="run 2"))
    store.held = store.held.model_copy(update={"owner": adopted})
    kill(trigger(), {"run 1": {"keep": "failed"}}, monkeypatch)
    assert store.held.stop_requested_at is None


@pytest.mark.parametrize("marked_before", [False, True])
def test_a_drain_after_a_mark_escalates(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch, marked_before: bool
) -> None:
    monkeypatch.setattr(keep, "_LIMITS", Limits(drain=timedelta(seconds=0.1)))
    assert store.held is not None
    if marked_before:
        store.request_stop(7, "its task was marked failed")
    of = trigger()
    kill(of, {"run 1": {"keep": "failed"}}, monkeypatch)
    end = time.monotonic() + 20
    while of.observer.launcher.running(store.held):
        assert time.monotonic() < end
        time.sleep(TICK_S)
