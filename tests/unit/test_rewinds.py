"""Plans of rewinds, resets and what was lost: what they tell, and what they refuse."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from streamkeeper.errors import StreamkeeperError
from streamkeeper.generations import Generation
from streamkeeper.hours import Revision
from streamkeeper.manifest import Manifest
from streamkeeper.names import LAND
from streamkeeper.rewinds import (
    Seen,
    messages_of,
    plan_abandon,
    plan_accept_lost,
    plan_reset,
    plan_rewind,
)

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
ONE = NOON + timedelta(hours=1)
WINDOW = "window_w"


def made(query: str, name: str, start: dict[int, int], **changes: Any) -> Generation:
    values = {
        "stream": "s", "query": query, "generation": name * 36, "topic": "t", "topic_id": "id",
        "start": start, "epoch": 1,
    }  # fmt: skip
    return Generation.model_validate(values | changes)


def batch(made_by: Generation, number: int, hour: datetime, **span: tuple[int, int]) -> Manifest:
    values = {
        "stream": "s", "zone": "raw", "generation": made_by.generation, "batch": number,
        "epoch": 1, "write_number": number, "topic": "t", "topic_id": made_by.topic_id,
        "span": {int(p[1:]): piece for p, piece in span.items()}, "read": 0, "valid": 0,
        "quarantined": 0, "quarantined_by_rule": {}, "hours": {hour: 1}, "first_event": None,
        "last_event": None, "files": (), "spec_sha256": "", "written_at": NOON,
    }  # fmt: skip
    return Manifest.model_validate(values)


def closed(hour: datetime) -> Revision:
    return Revision(
        stream="s", hour=hour, revision=1, epoch=1, write_number=1, state="complete", merged={},
        files={}, committed_at=NOON,
    )  # fmt: skip


FIRST, WINDOWED = made(LAND, "a", {0: 0, 1: 0}), made(WINDOW, "b", {0: 0, 1: 0})
LANDED = [
    batch(FIRST, 0, NOON, p0=(0, 50), p1=(0, 30)),
    batch(FIRST, 1, ONE, p0=(50, 100)),
]


def seen(**changes: Any) -> Seen:
    values: dict[str, Any] = {
        "stream": "s",
        "topic": "t",
        "topic_id": "id",
        "begin": {0: 10, 1: 0},
        "end": {0: 120, 1: 30},
        "generations": {LAND: [FIRST], WINDOW: [WINDOWED]},
        "manifests": {LAND: LANDED, WINDOW: [batch(WINDOWED, 0, NOON, p0=(0, 90), p1=(0, 30))]},
        "revisions": [closed(NOON), closed(ONE)],
        "last_number": 4,
    }
    return Seen(**(values | changes))


def test_a_rewind_tells_what_is_read_again_and_which_hours_are_due() -> None:
    plan = plan_rewind(seen(), {0: 60}, "me", NOON)
    assert (plan.request.number, plan.request.kind, plan.request.start) == (5, "rewind", {0: 60})
    land, window = plan.steps
    assert (land.query, land.start, land.again) == (LAND, {0: 60, 1: 30}, {0: [(60, 100)]})
    assert (window.start, window.again) == ({0: 60, 1: 30}, {0: [(60, 90)]})
    assert messages_of(land.again) == 40
    assert plan.messages == 60
    assert plan.kept == {0: [(10, 120)], 1: [(0, 30)]}
    assert plan.hours == (ONE,)
    assert plan.lost == ()
    assert ["until their hour is closed" in note for note in plan.notes] == [True]
    assert plan_rewind(seen(), {0: 40, 1: 20}, "me", NOON).hours == (NOON, ONE)


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({7: 0}, "there is no partition 7; valid: 0, 1"),
        ({0: 9}, "offset 9 of partition 0 is not kept; valid: 10..120"),
        ({0: 121}, "offset 121 of partition 0 is not kept; valid: 10..120"),
        ({0: 100, 1: 30}, "s: nothing has been read from there on"),
        ({0: 110}, "partition 0 stands at 100, before 110; to leave messages out, use `streamkee"),
    ],
)
def test_a_rewind_that_cannot_be_is_refused_with_what_can(
    wanted: dict[int, int], told: str
) -> None:
    with pytest.raises(StreamkeeperError) as caught:
        plan_rewind(seen(), wanted, "me", NOON)
    assert told in str(caught.value)


def test_a_topic_made_again_is_reset_and_not_rewound() -> None:
    other = seen(topic_id="new", begin={0: 0, 1: 0}, end={0: 5, 1: 0})
    with pytest.raises(StreamkeeperError, match="begin with it by `streamkeeper stream reset s`"):
        plan_rewind(other, {0: 0}, "me", NOON)
    plan = plan_reset(other, "landed", {}, "me", NOON)
    assert [step.start for step in plan.steps] == [{0: 0, 1: 0}] * 2
    assert (plan.hours, plan.lost, plan.steps[0].again) == ((), (), {})
    assert "rows of the topic id id stay as they are" in plan.notes


def test_a_reset_accepts_what_it_leaves_out_as_lost() -> None:
    plan = plan_reset(seen(), "end", {}, "me", NOON)
    assert [one.span for one in plan.lost] == [{0: (100, 120)}]
    assert plan.lost[0].reason == "left out by reset --from end"
    assert "never read, and accepted as lost: partition 0: 100..119" in plan.notes
    kept = plan_reset(seen(), "landed", {}, "me", NOON)
    assert (kept.lost, kept.request.start) == ((), {})
    assert [step.start for step in kept.steps] == [{0: 100, 1: 30}, {0: 90, 1: 30}]
    again = plan_reset(seen(), "begin", {}, "me", NOON)
    assert (again.steps[0].again, again.hours) == ({0: [(10, 100)], 1: [(0, 30)]}, (NOON, ONE))
    # Messages beyond the landed ones are gone already.
    behind = plan_reset(seen(begin={0: 110, 1: 0}), "landed", {}, "me", NOON)
    assert behind.request.start == {0: 110}
    assert [one.span for one in behind.lost] == [{0: (100, 110)}]
    assert [step.start for step in behind.steps] == [{0: 110, 1: 30}] * 2


def test_only_a_rewind_that_is_under_way_is_given_up() -> None:
    with pytest.raises(StreamkeeperError, match="no rewind of s is under way"):
        plan_abandon(seen(last_number=0), "me", NOON)
    # One that was asked for and has not begun is given up too.
    assert plan_abandon(seen(last_number=4), "me", NOON).request.number == 5
    second = made(LAND, "c", {0: 60, 1: 30}, target={0: 100, 1: 30}, request=4, epoch=2)
    half = [*LANDED, batch(second, 0, ONE, p0=(60, 70))]
    both = seen(
        generations={LAND: [FIRST, second], WINDOW: [WINDOWED]}, manifests={LAND: half, WINDOW: []}
    )
    plan = plan_abandon(both, "me", NOON)
    (land,) = plan.steps
    assert (land.start, land.again, plan.hours) == ({0: 100, 1: 30}, {}, ())
    assert f"generation {second.generation} is given up; its rows never count" in plan.notes


def test_lost_messages_are_accepted_by_name() -> None:
    with pytest.raises(StreamkeeperError, match="has lost no messages"):
        plan_accept_lost(seen(), "me", NOON)
    plan = plan_accept_lost(seen(begin={0: 115, 1: 0}), "me", NOON)
    assert [(one.span, one.reason) for one in plan.lost] == [
        ({0: (100, 115)}, "deleted before it was read")
    ]
    assert [step.start for step in plan.steps] == [{0: 115, 1: 30}] * 2
    # A window that lags behind has lost live rows only: what it lacks has landed.
    lagging = plan_accept_lost(seen(begin={0: 95, 1: 0}), "me", NOON)
    assert lagging.lost == ()
    assert [step.start for step in lagging.steps] == [{0: 100, 1: 30}, {0: 95, 1: 30}]


def test_a_compacted_topic_is_told_of() -> None:
    plan = plan_rewind(seen(compacted=True), {0: 60}, "me", NOON)
    assert "the topic is compacted: rows whose messages are gone leave their hours" in plan.notes
