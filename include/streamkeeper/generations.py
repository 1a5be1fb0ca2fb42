"""Generations: where a query began, what of its batches counts, and where a new one begins.

A rewind or a reset begins a new generation. Until it has passed its target, which is where the old
one stood, its batches count for no hour. From then on its rows replace every older row whose
coordinates lie in its spans. So each coordinate that counts is told by one generation: the newest
counting one that has read it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from streamkeeper.errors import TopicReplaced
from streamkeeper.manifest import Manifest
from streamkeeper.names import LAND
from streamkeeper.spans import (
    Offsets,
    Pieces,
    Span,
    furthest,
    holes,
    meet,
    union,
    without,
)

RequestKind = Literal["rewind", "reset", "abandon", "accept-lost"]


class Generation(BaseModel):
    """The identity of one checkpoint of one query and where it began.

    `start` maps a partition to the first offset; a partition that is absent begins at 0. `target`
    is where the generation before it stood, empty for the first of a topic. `request` is the
    number of the request that it was made for, 0 for a query's first.
    """

    model_config = ConfigDict(frozen=True)

    stream: str
    query: str
    generation: str
    topic: str
    topic_id: str
    start: dict[int, int]
    target: dict[int, int] = {}
    request: int = 0
    epoch: int


class Request(BaseModel):
    """A new generation that a person asked for; the driver makes it at its next start.

    `number` counts a stream's requests from 1, and only the last one counts. `topic_id` is the
    topic that it is meant for. `start` maps partitions to the first offset; a partition that is
    absent goes on where it stands.
    """

    model_config = ConfigDict(frozen=True)

    stream: str
    number: int
    kind: RequestKind
    topic_id: str
    start: dict[int, int] = {}
    by: str
    asked_at: datetime

    def concerns(self, query: str) -> bool:
        """Tell whether a query needs a new generation for it."""
        return query == LAND or self.kind != "abandon"


class Lost(BaseModel):
    """Offsets that a person accepted as unreadable; they keep no hour from being complete."""

    model_config = ConfigDict(frozen=True)

    stream: str
    topic_id: str
    span: dict[int, tuple[int, int]]
    by: str
    reason: str
    accepted_at: datetime


def has_passed(generation: Generation, spans: Iterable[Span]) -> bool:
    """Tell whether a generation has read all up to its target."""
    return not generation.target or not holes(generation.start, generation.target, spans)


def position(generation: Generation, manifests: Iterable[Manifest]) -> dict[int, int]:
    """Return the offsets up to which a generation has published."""
    mine = (m.span for m in manifests if m.generation == generation.generation)
    return furthest(generation.start, *({p: end for p, (_, end) in s.items()} for s in mine))


class Change(NamedTuple):
    """What is new to an hour since its last revision.

    manifests: counting batches with rows in it that are not merged; replaced: some of its merged
    rows have been read again; keeps: rows are sure to be left in it.
    """

    manifests: tuple[Manifest, ...]
    replaced: bool
    keeps: bool

    def __bool__(self) -> bool:
        return bool(self.manifests) or self.replaced


@dataclass(frozen=True)
class Counted:
    """The published raw batches of a stream that count, and which rows newer ones replace.

    Parameters: generations, of the land query, oldest first; published, all manifests of `raw`.
    """

    generations: Sequence[Generation]
    published: Sequence[Manifest]
    _known: dict[Any, Pieces] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def _batches(self) -> dict[str, list[Manifest]]:
        found: dict[str, list[Manifest]] = {g.generation: [] for g in self.generations}
        for manifest in self.published:
            if manifest.generation in found:
                found[manifest.generation].append(manifest)
        return found

    @cached_property
    def counting(self) -> list[Generation]:
        """The generations whose batches count, oldest first."""
        return [
            g
            for g in self.generations
            if has_passed(g, (m.span for m in self._batches[g.generation]))
        ]

    @cached_property
    def manifests(self) -> list[Manifest]:
        """The batches that count, oldest first."""
        return [m for g in self.counting for m in self._batches[g.generation]]

    @cached_property
    def merged(self) -> dict[str, int]:
        """What a close now merges: by counting generation its last batch.

        A generation's batches are published in order, so every batch up to its last one is in.
        """
        by_generation = ((g.generation, self._batches[g.generation]) for g in self.counting)
        return {name: max(m.batch for m in batches) for name, batches in by_generation if batches}

    def stands(self, topic_id: str) -> dict[int, int]:
        """Return the offsets of a topic up to which counting batches were published."""
        mine = [g for g in self.counting if g.topic_id == topic_id]
        return furthest(*(position(g, self._batches[g.generation]) for g in mine))

    def under_way(self) -> Generation | None:
        """Return the newest generation while it has not passed its target."""
        if not self.generations or self.generations[-1] in self.counting:
            return None
        return self.generations[-1]

    def replaced(self, generation: str, upto: Mapping[str, int] | None = None) -> Pieces:
        """Return the offsets whose rows of a generation newer ones have replaced.

        Parameters: upto, only batches up to these of each generation; None for all.
        """
        place = next(i for i, g in enumerate(self.counting) if g.generation == generation)
        topic_id = self.counting[place].topic_id
        newer = [g.generation for g in self.counting[place + 1 :] if g.topic_id == topic_id]
        limits = tuple((n, None if upto is None else upto.get(n, -1)) for n in newer)
        if limits not in self._known:
            self._known[limits] = union(
                m.span
                for name, limit in limits
                for m in self._batches[name]
                if limit is None or m.batch <= limit
            )
        return self._known[limits]

    @cached_property
    def _by_hour(self) -> dict[datetime, list[Manifest]]:
        found: dict[datetime, list[Manifest]] = {}
        for manifest in self.manifests:
            for hour in manifest.hours:
                found.setdefault(hour, []).append(manifest)
        return found

    @property
    def hours(self) -> list[datetime]:
        """The hours that counting batches hold rows of."""
        return sorted(self._by_hour)

    def change(self, hour: datetime, merged: Mapping[str, int] | None) -> Change:
        """Return what is new to an hour.

        Parameters: merged, by generation the last batch of its last revision, None before the
        first.
        """
        batches, seen = self._by_hour.get(hour, []), merged or {}
        new = tuple(m for m in batches if m.batch > seen.get(m.generation, -1))
        old = [m for m in batches if m.batch <= seen.get(m.generation, -1)]
        replaced = any(meet(m.span, self._fresh(m.generation, seen)) for m in old)
        # A batch that nothing newer has touched keeps all of its rows.
        keeps = any(not meet(m.span, self.replaced(m.generation)) for m in batches)
        return Change(new, replaced, keeps)

    def _fresh(self, generation: str, seen: Mapping[str, int]) -> Pieces:
        """Return what newer batches replace that had not replaced it when `seen` was merged."""
        now = self.replaced(generation)
        return without(now, self.replaced(generation, seen)) if now else {}


def new_start(
    request: Request,
    query: str,
    *,
    generations: Sequence[Generation],
    manifests: Sequence[Manifest],
    begin: Offsets,
    topic_id: str,
    lost: Sequence[Lost] = (),
) -> dict[int, int]:
    """Return where the generation of a request begins.

    Parameters: generations and manifests, of the query's own; begin, the first offset that the
    topic keeps of each of its partitions; topic_id, of the topic as it is now; lost, all accepted.
    Raises TopicReplaced when the request was meant for another topic.
    """
    if request.topic_id != topic_id:
        raise TopicReplaced(
            f"{request.stream}: the {request.kind} was asked for the topic id {request.topic_id}, "
            f"but the topic has the id {topic_id} now; ask for a reset again"
        )
    start = _asked_start(request, query, generations, manifests, begin=begin, lost=lost)
    if query != LAND:
        # Windows that lack messages are computed anew by the close of their hour.
        start = furthest(start, begin)
    return start


def _asked_start(
    request: Request,
    query: str,
    generations: Sequence[Generation],
    manifests: Sequence[Manifest],
    *,
    begin: Offsets,
    lost: Sequence[Lost],
) -> dict[int, int]:
    topic_id = request.topic_id
    mine = [g for g in generations if g.topic_id == topic_id]
    if not mine:
        return {p: request.start.get(p, first) for p, first in begin.items()}
    if query == LAND and request.kind != "accept-lost":
        stands = Counted(generations, manifests).stands(topic_id)
    else:
        stands = position(mine[-1], manifests)
    start = {p: request.start.get(p, stands.get(p, 0)) for p in begin}
    if request.kind == "accept-lost":
        accepted = union(one.span for one in lost if one.topic_id == topic_id)
        start = {p: _beyond(offset, accepted.get(p, [])) for p, offset in start.items()}
    return start


def _beyond(offset: int, pieces: list[tuple[int, int]]) -> int:
    for first, end in pieces:
        if first <= offset < end:
            return end
    return offset


def new_target(
    generations: Sequence[Generation],
    manifests: Sequence[Manifest],
    logged: Offsets,
    topic_id: str,
) -> dict[int, int]:
    """Return the target of a new generation: where what it may replace stands.

    Parameters: generations and manifests, of the query's own; logged, the end of what the newest
    one's checkpoint has logged. A batch in hand may still be published, so it is in.
    """
    mine = [g for g in generations if g.topic_id == topic_id]
    if not mine:
        return {}
    counted = Counted(generations, manifests)
    newest = mine[-1]
    in_hand = logged if newest in counted.counting else {}
    return furthest(counted.stands(topic_id), newest.target, in_hand)


def skipped(start: Offsets, stands: Offsets) -> Pieces:
    """Return the offsets that a new generation leaves out, from where the stream stands."""
    return {
        p: [(stands.get(p, 0), first)] for p, first in start.items() if first > stands.get(p, 0)
    }


def gone(stands: Offsets, begin: Offsets) -> Pieces:
    """Return the offsets that were deleted before they were read.

    Parameters: stands, up to where a query has read; begin, the first offset that is kept.
    """
    return skipped(begin, stands)
