"""What a rewind, a reset or the like will do: planned from what is seen, before anything is asked.

Nothing here is changed; the plan holds the request that the store is to keep, and the driver
begins the new generations from it at its next start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from streamkeeper.errors import StreamkeeperError
from streamkeeper.generations import (
    Counted,
    Generation,
    Lost,
    Request,
    RequestKind,
    gone,
    new_start,
    new_target,
    position,
    skipped,
)
from streamkeeper.hours import Revision
from streamkeeper.manifest import Manifest
from streamkeeper.names import LAND
from streamkeeper.spans import Pieces, meet, size, spans_of, tell

ResetFrom = Literal["landed", "begin", "end", "offsets"]


@dataclass(frozen=True)
class Seen:
    """A stream as it stands: its topic, generations, batches and closed hours.

    begin and end: the first offset that is kept and the next one to come, by partition;
    generations and manifests: by query; compacted: whether the topic's older messages may go.
    """

    stream: str
    topic: str
    topic_id: str
    begin: Mapping[int, int]
    end: Mapping[int, int]
    generations: Mapping[str, Sequence[Generation]]
    manifests: Mapping[str, Sequence[Manifest]]
    revisions: Sequence[Revision] = ()
    lost: Sequence[Lost] = ()
    last_number: int = 0
    compacted: bool = False

    @property
    def counted(self) -> Counted:
        """The landed batches that count."""
        return Counted(self.generations[LAND], self.manifests[LAND])

    @property
    def stands(self) -> dict[int, int]:
        """Up to where the stream has landed, by partition of the topic."""
        counted = self.counted.stands(self.topic_id)
        begin = {} if counted else self.begin
        return {p: counted.get(p, begin.get(p, 0)) for p in self.begin}


@dataclass(frozen=True)
class Step:
    """What one query will do: begin at `start`; `again` is what it reads a second time."""

    query: str
    old: Generation | None
    start: dict[int, int]
    again: Pieces


@dataclass(frozen=True)
class Plan:
    """A request and what will follow from it.

    kept: the offsets that the topic keeps; lost: what the request accepts as lost; hours: closed
    ones that will be due again; notes: what a person should know before saying yes.
    """

    request: Request
    steps: tuple[Step, ...]
    messages: int
    kept: Pieces
    lost: tuple[Lost, ...] = ()
    hours: tuple[datetime, ...] = ()
    notes: tuple[str, ...] = field(default=())


def plan_rewind(seen: Seen, wanted: Mapping[int, int], by: str, now: datetime) -> Plan:
    """Plan to read again from the offsets of `wanted`; other partitions go on where they stand.

    Raises StreamkeeperError when an offset is not there, or not behind where the stream stands.
    """
    _refuse_unknown(seen, wanted)
    if not any(g.topic_id == seen.topic_id for g in seen.generations[LAND]):
        raise StreamkeeperError(
            f"{seen.stream} has read nothing of the topic id {seen.topic_id} yet, so there is "
            f"nothing to rewind; begin with it by `streamkeeper stream reset {seen.stream}`"
        )
    ahead = skipped(wanted, seen.stands)
    if ahead:
        raise StreamkeeperError(
            f"a rewind goes back, but {_places(seen.stands, ahead)}; to leave messages out, use "
            f"`streamkeeper stream reset {seen.stream} --from offsets`"
        )
    plan = _plan(seen, "rewind", wanted, by, now)
    if not any(step.again for step in plan.steps):
        raise StreamkeeperError(
            f"{seen.stream}: nothing has been read from there on; it goes on so"
        )
    return plan


def plan_reset(
    seen: Seen, begins: ResetFrom, wanted: Mapping[int, int], by: str, now: datetime
) -> Plan:
    """Plan to begin anew: where the stream has landed, at an end of the topic, or at offsets.

    Messages that are left out are accepted as lost.
    Raises StreamkeeperError when an offset is not there.
    """
    _refuse_unknown(seen, wanted)
    start: Mapping[int, int] = {
        "landed": {p: seen.begin[p] for p in gone(seen.stands, seen.begin)},
        "begin": seen.begin,
        "end": seen.end,
        "offsets": wanted,
    }[begins]
    left_out = skipped(start, seen.stands)
    told = f"left out by reset --from {begins}"
    return _plan(seen, "reset", start, by, now, left_out=left_out, reason=told)


def plan_abandon(seen: Seen, by: str, now: datetime) -> Plan:
    """Plan to give a rewind up: the older rows stay, landing goes on where it stood.

    Raises StreamkeeperError when no rewind is under way or asked for.
    """
    made = max((g.request for g in seen.generations[LAND]), default=0)
    if seen.counted.under_way() is None and seen.last_number <= made:
        raise StreamkeeperError(
            f"no rewind of {seen.stream} is under way: its generation counts already; to undo one, "
            "rewind again"
        )
    return _plan(seen, "abandon", {}, by, now)


def plan_accept_lost(seen: Seen, by: str, now: datetime) -> Plan:
    """Plan to go on behind messages that were deleted before they were read.

    Raises StreamkeeperError when none were.
    """
    missing: dict[str, Pieces] = {}
    for query, generations in seen.generations.items():
        newest = generations[-1] if generations else None
        if newest is not None and newest.topic_id == seen.topic_id:
            missing[query] = gone(position(newest, seen.manifests[query]), seen.begin)
    if not any(missing.values()):
        raise StreamkeeperError(
            f"{seen.stream} has lost no messages: the topic still keeps all that is unread"
        )
    told = "deleted before it was read"
    left_out = missing.get(LAND, {})
    return _plan(seen, "accept-lost", {}, by, now, left_out=left_out, reason=told)


def _plan(
    seen: Seen,
    kind: RequestKind,
    start: Mapping[int, int],
    by: str,
    now: datetime,
    *,
    left_out: Pieces | None = None,
    reason: str = "",
) -> Plan:
    request = Request(
        stream=seen.stream,
        number=seen.last_number + 1,
        kind=kind,
        topic_id=seen.topic_id,
        start=dict(start),
        by=by,
        asked_at=now,
    )
    lost = [_lost(request, span, reason) for span in spans_of(left_out or {})]
    queries = [query for query in seen.generations if request.concerns(query)]
    steps = {query: _step(seen, request, query, lost) for query in queries}
    land = steps[LAND]
    return Plan(
        request,
        tuple(steps.values()),
        sum(max(0, seen.end[p] - first) for p, first in land.start.items()),
        {p: [(first, seen.end[p])] for p, first in seen.begin.items() if first < seen.end[p]},
        tuple(lost),
        tuple(_closed_hours(seen, land.again)),
        tuple(_notes(seen, kind, land, left_out or {})),
    )


def _lost(request: Request, span: Mapping[int, tuple[int, int]], reason: str) -> Lost:
    return Lost(
        stream=request.stream,
        topic_id=request.topic_id,
        span=dict(span),
        by=request.by,
        reason=reason,
        accepted_at=request.asked_at,
    )


def _closed_hours(seen: Seen, again: Pieces) -> list[datetime]:
    """Return the closed hours that hold rows of what is read again."""
    touched = {
        hour
        for m in seen.counted.manifests
        if m.topic_id == seen.topic_id and meet(m.span, again)
        for hour in m.hours
    }
    return sorted(r.hour for r in seen.revisions if r.hour in touched)


def _step(seen: Seen, request: Request, query: str, lost: Sequence[Lost]) -> Step:
    generations, manifests = seen.generations[query], seen.manifests[query]
    start = new_start(
        request,
        query,
        generations=generations,
        manifests=manifests,
        begin=seen.begin,
        topic_id=seen.topic_id,
        lost=[*seen.lost, *lost],
    )
    target = new_target(generations, manifests, {}, seen.topic_id)
    return Step(
        query,
        generations[-1] if generations else None,
        start,
        {p: [(first, target[p])] for p, first in start.items() if first < target.get(p, 0)},
    )


def _notes(seen: Seen, kind: RequestKind, land: Step, left_out: Pieces) -> list[str]:
    notes = []
    if left_out:
        notes.append(f"never read, and accepted as lost: {tell(left_out)}")
    old = [g for g in seen.generations[LAND] if g.topic_id != seen.topic_id]
    if old and not any(g.topic_id == seen.topic_id for g in seen.generations[LAND]):
        notes.append(f"rows of the topic id {old[-1].topic_id} stay as they are")
    if (newest := seen.counted.under_way()) is not None:
        notes.append(f"generation {newest.generation} is given up; its rows never count")
    if deleted := gone(land.start, seen.begin):
        notes.append(
            f"deleted before it was read: {tell(deleted)}; `streamkeeper stream accept-lost "
            f"{seen.stream}` goes on behind it"
        )
    if seen.compacted and land.again:
        notes.append("the topic is compacted: rows whose messages are gone leave their hours")
    if kind != "abandon" and len(seen.generations) > 1:
        notes.append(
            "live windows that began before the first message read lack older readings until "
            "their hour is closed"
        )
    return notes


def _refuse_unknown(seen: Seen, wanted: Mapping[int, int]) -> None:
    wrong = []
    for partition, offset in sorted(wanted.items()):
        if partition not in seen.begin:
            known = ", ".join(map(str, sorted(seen.begin)))
            wrong.append(f"there is no partition {partition}; valid: {known}")
        elif not seen.begin[partition] <= offset <= seen.end[partition]:
            kept = f"{seen.begin[partition]}..{seen.end[partition]}"
            wrong.append(f"offset {offset} of partition {partition} is not kept; valid: {kept}")
    if wrong:
        raise StreamkeeperError(f"the topic {seen.topic!r}: {'; '.join(wrong)}")


def _places(stands: Mapping[int, int], ahead: Pieces) -> str:
    return ", ".join(
        f"partition {p} stands at {stands.get(p, 0)}, before {end}"
        for p, pieces in ahead.items()
        for _, end in pieces
    )


def messages_of(pieces: Pieces) -> int:
    """Return how many offsets pieces cover."""
    return sum(size(span) for span in spans_of(pieces))
