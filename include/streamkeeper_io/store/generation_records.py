"""Generations, the requests for new ones, and the offsets that were accepted as lost."""

from __future__ import annotations

from sqlalchemy import func, insert, select
from sqlalchemy.dialects.postgresql import insert as upsert

from streamkeeper.errors import RequestConflict
from streamkeeper.generations import Generation, Lost, Request
from streamkeeper_io.store.connection import StoreConnection
from streamkeeper_io.store.tables import generations, lost, requests


class GenerationRecords(StoreConnection):
    """Where the queries of streams began, and where they are to begin anew."""

    def add_generation(self, generation: Generation) -> None:
        """Record where a generation begins; a second record of it changes nothing."""
        values = generation.model_dump(mode="json")
        self.run(upsert(generations).values(**values).on_conflict_do_nothing())

    def generations(self, stream: str, query: str) -> list[Generation]:
        """Return the generations of a query, oldest first."""
        found = select(generations).where(
            generations.c.stream == stream, generations.c.query == query
        )
        rows = self.rows(found.order_by(generations.c.epoch, generations.c.request))
        return [Generation.model_validate(dict(r._mapping)) for r in rows]

    def add_request(self, request: Request, lost_spans: list[Lost]) -> None:
        """Record a request for new generations together with what it accepts as lost.

        Raises RequestConflict when another request has this number already.
        """
        values = request.model_dump(mode="json")
        row = upsert(requests).values(**values).on_conflict_do_nothing()
        with self.transaction() as connection:
            if connection.execute(row.returning(requests.c.number)).first() is None:
                raise RequestConflict(
                    f"{request.stream}: request {request.number} was made by someone else at the "
                    "same time; look at it with `streamkeeper stream status`, then ask again"
                )
            for one in lost_spans:
                connection.execute(insert(lost).values(**one.model_dump(mode="json")))

    def last_request(self, stream: str) -> Request | None:
        """Return the last request for new generations of a stream."""
        found = select(requests).where(requests.c.stream == stream)
        rows = self.rows(found.order_by(requests.c.number.desc()).limit(1))
        return Request.model_validate(dict(rows[0]._mapping)) if rows else None

    def last_number(self, stream: str) -> int:
        """Return the highest request number of a stream, of requests and generations; 0 if none."""
        asked = select(func.max(requests.c.number)).where(requests.c.stream == stream)
        made = select(func.max(generations.c.request)).where(generations.c.stream == stream)
        found = self.rows(asked.union_all(made))
        return max((r[0] for r in found if r[0] is not None), default=0)

    def lost(self, stream: str) -> list[Lost]:
        """Return what was accepted as lost, oldest first."""
        rows = self.rows(select(lost).where(lost.c.stream == stream).order_by(lost.c.number))
        return [Lost.model_validate(dict(r._mapping)) for r in rows]
