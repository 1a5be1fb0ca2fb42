"""The trigger that watches a launch from the triggerer."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from airflow.triggers.base import BaseTrigger, TriggerEvent

from streamkeeper.errors import StreamkeeperError
from streamkeeper.launches import Kind, Launch
from streamkeeper.supervision import (
    Drain,
    Limits,
    Owner,
    Rest,
    Sight,
    Signal,
    Start,
    Watch,
    decide,
)
from streamkeeper_airflow.hooks.connections import store_from_connection
from streamkeeper_airflow.observer import Observer, how_owner_ended

if TYPE_CHECKING:
    from streamkeeper_io.store import Store

_LIMITS = Limits()


class KeepTrigger(BaseTrigger):
    """Polls a launch until its keeper's task has something to do.

    Yields one event: {"what": "ended", "epoch": N} when the watched launch has ended, or
    {"what": "look"} when the task is to look again; `quick_deaths` is echoed in both.

    Parameters: kind and name, the lock; streams and broken, as for Observer; owner, the task's
    token; epoch, the launch to watch, None while none lives; quick_deaths, in a row so far;
    launch_at, ISO 8601, wait until then before anything else; declarations, path -> SHA-256 of
    broken declarations, look again when one changes; poll_s, seconds between two looks.
    """

    def __init__(
        self,
        *,
        kind: str,
        name: str,
        streams: list[str],
        owner: str,
        broken: list[str] | None = None,
        epoch: int | None = None,
        quick_deaths: int = 0,
        launch_at: str | None = None,
        declarations: dict[str, str] | None = None,
        poll_s: float = 2.0,
    ) -> None:
        super().__init__()
        self.kind, self.name, self.streams, self.broken = kind, name, streams, broken or []
        self.owner, self.epoch, self.quick_deaths = owner, epoch, quick_deaths
        self.launch_at, self.poll_s = launch_at, poll_s
        self.declarations = declarations or {}
        self.observer = Observer(cast(Kind, kind), name, streams, self.broken)
        self._complaint = ""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments that make this trigger again."""
        names = ("kind", "name", "streams", "owner", "broken", "epoch", "quick_deaths")
        more = ("launch_at", "declarations", "poll_s")
        path = f"{type(self).__module__}.{type(self).__qualname__}"
        return path, {n: getattr(self, n) for n in names + more}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look every `poll_s` seconds, in a thread, until there is an event."""
        while True:
            event = await asyncio.to_thread(self._poll)
            if event is not None:
                yield TriggerEvent(event | {"quick_deaths": self.quick_deaths})
                return
            await asyncio.sleep(self.poll_s)

    def _poll(self) -> dict[str, Any] | None:
        try:
            return self._look()
        except StreamkeeperError as error:
            self._complain(str(error))
        except Exception as error:
            # A trigger that fails fails its task; an outage of Airflow or of the store must not
            # end the watch over a driver that is well.
            self._complain(f"{type(error).__name__}: {error}")
        return None

    def _complain(self, text: str) -> None:
        if text != self._complaint:
            self.log.warning("Cannot look at %s %s: %s", self.kind, self.name, text)
        self._complaint = text

    def _look(self) -> dict[str, Any] | None:
        if self.launch_at is not None:
            due = datetime.now(UTC) >= datetime.fromisoformat(self.launch_at)
            return {"what": "look"} if due else None
        if self.declarations and self._declarations_changed():
            return {"what": "look"}
        store = store_from_connection()
        sight = self.observer.look(store)
        self._complaint = ""
        if self.epoch is not None and sight.launch and sight.launch.epoch != self.epoch:
            return {"what": "look"}
        return self._act(store, sight)

    def _act(self, store: Store, sight: Sight) -> dict[str, Any] | None:
        match decide(sight, _LIMITS):
            case Start() | Rest() if self.epoch is not None:
                return {"what": "ended", "epoch": self.epoch}
            case Start() if not self.declarations:
                return {"what": "look"}
            case Watch() if self.epoch is None:
                return {"what": "look"}
            case Drain(epoch, by):
                self.log.info("Asking launch %s to drain: %s", epoch, by)
                store.request_stop(epoch, by)
            case Signal(epoch, reason):
                self.log.warning("Ending launch %s by signals: %s", epoch, reason)
                assert sight.launch is not None
                self.observer.launcher.end(sight.launch)
        return None

    def _declarations_changed(self) -> bool:
        return any(file_sha256(path) != sha for path, sha in self.declarations.items())

    async def on_kill(self) -> None:
        """Drain the launch when a person marked or deleted the task; after a clear do nothing."""
        # Airflow allows about a second and then cancels this coroutine, so the work is done in a
        # thread of its own, which also waits for the drain and escalates.
        thread = threading.Thread(target=self._drain_if_ended, name=f"drain-{self.name}")
        thread.daemon = True
        thread.start()
        await asyncio.to_thread(thread.join, 0.8)

    def _drain_if_ended(self) -> None:
        try:
            how = how_owner_ended(Owner.parse(self.owner))
            if not how:  # cleared; or this triggerer was frozen and another one took over
                return
            store = store_from_connection()
            launch = store.holder(cast(Kind, self.kind), self.name)
            # The next run may have adopted the launch already; then it is that run's to drain.
            if launch is None or launch.owner != self.owner:
                return
            store.request_stop(launch.epoch, f"its task was {how}", owner=self.owner)
            self.log.info("Launch %s drains: its task was %s", launch.epoch, how)
            self._escalate(store, launch)
        except Exception:
            self.log.exception("Could not drain %s %s", self.kind, self.name)

    def _escalate(self, store: Store, launch: Launch) -> None:
        deadline = time.monotonic() + _LIMITS.drain.total_seconds()
        while self.observer.launcher.running(launch):
            if time.monotonic() > deadline:
                if store.launch(launch.epoch).stop_requested_at is None:
                    return  # adopted in the last moment
                self.log.warning("Launch %s did not drain in time; signals follow", launch.epoch)
                self.observer.launcher.end(launch)
                return
            time.sleep(self.poll_s)


def file_sha256(path: str) -> str:
    """Return the hash of a file's content; empty when it cannot be read."""
    import hashlib

    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return ""
