"""Hours: which are complete, which are due, and what a close commits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from streamkeeper.generations import Counted, Lost
from streamkeeper.spans import holes, tell
from streamkeeper.texts import english

HOUR = timedelta(hours=1)


class Look(BaseModel):
    """The broker's end offsets, seen once after an hour's end and grace."""

    model_config = ConfigDict(frozen=True)

    stream: str
    hour: datetime
    topic_id: str
    taken_at: datetime
    end_offsets: dict[int, int]


class Completeness(BaseModel):
    """Whether everything up to a look has landed, and the spans that have not.

    `missing` maps a partition to its holes, each (first offset, end offset).
    """

    model_config = ConfigDict(frozen=True)

    complete: bool
    missing: dict[int, list[tuple[int, int]]] = {}
    reason: str = ""


class Revision(BaseModel):
    """One close of one hour, as committed in the store.

    `merged` maps a generation to the last batch whose rows are in; `files` maps a zone or KPI to
    its file names below the hour's folder; `counts` holds rows and quarantined readings.
    """

    model_config = ConfigDict(frozen=True)

    stream: str
    hour: datetime
    revision: int
    epoch: int
    write_number: int
    state: Literal["complete", "partial"]
    merged: dict[str, int]
    files: dict[str, list[str]]
    staging: str = ""
    counts: dict[str, Any] = {}
    missing: dict[int, list[tuple[int, int]]] = {}
    stores_pending: bool = True
    committed_at: datetime


def completeness(counted: Counted, look: Look | None, lost: Sequence[Lost] = ()) -> Completeness:
    """Decide whether an hour is complete.

    An hour is complete when the union of the spans that count covers all from where the topic's
    first generation began to the look's end offsets without a hole. Offsets that a person accepted
    as lost are no hole. No broker timestamp is compared with an event time, so back-dated and
    replayed records work.

    Parameters: counted, the published raw batches; look, the end offsets seen after the hour's end
    and grace; lost, all that was accepted.
    """
    if look is None:
        return Completeness(complete=False, reason=english("reason.no_look"))
    if not counted.generations:
        if not any(look.end_offsets.values()):
            return Completeness(complete=True)
        return Completeness(
            complete=False,
            missing={p: [(0, end)] for p, end in look.end_offsets.items() if end},
            reason=english("reason.never_launched"),
        )
    mine = [g for g in counted.counting if g.topic_id == look.topic_id]
    if not mine:
        return Completeness(
            complete=False,
            reason=english(
                "reason.replaced",
                topic_id=look.topic_id,
                began=counted.generations[-1].topic_id,
            ),
        )
    # A later generation that began farther on leaves a hole unless it was accepted.
    start = {p: min(g.start.get(p, 0) for g in mine) for p in look.end_offsets}
    spans = [m.span for m in counted.manifests if m.topic_id == look.topic_id]
    spans += [one.span for one in lost if one.topic_id == look.topic_id]
    missing = holes(start, look.end_offsets, spans)
    return Completeness(
        complete=not missing,
        missing=missing,
        reason="" if not missing else _reason(counted),
    )


def _reason(counted: Counted) -> str:
    if (newest := counted.under_way()) is None:
        return english("reason.not_landed")
    target = {p: [(newest.start.get(p, 0), end)] for p, end in newest.target.items()}
    return english("reason.reading_again", generation=newest.generation, spans=tell(target))


def look_due(hour: datetime, grace: timedelta) -> datetime:
    """Return the first instant at which the look for an hour may be taken."""
    return hour + HOUR + grace


def still_filling(hour: datetime, event_times: Iterable[datetime | None]) -> bool:
    """Tell whether a live producer still fills an hour.

    Parameters: hour; event_times, of each live producer the event time up to which all is sent,
    None when it has not said yet.
    """
    return any(t is None or t < hour + HOUR for t in event_times)


WaitStep = Literal["early", "filling", "look", "landing", "complete", "partial"]


def next_step(
    hour: datetime,
    *,
    now: datetime,
    since: datetime,
    grace: timedelta,
    wait_limit: timedelta,
    look: Look | None,
    filling: bool,
    done: Completeness,
) -> WaitStep:
    """Say what a run that waits for an hour has to do now.

    The look is taken once no live producer fills the hour, so that it covers all of the hour's
    rows. The wait limit counts from the hour's end and grace, or from the start of the waiting
    where that is later: a backfilled hour gets all of it, and waits for no grace.

    Parameters: since, when the waiting began; look, the stored one; filling, whether a live
    producer still fills the hour; done, the hour's completeness by that look.
    """
    due = look_due(hour, grace)
    if now < due:
        return "early"
    over = now - max(due, since) >= wait_limit
    if look is None:
        return "look" if over or not filling else "filling"
    if done.complete and not filling:
        return "complete"
    if over:
        return "partial"
    return "filling" if filling else "landing"
