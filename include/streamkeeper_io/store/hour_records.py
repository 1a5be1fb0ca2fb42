"""The index of published batches, looks, revisions, sink marks and report mails."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import and_, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.dialects.postgresql import insert as upsert

from streamkeeper.errors import RevisionConflict
from streamkeeper.hours import Look, Revision
from streamkeeper.manifest import Manifest
from streamkeeper.names import BatchName
from streamkeeper_io.store.connection import StoreConnection
from streamkeeper_io.store.tables import batch_hours, batches, looks, mails, marks, revisions


def _revision(row: Any) -> Revision:
    return Revision.model_validate(dict(row._mapping))


def _latest(stream: str) -> Any:
    return (
        select(revisions)
        .where(revisions.c.stream == stream)
        .ext(distinct_on(revisions.c.hour))
        .order_by(revisions.c.hour, revisions.c.revision.desc())
    )


class HourRecords(StoreConnection):
    """What has landed, what was closed and what was told."""

    def indexed_batches(self, stream: str, zone: str) -> set[BatchName]:
        """Return the batches of a zone whose manifests are in the index."""
        found = select(batches.c.generation, batches.c.batch).where(
            batches.c.stream == stream, batches.c.zone == zone
        )
        return {BatchName(r.generation, r.batch) for r in self.rows(found)}

    def index_batches(self, manifests: Iterable[Manifest]) -> None:
        """Add manifests to the index; those already there change nothing."""
        manifests = list(manifests)
        if not manifests:
            return
        keys = [
            {"stream": m.stream, "zone": m.zone, "generation": m.generation, "batch": m.batch}
            for m in manifests
        ]
        rows = [
            key | {"epoch": m.epoch, "manifest": m.model_dump(mode="json")}
            for key, m in zip(keys, manifests, strict=True)
        ]
        hours = [
            key | {"hour": hour, "rows": n}
            for key, m in zip(keys, manifests, strict=True)
            for hour, n in m.hours.items()
        ]
        with self.transaction() as connection:
            connection.execute(upsert(batches).on_conflict_do_nothing(), rows)
            if hours:
                connection.execute(upsert(batch_hours).on_conflict_do_nothing(), hours)

    def manifests(self, stream: str, zone: str, hour: datetime | None = None) -> list[Manifest]:
        """Return the indexed manifests of a zone in the order of their generations and batches.

        Parameters: hour, only batches with valid rows in this event hour.
        """
        first = func.min(batches.c.epoch).over(partition_by=batches.c.generation).label("first")
        ordered = (
            select(batches.c.generation, batches.c.batch, batches.c.manifest, first)
            .where(batches.c.stream == stream, batches.c.zone == zone)
            .subquery()
        )
        found = select(ordered.c.manifest).order_by(
            ordered.c.first, ordered.c.generation, ordered.c.batch
        )
        if hour is not None:
            found = found.join(
                batch_hours,
                and_(
                    batch_hours.c.stream == stream,
                    batch_hours.c.zone == zone,
                    batch_hours.c.hour == hour,
                    batch_hours.c.generation == ordered.c.generation,
                    batch_hours.c.batch == ordered.c.batch,
                ),
            )
        return [Manifest.model_validate(r.manifest) for r in self.rows(found)]

    def landed_hours(self, stream: str, zone: str = "raw") -> dict[datetime, int]:
        """Return the valid rows of every event hour that has any."""
        found = (
            select(batch_hours.c.hour, func.sum(batch_hours.c.rows).label("rows"))
            .where(batch_hours.c.stream == stream, batch_hours.c.zone == zone)
            .group_by(batch_hours.c.hour)
            .order_by(batch_hours.c.hour)
        )
        return {r.hour: int(r.rows) for r in self.rows(found)}

    def look(self, stream: str, hour: datetime) -> Look | None:
        """Return the look that was stored for an hour."""
        rows = self.rows(select(looks).where(looks.c.stream == stream, looks.c.hour == hour))
        return Look.model_validate(dict(rows[0]._mapping)) if rows else None

    def add_look(self, look: Look) -> Look:
        """Store a look unless the hour has one; return the stored one."""
        self.run(upsert(looks).values(**look.model_dump(mode="json")).on_conflict_do_nothing())
        stored = self.look(look.stream, look.hour)
        assert stored is not None
        return stored

    def revision(self, stream: str, hour: datetime) -> Revision | None:
        """Return the latest revision of an hour."""
        rows = self.rows(
            select(revisions)
            .where(revisions.c.stream == stream, revisions.c.hour == hour)
            .order_by(revisions.c.revision.desc())
            .limit(1)
        )
        return _revision(rows[0]) if rows else None

    def revisions(self, stream: str) -> list[Revision]:
        """Return the latest revision of every closed hour, oldest hour first."""
        return [_revision(r) for r in self.rows(_latest(stream))]

    def commit_revision(self, revision: Revision) -> None:
        """Commit a close; RevisionConflict when the hour is not at the revision before."""
        if not self.commit_revisions([revision]):
            raise RevisionConflict(
                f"{revision.stream} {revision.hour:%Y-%m-%dT%H}: revision {revision.revision} "
                "was committed by another close; run the close again"
            )

    def commit_revisions(self, wanted: Sequence[Revision]) -> list[Revision]:
        """Commit many closes, each by compare-and-set; return those that were committed."""
        committed = []
        with self.transaction() as connection:
            for revision in wanted:
                latest = connection.scalar(
                    select(func.max(revisions.c.revision)).where(
                        revisions.c.stream == revision.stream, revisions.c.hour == revision.hour
                    )
                )
                if (latest or 0) != revision.revision - 1:
                    continue
                # The primary key decides between two closes that both saw k-1.
                row = upsert(revisions).values(**revision.model_dump(mode="json"))
                taken = row.on_conflict_do_nothing().returning(revisions.c.revision)
                if connection.execute(taken).first():
                    committed.append(revision)
        return committed

    def stores_done(self, stream: str, hour: datetime, revision: int) -> None:
        """Record that a revision's files were moved and its windows written."""
        self.run(
            update(revisions)
            .where(
                revisions.c.stream == stream,
                revisions.c.hour == hour,
                revisions.c.revision == revision,
            )
            .values(stores_pending=False)
        )

    def mark(self, stream: str, sink: str) -> dict[str, int]:
        """Return the last batch that a sink has applied, by generation."""
        found = select(marks.c.generation, marks.c.batch).where(
            marks.c.stream == stream, marks.c.sink == sink
        )
        return {r.generation: r.batch for r in self.rows(found)}

    def set_mark(self, stream: str, sink: str, generation: str, batch: int) -> None:
        """Move a sink's mark forward; a mark never moves back."""
        moved = upsert(marks).values(
            stream=stream, sink=sink, generation=generation, batch=batch, moved_at=func.now()
        )
        self.run(
            moved.on_conflict_do_update(
                index_elements=["stream", "sink", "generation"],
                set_={"batch": moved.excluded.batch, "moved_at": func.now()},
                where=marks.c.batch < moved.excluded.batch,
            )
        )

    def unmailed(self, stream: str) -> list[Revision]:
        """Return the latest revisions that no report mail was sent for, oldest hour first."""
        latest = _latest(stream).subquery()
        sent = select(mails.c.stream, mails.c.hour, mails.c.revision)
        found = select(latest).where(
            tuple_(latest.c.stream, latest.c.hour, latest.c.revision).not_in(sent)
        )
        return [_revision(r) for r in self.rows(found.order_by(latest.c.hour))]

    def record_mail(self, stream: str, hour: datetime, revision: int, message_id: str) -> None:
        """Record a report mail; one sent again is recorded once."""
        row = upsert(mails).values(
            stream=stream, hour=hour, revision=revision, message_id=message_id
        )
        self.run(row.on_conflict_do_nothing())
