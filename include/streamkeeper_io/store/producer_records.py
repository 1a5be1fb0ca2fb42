"""What producers sent, by launch and event hour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, insert, select
from sqlalchemy.dialects.postgresql import insert as upsert

from streamkeeper.launches import Launch, ProducedHour
from streamkeeper_io.store.connection import StoreConnection
from streamkeeper_io.store.tables import epochs, launches, produced


class ProducerRecords(StoreConnection):
    """The producers' side of the ledger."""

    def begin_by_hand(self, stream: str, owner: str) -> Launch:
        """Begin a producer that a person runs; any number of them may run beside one another."""
        [row] = self.rows(
            insert(launches)
            .values(epoch=epochs.next_value(), kind="by_hand", name=stream, owner=owner)
            .returning(launches)
        )
        return Launch.model_validate(dict(row._mapping))

    def record_produced(self, hours: Sequence[ProducedHour]) -> None:
        """Record what launches have sent so far; the counts replace those told before."""
        if not hours:
            return
        told = upsert(produced)
        counts: dict[str, Any] = {
            name: told.excluded[name] for name in ("sent", "acked", "failed", "faults")
        }
        self.run(
            told.on_conflict_do_update(
                index_elements=["stream", "epoch", "hour"],
                set_=counts | {"told_at": func.now()},
            ),
            [hour.model_dump() for hour in hours],
        )

    def produced(self, stream: str, launches_at_most: int = 10) -> list[ProducedHour]:
        """Return what the latest launches have sent of a stream, oldest launch and hour first."""
        latest = (
            select(produced.c.epoch)
            .where(produced.c.stream == stream)
            .distinct()
            .order_by(produced.c.epoch.desc())
            .limit(launches_at_most)
        )
        found = select(produced).where(produced.c.stream == stream, produced.c.epoch.in_(latest))
        rows = self.rows(found.order_by(produced.c.epoch, produced.c.hour))
        names = ProducedHour.model_fields
        return [ProducedHour.model_validate({n: r._mapping[n] for n in names}) for r in rows]
