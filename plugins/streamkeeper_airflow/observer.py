"""What is seen of the launch that holds a name: read by the keeper's task and by its trigger."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from streamkeeper.launches import Kind, Launch
from streamkeeper.supervision import Owner, Sight, ended_by_person
from streamkeeper_airflow.launchers.local import LocalLauncher

if TYPE_CHECKING:
    from streamkeeper_io.store import Store

SNAPSHOT = "launch.json"


class Observer:
    """Looks at a launch and remembers for how long its heartbeat has not changed.

    Parameters: kind and name, the lock; streams, those declared for it; broken, streams whose
    declaration is broken now: they stay wanted only while the live launch runs them.
    """

    def __init__(
        self, kind: Kind, name: str, streams: Sequence[str], broken: Sequence[str] = ()
    ) -> None:
        self.kind, self.name = kind, name
        self.streams, self.broken = tuple(streams), tuple(broken)
        self.launcher = LocalLauncher()
        self._heartbeat: tuple[int, datetime | None] | None = None
        self._seen_since = time.monotonic()
        self._snapshot: tuple[int, tuple[str, ...]] = (-1, ())

    def look(self, store: Store, ended_by: str = "") -> Sight:
        """Return what there is to see now.

        Parameters: ended_by, how a person ended the task that owns the launch.
        Raises StoreUnavailable; the time without a store does not count for the heartbeat's age.
        """
        try:
            launch = store.holder(self.kind, self.name)
            runs = self._streams_of(launch)
            declared = self.streams + tuple(s for s in self.broken if s in runs)
            wanted = tuple(s for s in declared if self._wanted(store, s))
        except Exception:
            self._heartbeat = None
            raise
        return Sight(
            now=datetime.now(UTC),
            wanted=wanted,
            launch=launch,
            streams=runs,
            running=self.launcher.running(launch) if launch else False,
            unchanged=self._unchanged(launch),
            ended_by=ended_by,
        )

    def _wanted(self, store: Store, stream: str) -> bool:
        # Stopping a stream stops its driver; its producer is stopped by its own DAG.
        return self.kind != "driver" or store.desired(stream) == "running"

    def _unchanged(self, launch: Launch | None) -> timedelta:
        heartbeat = (launch.epoch, launch.heartbeat_at) if launch else None
        if heartbeat != self._heartbeat:
            self._heartbeat, self._seen_since = heartbeat, time.monotonic()
        return timedelta(seconds=time.monotonic() - self._seen_since)

    def _streams_of(self, launch: Launch | None) -> tuple[str, ...]:
        """Return the streams in a launch's snapshot; none when it cannot be read here."""
        if launch is None or not launch.folder:
            return ()
        if self._snapshot[0] != launch.epoch:
            try:
                snapshot = json.loads((Path(launch.folder) / SNAPSHOT).read_text())
            except (OSError, ValueError):
                return ()
            self._snapshot = launch.epoch, tuple(s["name"] for s in snapshot["specs"])
        return self._snapshot[1]


def how_owner_ended(owner: Owner | None, me: Owner | None = None) -> str:
    """Ask Airflow how a person ended the task that owns a launch; empty when nobody did.

    Parameters: owner, None for a launch that no task watches; me, the task that asks.
    """
    if owner is None or (me is not None and me[:3] == owner[:3]):
        return ""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    states = RuntimeTaskInstance.get_task_states(
        dag_id=owner.dag_id, task_ids=[owner.task_id], run_ids=[owner.run_id]
    )
    return ended_by_person(owner, states, me)
