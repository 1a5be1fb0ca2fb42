"""Launches, their locks and the desired state of streams."""

from __future__ import annotations

from typing import Any, Literal, cast

from sqlalchemy import func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from streamkeeper.errors import LaunchConflict
from streamkeeper.launches import Kind, Launch, Process
from streamkeeper_io.store.connection import StoreConnection
from streamkeeper_io.store.tables import desired, epochs, launches, locks

Desired = Literal["running", "stopped"]


def _launch(row: Any) -> Launch:
    return Launch.model_validate(dict(row._mapping))


class LaunchRecords(StoreConnection):
    """What was launched, who holds the lock of a name, and what a person wants."""

    def begin_launch(
        self, kind: Kind, name: str, *, owner: str = "", expected: int | None
    ) -> Launch:
        """Take the lock of a name with a new epoch, by compare-and-set.

        Parameters: expected, the epoch that holds the lock now, or None when nobody ever did.
        Raises LaunchConflict when another launch holds it.
        """
        with self.transaction() as connection:
            row = connection.execute(
                insert(launches)
                .values(epoch=epochs.next_value(), kind=kind, name=name, owner=owner)
                .returning(launches)
            ).one()
            if expected is None:
                take: Any = (
                    upsert(locks)
                    .values(kind=kind, name=name, epoch=row.epoch)
                    .on_conflict_do_nothing()
                )
            else:
                take = (
                    update(locks)
                    .where(locks.c.kind == kind, locks.c.name == name, locks.c.epoch == expected)
                    .values(epoch=row.epoch)
                )
            if connection.execute(take.returning(locks.c.epoch)).first() is None:
                holder = connection.scalar(
                    select(locks.c.epoch).where(locks.c.kind == kind, locks.c.name == name)
                )
                raise LaunchConflict(
                    f"the {kind} {name!r} is held by launch {holder}, not by launch {expected}; "
                    "look again before launching"
                )
            return _launch(row)

    def begin_close(self, stream: str) -> Launch:
        """Begin a close; any number of them may run, the compare-and-set of revisions decides."""
        [row] = self.rows(
            insert(launches)
            .values(epoch=epochs.next_value(), kind="close", name=stream)
            .returning(launches)
        )
        return _launch(row)

    def holder(self, kind: Kind, name: str) -> Launch | None:
        """Return the launch that holds the lock of a name; it may have ended."""
        rows = self.rows(
            select(launches)
            .join(locks, locks.c.epoch == launches.c.epoch)
            .where(locks.c.kind == kind, locks.c.name == name)
        )
        return _launch(rows[0]) if rows else None

    def launch(self, epoch: int) -> Launch:
        """Return a launch by its epoch; KeyError when there is none."""
        rows = self.rows(select(launches).where(launches.c.epoch == epoch))
        if not rows:
            raise KeyError(f"no launch has the epoch {epoch}")
        return _launch(rows[0])

    def launches(self, kind: Kind, name: str, limit: int = 20) -> list[Launch]:
        """Return the latest launches of a name, newest first."""
        found = select(launches).where(launches.c.kind == kind, launches.c.name == name)
        return [_launch(r) for r in self.rows(found.order_by(launches.c.epoch.desc()).limit(limit))]

    def update_launch(
        self, epoch: int, *, folder: str | None = None, process: Process | None = None
    ) -> None:
        """Record where a launch lives."""
        values: dict[str, Any] = {}
        if folder is not None:
            values["folder"] = folder
        if process is not None:
            values["process"] = process.model_dump(mode="json")
        self.run(update(launches).where(launches.c.epoch == epoch).values(**values))

    def adopt(self, epoch: int, owner: str) -> None:
        """Give a live launch a new owner, such as a later DAG run."""
        self.run(update(launches).where(launches.c.epoch == epoch).values(owner=owner))

    def heartbeat(self, epoch: int, progress: dict[str, Any]) -> Launch:
        """Record that a launch lives and how far it is; return its row, stop request included."""
        rows = self.rows(
            update(launches)
            .where(launches.c.epoch == epoch)
            .values(heartbeat_at=func.now(), progress=progress)
            .returning(launches)
        )
        if not rows:
            raise KeyError(f"no launch has the epoch {epoch}")
        return _launch(rows[0])

    def request_stop(self, epoch: int, by: str, *, owner: str | None = None) -> bool:
        """Ask a launch to drain; the first request stays recorded.

        Parameters: owner, ask only while this task still owns the launch.
        Returns whether this request was recorded.
        """
        asked = update(launches).where(
            launches.c.epoch == epoch, launches.c.stop_requested_at.is_(None)
        )
        if owner is not None:
            asked = asked.where(launches.c.owner == owner)
        values = {"stop_requested_at": func.now(), "stop_requested_by": by}
        return bool(self.rows(asked.values(**values).returning(launches.c.epoch)))

    def end_launch(self, epoch: int, exit_code: int | None, reason: str) -> None:
        """Record a launch's end; the first record stays."""
        self.run(
            update(launches)
            .where(launches.c.epoch == epoch, launches.c.ended_at.is_(None))
            .values(ended_at=func.now(), exit_code=exit_code, reason=reason)
        )

    def desired(self, stream: str) -> Desired:
        """Return what a person wants of a stream; `running` until somebody stops it."""
        rows = self.rows(select(desired.c.state).where(desired.c.stream == stream))
        return cast(Desired, rows[0].state) if rows else "running"

    def set_desired(self, stream: str, state: Desired, by: str) -> None:
        """Record what a person wants of a stream."""
        values = {"state": state, "by": by, "since": func.now()}
        self.run(
            upsert(desired)
            .values(stream=stream, **values)
            .on_conflict_do_update(index_elements=["stream"], set_=values)
        )
