"""Generations: what counts after rewinds, resets and what was given up; a model by coordinates."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from streamkeeper.closing import due_again, plan_close
from streamkeeper.errors import TopicReplaced
from streamkeeper.generations import (
    Counted,
    Generation,
    Lost,
    Request,
    gone,
    new_start,
    new_target,
    position,
    skipped,
)
from streamkeeper.hours import Look, Revision, completeness
from streamkeeper.manifest import Manifest
from streamkeeper.names import LAND
from streamkeeper.spans import meet, tell, union, without

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOURS = [NOON + timedelta(hours=n) for n in range(4)]
PARTITIONS = (0, 1)
Coordinates = tuple[str, int, int]


def made(name: str, start: dict[int, int], **changes: object) -> Generation:
    values = {
        "stream": "s", "query": LAND, "generation": name, "topic": "t", "topic_id": "id",
        "start": start, "epoch": 1,
    }  # fmt: skip
    return Generation.model_validate(values | changes)


def batch(
    generation: Generation, number: int, span: dict[int, tuple[int, int]], **changes: object
) -> Manifest:
    values = {
        "stream": "s", "zone": "raw", "generation": generation.generation, "batch": number,
        "epoch": generation.epoch, "write_number": number, "topic": "t",
        "topic_id": generation.topic_id, "span": span, "read": 0, "valid": 0, "quarantined": 0,
        "quarantined_by_rule": {}, "hours": {NOON: 1}, "first_event": None, "last_event": None,
        "files": (), "spec_sha256": "", "written_at": NOON,
    }  # fmt: skip
    return Manifest.model_validate(values | changes)


def request(kind: str = "rewind", **changes: object) -> Request:
    values = {"stream": "s", "number": 1, "kind": kind, "topic_id": "id", "by": "me"}
    return Request.model_validate(values | {"asked_at": NOON} | changes)


def look(**ends: int) -> Look:
    offsets = {int(p[1:]): end for p, end in ends.items()}
    return Look(stream="s", hour=NOON, topic_id="id", taken_at=NOON, end_offsets=offsets)


FIRST = made("a" * 36, {0: 0})
OLD = [batch(FIRST, 0, {0: (0, 50)}), batch(FIRST, 1, {0: (50, 100)}, hours={HOURS[1]: 1})]
SECOND = made("b" * 36, {0: 40}, target={0: 100}, request=1, epoch=2)


def test_a_rewind_counts_for_no_hour_until_it_has_passed_its_target() -> None:
    short = Counted([FIRST, SECOND], [*OLD, batch(SECOND, 0, {0: (40, 99)})])
    assert short.counting == [FIRST]
    assert short.under_way() == SECOND
    assert due_again({NOON: closed(NOON, short)}, short) == []
    assert completeness(short, look(p0=100)).complete
    waits = completeness(short, look(p0=101))
    assert waits.missing == {0: [(100, 101)]}
    assert f"generation {SECOND.generation} counts once it has read partition 0: 40..99" in (
        waits.reason
    )
    whole = Counted([FIRST, SECOND], [*short.published, batch(SECOND, 1, {0: (99, 120)})])
    assert whole.counting == [FIRST, SECOND]
    assert whole.under_way() is None
    assert whole.replaced(FIRST.generation) == {0: [(40, 120)]}
    # Rows of both hours were read again; the second one's batch held none but those.
    latest = {h: closed(h, short) for h in HOURS[:3]}
    assert due_again(latest, whole) == HOURS[:2]
    assert not whole.change(HOURS[1], latest[HOURS[1]].merged).keeps


def closed(hour: datetime, counted: Counted, number: int = 1) -> Revision:
    return Revision(
        stream="s", hour=hour, revision=number, epoch=1, write_number=1, state="complete",
        merged=counted.merged, files={}, committed_at=NOON,
    )  # fmt: skip


def test_offsets_left_out_are_a_hole_until_they_are_accepted_as_lost() -> None:
    later = made("c" * 36, {0: 150}, target={0: 100}, request=1, epoch=2)
    counted = Counted([FIRST, later], [*OLD, batch(later, 0, {0: (150, 200)})])
    assert counted.counting == [FIRST, later]
    assert completeness(counted, look(p0=200)).missing == {0: [(100, 150)]}
    accepted = Lost(
        stream="s", topic_id="id", span={0: (100, 150)}, by="me", reason="", accepted_at=NOON
    )
    assert completeness(counted, look(p0=200), [accepted]).complete
    other = accepted.model_copy(update={"topic_id": "another"})
    assert not completeness(counted, look(p0=200), [other]).complete


def test_looks_of_a_topic_that_was_replaced_are_held_against_its_own_batches() -> None:
    fresh = made("d" * 36, {0: 0}, topic_id="new", request=1, epoch=2)
    counted = Counted([FIRST, fresh], [*OLD, batch(fresh, 0, {0: (0, 30)}, topic_id="new")])
    assert completeness(counted, look(p0=100)).complete
    assert not completeness(counted, look(p0=101)).complete
    assert completeness(counted, look(p0=30).model_copy(update={"topic_id": "new"})).complete
    assert counted.replaced(FIRST.generation) == {}
    unknown = completeness(counted, look(p0=1).model_copy(update={"topic_id": "other"}))
    assert "the topic was replaced" in unknown.reason


def test_where_a_request_begins() -> None:
    begin = {0: 10, 1: 0}
    given = {"generations": [FIRST], "manifests": OLD, "begin": begin, "topic_id": "id"}
    assert new_start(request(start={0: 40}), LAND, **given) == {0: 40, 1: 0}
    assert new_start(request("reset"), LAND, **given) == {0: 100, 1: 0}
    assert new_start(request("reset"), "window_w", **given) == {0: 100, 1: 0}
    with pytest.raises(TopicReplaced, match="asked for the topic id old, but"):
        new_start(request("reset", topic_id="old"), LAND, **given)
    # A window that was declared since then begins no earlier than the topic.
    added = {**given, "generations": [], "manifests": []}
    assert new_start(request(start={0: 4}), "window_w", **added) == begin
    assert new_start(request(start={0: 4}), LAND, **added) == {0: 4, 1: 0}
    fresh = {**given, "topic_id": "new"}
    assert new_start(request("reset", topic_id="new"), LAND, **fresh) == begin


def test_a_rewind_given_up_goes_on_where_the_older_one_stood() -> None:
    half = [*OLD, batch(SECOND, 0, {0: (40, 60)})]
    given = {"generations": [FIRST, SECOND], "manifests": half, "topic_id": "id"}
    assert new_start(request("abandon"), LAND, begin={0: 0}, **given) == {0: 100}
    assert new_target([FIRST, SECOND], half, {0: 80}, "id") == {0: 100}
    assert not request("abandon").concerns("window_w")


def test_messages_deleted_before_they_were_read() -> None:
    lost = [Lost(stream="s", topic_id="id", span={0: (100, 130)}, by="", reason="",
                 accepted_at=NOON)]  # fmt: skip
    assert gone({0: 100}, {0: 130, 1: 5}) == {0: [(100, 130)], 1: [(0, 5)]}
    start = new_start(
        request("accept-lost"), LAND, generations=[FIRST], manifests=OLD, begin={0: 130},
        topic_id="id", lost=lost,
    )  # fmt: skip
    assert start == {0: 130}
    assert skipped(start, position(FIRST, OLD)) == {0: [(100, 130)]}
    # A batch that was planned and not published is still to be passed by the new one.
    assert new_target([FIRST], OLD, {0: 110}, "id") == {0: 110}


def test_requests_and_generations_survive_json() -> None:
    one = request(start={1: 5})
    assert Request.model_validate_json(one.model_dump_json()) == one
    assert Generation.model_validate_json(SECOND.model_dump_json()) == SECOND
    old = '{"stream":"s","query":"land","generation":"g","topic":"t","topic_id":"i","start":{},'
    assert Generation.model_validate_json(old + '"epoch":1}').target == {}
    lost = Lost(stream="s", topic_id="id", span={0: (1, 2)}, by="", reason="", accepted_at=NOON)
    assert Lost.model_validate_json(lost.model_dump_json()) == lost


piece = st.tuples(st.integers(0, 1), st.integers(0, 12), st.integers(0, 12))
some = st.lists(piece.map(lambda t: {t[0]: (min(t[1:]), max(t[1:]))}), max_size=5)


def offsets(pieces: dict) -> set[tuple[int, int]]:
    return {(p, o) for p, found in pieces.items() for a, b in found for o in range(a, b)}


@given(some, some)
def test_pieces_are_sets_of_offsets(one: list, two: list) -> None:
    a, b = union(one), union(two)
    assert offsets(a) == {(p, o) for s in one for p, (x, y) in s.items() for o in range(x, y)}
    assert offsets(without(a, b)) == offsets(a) - offsets(b)
    for span in one:
        mine = offsets({p: [pair] for p, pair in span.items()})
        assert meet(span, b) == bool(mine & offsets(b))
    assert (
        tell({0: [(5, 10), (12, 13)], 3: [(0, 3)]})
        == "partition 0: 5..9, 12..12; partition 3: 0..2"
    )


# A model of a stream by single records. Every generation gives its own verdict about a record:
# its hour, or None for quarantine, as another version of the declaration would.
@dataclass
class Model:
    """A topic, what its generations have published, and what closes have made of it."""

    ends: dict[str, dict[int, int]] = field(
        default_factory=lambda: {"id": dict.fromkeys([0, 1], 0)}
    )
    begins: dict[str, dict[int, int]] = field(
        default_factory=lambda: {"id": dict.fromkeys([0, 1], 0)}
    )
    topic: str = "id"
    generations: list[Generation] = field(default_factory=list)
    published: list[Manifest] = field(default_factory=list)
    rows: dict[str, dict[Coordinates, datetime]] = field(default_factory=dict)
    lost: list[Lost] = field(default_factory=list)
    curated: dict[datetime, dict[Coordinates, str]] = field(default_factory=dict)
    revisions: dict[datetime, Revision] = field(default_factory=dict)
    in_hand: Manifest | None = None

    @property
    def counted(self) -> Counted:
        return Counted(list(self.generations), list(self.published))

    def send(self, partition: int, messages: int) -> None:
        self.ends[self.topic][partition] += messages

    def delete(self, partition: int, messages: int) -> None:
        """Retention takes the oldest messages."""
        begin, end = self.begins[self.topic], self.ends[self.topic]
        begin[partition] = min(end[partition], begin[partition] + messages)

    def replace_topic(self) -> None:
        self.topic = f"id{len(self.ends)}"
        self.ends[self.topic] = dict.fromkeys(PARTITIONS, 0)
        self.begins[self.topic] = dict.fromkeys(PARTITIONS, 0)

    def plan(self, most: int, verdicts: int) -> Manifest | None:
        """Plan the newest generation's next batch, of at most so many messages a partition."""
        if not self.generations:
            self.begin(None)
        newest = self.generations[-1]
        if newest.topic_id != self.topic:
            return None
        at = position(newest, self.published)
        if gone(at, self.begins[self.topic]):
            return None
        end = self.ends[self.topic]
        span = {p: (at.get(p, 0), min(end[p], at.get(p, 0) + most)) for p in PARTITIONS}
        span = {p: s for p, s in span.items() if s[0] < s[1]}
        if not span:
            return None
        number = 1 + max(
            (m.batch for m in self.published if m.generation == newest.generation), default=-1
        )
        hours: dict[datetime, int] = {}
        for p, (a, b) in span.items():
            for o in range(a, b):
                choice = (o // 6 + p + verdicts) % 5
                if choice < len(HOURS):
                    hours[HOURS[choice]] = hours.get(HOURS[choice], 0) + 1
                    row = (newest.topic_id, p, o)
                    self.rows.setdefault(f"{newest.generation}/{number}", {})[row] = HOURS[choice]
        return batch(newest, number, span, hours=hours)

    def publish(self, most: int, verdicts: int) -> None:
        """Publish the next batch; one that was planned before has its span already."""
        newest = self.generations[-1].generation if self.generations else ""
        if self.in_hand and self.in_hand.generation == newest and not self.is_published():
            self.published.append(self.in_hand)
        elif (planned := self.plan(most, verdicts)) is not None:
            self.published.append(planned)

    def freeze(self, most: int, verdicts: int) -> None:
        """A batch is planned; its driver freezes and publishes it when it wakes."""
        if self.in_hand is None:
            self.in_hand = self.plan(most, verdicts)

    def is_published(self) -> bool:
        names = {(m.generation, m.batch) for m in self.published}
        return bool(self.in_hand) and (self.in_hand.generation, self.in_hand.batch) in names

    def wake(self) -> None:
        if self.in_hand is not None and not self.is_published():
            self.published.append(self.in_hand)
        self.in_hand = None

    def begin(self, asked: Request | None) -> None:
        """Begin a generation as the driver does."""
        begin = dict(self.begins[self.topic])
        before = list(self.generations)
        start, target = begin, {}
        if asked is not None:
            start = new_start(
                asked, LAND, generations=before, manifests=self.published, begin=begin,
                topic_id=self.topic, lost=self.lost,
            )  # fmt: skip
            start = {p: max(first, begin[p]) for p, first in start.items()}
            planned: dict[int, int] = {}
            if self.in_hand and before and self.in_hand.generation == before[-1].generation:
                planned = {p: end for p, (_, end) in self.in_hand.span.items()}
            target = new_target(before, self.published, planned, self.topic)
        number = len(before) + 1
        name = f"{number:036d}"
        self.generations.append(
            made(name, start, target=target, topic_id=self.topic, request=number - 1, epoch=number)
        )

    def accept(self) -> None:
        """Accept what was deleted before it was read."""
        newest = self.generations[-1] if self.generations else None
        if newest is None or newest.topic_id != self.topic:
            return
        missing = gone(position(newest, self.published), self.begins[self.topic])
        for p, pieces in missing.items():
            for a, b in pieces:
                self.lost.append(
                    Lost(stream="s", topic_id=self.topic, span={p: (a, b)}, by="", reason="",
                         accepted_at=NOON)
                )  # fmt: skip
        if missing:
            self.begin(request("accept-lost", topic_id=self.topic))

    def looks(self) -> dict[datetime, Look]:
        seen = Look(
            stream="s", hour=NOON, topic_id=self.topic, taken_at=NOON,
            end_offsets=dict(self.ends[self.topic]),
        )  # fmt: skip
        return dict.fromkeys(HOURS, seen)

    def close(self, hours: list[datetime]) -> None:
        """Close hours row by row, as Spark's merge does with spans."""
        counted = self.counted
        tasks = plan_close(
            hours, latest=self.revisions, counted=counted, looks=self.looks(), lost=self.lost
        )
        for task in tasks:
            if not task.needed:
                continue
            rows = dict(self.curated.get(task.hour, {}))
            order = {g.generation: n for n, g in enumerate(counted.counting)}
            for m in task.manifests:
                for row, hour in self.rows.get(f"{m.generation}/{m.batch}", {}).items():
                    if hour == task.hour and order[m.generation] >= order.get(rows.get(row), -1):
                        rows[row] = m.generation
            replaced = {g.generation: counted.replaced(g.generation) for g in counted.counting}
            kept = {}
            for (topic, p, o), name in rows.items():
                mine = next(g for g in counted.counting if g.generation == name)
                covers = mine.topic_id == topic and (p, o) in offsets(replaced[name])
                if not covers:
                    kept[topic, p, o] = name
            assert not task.has_rows or kept, "an hour that must hold rows holds none"
            self.curated[task.hour] = kept
            self.revisions[task.hour] = closed(task.hour, counted, task.number)

    def truth(self) -> dict[datetime, dict[Coordinates, str]]:
        """What counts, record by record: the verdict of the newest counting generation."""
        told: dict[Coordinates, tuple[str, datetime | None]] = {}
        for g in self.generations:
            mine = [m for m in self.published if m.generation == g.generation]
            read = {(p, o) for m in mine for p, (a, b) in m.span.items() for o in range(a, b)}
            wanted = {(p, o) for p, end in g.target.items() for o in range(g.start.get(p, 0), end)}
            if not wanted <= read:
                continue
            verdicts = {
                row: hour
                for m in mine
                for row, hour in self.rows.get(f"{m.generation}/{m.batch}", {}).items()
            }
            for p, o in read:
                row = (g.topic_id, p, o)
                told[row] = (g.generation, verdicts.get(row))
        found: dict[datetime, dict[Coordinates, str]] = {h: {} for h in HOURS}
        for row, (name, hour) in told.items():
            if hour is not None:
                found[hour][row] = name
        return found


number, verdicts, offset = st.integers(1, 9), st.integers(0, 4), st.integers(0, 14)
publish = st.tuples(st.just("publish"), st.one_of(number, st.just(100)), verdicts)
close = st.tuples(st.just("close"), st.sets(st.sampled_from(HOURS), min_size=1))
rewind = st.tuples(st.just("rewind"), offset, offset)
# What happens every day, so that the rare things meet hours that were closed.
common = st.one_of(
    st.tuples(st.just("send"), st.integers(0, 1), number), publish, publish, close, rewind
)
rare = st.one_of(
    st.tuples(st.just("freeze"), number, verdicts),
    st.tuples(st.just("wake")),
    st.tuples(st.just("reset"), st.sampled_from(["begin", "end", "landed"])),
    st.tuples(st.just("abandon")),
    st.tuples(st.just("delete"), st.integers(0, 1), number),
    st.tuples(st.just("accept")),
    st.tuples(st.just("replace_topic")),
)
steps = st.one_of(common, common, common, rare)


def apply(model: Model, step: tuple) -> None:
    what, *values = step
    stands = model.counted.stands(model.topic)
    if what in ("rewind", "reset", "abandon") and not model.generations:
        return
    if what == "rewind":
        start = {p: min(o, stands.get(p, 0)) for p, o in zip(PARTITIONS, values, strict=True)}
        model.begin(request(topic_id=model.topic, start=start))
    elif what == "reset":
        start = {
            "begin": dict(model.begins[model.topic]),
            "end": dict(model.ends[model.topic]),
            "landed": {},
        }[values[0]]
        model.begin(request("reset", topic_id=model.topic, start=start))
    elif what == "abandon":
        model.begin(request("abandon", topic_id=model.topic))
    elif what == "close":
        model.close(sorted(values[0]))
    else:
        getattr(model, what)(*values)
    event(what)


@settings(max_examples=400, deadline=None)
@given(verdicts, st.lists(steps, min_size=3, max_size=25))
def test_every_coordinate_that_counts_is_in_the_closed_hours_exactly_once(
    first: int, walk: list
) -> None:
    model = Model()
    for partition in PARTITIONS:
        model.send(partition, 12)
    # Most that can go wrong goes wrong with hours that are closed.
    for step in [("publish", 100, first), ("close", set(HOURS)), *walk]:
        before = model.truth()
        was_passed = {g.generation for g in model.counted.counting}
        apply(model, step)
        counted, truth = model.counted, model.truth()
        assert {g.generation for g in counted.counting} >= was_passed, "what counts stays counting"
        due = due_again(model.revisions, counted)
        for hour in model.revisions:
            if model.curated[hour] != truth[hour]:
                assert hour in due, f"{step}: {hour} has changed and is not due"
        if step[0] != "close" and not due_before(due, before, truth, model):
            raise AssertionError(f"{step}: an hour is due that no batch has touched")
        assert_complete_without_holes(model, counted)
    model.close(HOURS)
    truth = model.truth()
    for hour in HOURS:
        assert model.curated[hour] == truth[hour]
    everywhere = [row for rows in model.curated.values() for row in rows]
    assert len(everywhere) == len(set(everywhere)), "a coordinate is in two hours"
    assert due_again(model.revisions, model.counted) == []


def due_before(due: list, before: dict, truth: dict, model: Model) -> bool:
    """Tell whether each hour that is due has a batch of its own that a newer one met or added."""
    counted = model.counted
    for hour in due:
        seen = model.revisions[hour].merged
        mine = [m for m in counted.manifests if hour in m.hours]
        new = [m for m in counted.manifests if m.batch > seen.get(m.generation, -1)]
        touched = union(m.span for m in new)
        if not any(m in new or meet(m.span, touched) for m in mine):
            return False
    return True


def assert_complete_without_holes(model: Model, counted: Counted) -> None:
    seen = model.looks()[NOON]
    done = completeness(counted, seen, model.lost)
    mine = [g for g in counted.counting if g.topic_id == model.topic]
    if not mine or not done.complete:
        return
    read = {
        (p, o)
        for m in counted.manifests
        if m.topic_id == model.topic
        for p, (a, b) in m.span.items()
        for o in range(a, b)
    }
    accepted = {
        (p, o)
        for one in model.lost
        if one.topic_id == model.topic
        for p, (a, b) in one.span.items()
        for o in range(a, b)
    }
    first = {p: min(g.start.get(p, 0) for g in mine) for p in PARTITIONS}
    wanted = {(p, o) for p, end in seen.end_offsets.items() for o in range(first[p], end)}
    assert wanted <= read | accepted, "an hour is complete although offsets are missing"
