"""Closing: what a close has to do, which files are garbage, which windows it may write."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkeeper.closing import (
    closed_windows,
    in_groups,
    is_garbage,
    lies_in_one_hour,
    plan_close,
    window_hours,
    window_starts,
)
from streamkeeper.generations import Counted, Generation
from streamkeeper.hours import HOUR, Look, Revision
from streamkeeper.manifest import Manifest
from streamkeeper.names import BatchName, hour_of
from streamkeeper_io.lake import settled

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
G = "00000000-0000-0000-0000-00000000000a"
GENERATION = Generation(
    stream="s", query="land", generation=G, topic="t", topic_id="id", start={}, epoch=1
)


def manifest(batch: int, span: tuple[int, int], hours: dict[datetime, int]) -> Manifest:
    rows = sum(hours.values())
    return Manifest(
        stream="s",
        zone="raw",
        generation=G,
        batch=batch,
        epoch=1,
        write_number=batch,
        topic="t",
        topic_id="id",
        span={0: span},
        read=rows,
        valid=rows,
        quarantined=0,
        quarantined_by_rule={},
        hours=hours,
        first_event=None,
        last_event=None,
        files=(),
        spec_sha256="",
        written_at=NOON,
    )


def revision(hour: datetime = NOON, **changed: Any) -> Revision:
    fields: dict[str, Any] = {
        "stream": "s",
        "hour": hour,
        "revision": 1,
        "epoch": 5,
        "write_number": 5,
        "state": "complete",
        "merged": {G: 0},
        "files": {"curated": ["part-0.parquet"]},
        "committed_at": NOON,
    }
    return Revision(**(fields | changed))


def look(end: int) -> Look:
    return Look(stream="s", hour=NOON, topic_id="id", taken_at=NOON, end_offsets={0: end})


def plan(latest: Revision | None, manifests: list[Manifest], end: int) -> Any:
    (task,) = plan_close(
        [NOON],
        latest={NOON: latest} if latest else {},
        counted=Counted([GENERATION], manifests),
        looks={NOON: look(end)},
    )
    return task


ONE = manifest(0, (0, 10), {NOON: 10})
TWO = manifest(1, (10, 20), {NOON: 4, NOON + HOUR: 6})
OTHER = manifest(2, (20, 30), {NOON + HOUR: 10})


def test_the_first_close_merges_all_batches_of_its_hour() -> None:
    task = plan(None, [ONE, TWO, OTHER], 30)
    assert (task.number, task.needed, task.has_rows) == (1, True, True)
    assert [m.batch for m in task.manifests] == [0, 1]
    assert task.done.complete


def test_a_later_close_merges_only_what_landed_since() -> None:
    task = plan(revision(), [ONE, TWO, OTHER], 30)
    assert (task.number, [m.batch for m in task.manifests]) == (2, [1])


def test_nothing_new_needs_no_revision() -> None:
    assert not plan(revision(merged={G: 1}), [ONE, TWO, OTHER], 30).needed


def test_a_partial_hour_is_closed_again_once_it_is_complete() -> None:
    partial = revision(merged={G: 1}, state="partial")
    assert not plan(partial, [ONE, TWO], 30).needed
    assert plan(partial, [ONE, TWO, OTHER], 30).needed


def test_an_empty_hour_is_closed_once() -> None:
    task = plan(None, [OTHER], 30)
    assert (task.needed, task.has_rows, task.manifests) == (True, False, ())
    assert not plan(revision(merged={}, files={}), [OTHER], 30).needed


@pytest.mark.parametrize(
    ("number", "epoch", "latest", "garbage"),
    [
        (1, 7, None, False),
        (2, 7, revision(), False),
        (1, 7, revision(), True),
        (1, 5, revision(stores_pending=True), False),
        (1, 5, revision(stores_pending=False), True),
        (1, 5, revision(revision=2, epoch=9, stores_pending=True), True),
    ],
)
def test_files_aside_are_garbage_only_when_their_revision_is_taken(
    number: int, epoch: int, latest: Revision | None, garbage: bool
) -> None:
    assert is_garbage(NOON, number, epoch, latest) is garbage


STEPS = st.integers(1, 20_000).map(lambda s: timedelta(seconds=s))
PARTS = st.integers(1, 60)
HOURS = st.integers(0, 600_000).map(lambda h: EPOCH + h * HOUR)


@given(STEPS, PARTS, HOURS)
def test_windows_of_an_hour_are_those_that_overlap_it(
    step: timedelta, parts: int, hour: datetime
) -> None:
    size = parts * step
    starts = window_starts(size, hour, step)
    assert starts[0] <= hour < starts[0] + size
    # Neither the window before the first nor the one after the last overlaps the hour.
    assert starts[0] - step + size <= hour
    assert starts[-1] < hour + HOUR <= starts[-1] + step
    assert all((start - EPOCH) % step == timedelta(0) for start in (starts[0], starts[-1]))
    assert all(b - a == step for a, b in pairwise(starts))
    assert all(hour in window_hours(size, start) for start in starts[:: max(1, len(starts) // 50)])


@given(STEPS, PARTS, HOURS)
def test_a_window_overlaps_the_hours_from_its_start_to_its_last_moment(
    step: timedelta, parts: int, hour: datetime
) -> None:
    size = parts * step
    start = window_starts(size, hour, step)[0]
    hours = window_hours(size, start)
    assert hours[0] == hour_of(start)
    assert hours[-1] == hour_of(start + size - timedelta(microseconds=1))
    assert len(hours) == (hours[-1] - hours[0]) // HOUR + 1


@given(STEPS, st.sampled_from([1, 1, 1, 2, 5]), HOURS)
def test_windows_within_one_hour_divide_it_and_overlap_no_other(
    step: timedelta, parts: int, hour: datetime
) -> None:
    size = parts * step
    starts = window_starts(size, hour, step)
    within = all(window_hours(size, start) == [hour] for start in (starts[0], starts[-1]))
    assert lies_in_one_hour(size, step) <= within
    if parts > 1 and step < HOUR:
        assert not lies_in_one_hour(size, step)


def test_a_window_over_two_hours_waits_for_both() -> None:
    size = timedelta(minutes=45)
    alone = closed_windows(size, [NOON], {NOON}, size)
    both = closed_windows(size, [NOON], {NOON, NOON + HOUR}, size)
    assert all(hours == [NOON] for hours in alone.values())
    assert set(both) - set(alone) == {max(both)}
    assert both[max(both)] == [NOON, NOON + HOUR]


def test_sliding_windows_wait_for_the_hours_on_both_sides() -> None:
    size, step = timedelta(minutes=5), timedelta(minutes=1)
    alone = closed_windows(size, [NOON], {NOON}, step)
    assert list(alone) == [NOON + n * step for n in range(56)]
    later = closed_windows(size, [NOON + HOUR], {NOON, NOON + HOUR}, step)
    assert min(later) == NOON + HOUR - 4 * step
    assert [hours for start, hours in later.items() if start < NOON + HOUR] == 4 * [
        [NOON, NOON + HOUR]
    ]
    assert len(later) == 60


@given(
    st.dictionaries(st.integers(0, 12), st.integers(0, 50), min_size=1),
    st.sampled_from([(1, 1), (5, 1), (90, 30), (180, 60)]),
    st.integers(1, 120),
)
def test_groups_of_windows_hold_each_once_and_few_readings(
    readings: dict[int, int], minutes: tuple[int, int], most: int
) -> None:
    size, step = (timedelta(minutes=m) for m in minutes)
    by_hour = {NOON + n * HOUR: count for n, count in readings.items()}
    wanted = closed_windows(size, by_hour, by_hour, step)
    groups = list(in_groups(wanted, by_hour.__getitem__, most))
    assert [start for group in groups for start in group] == list(wanted)
    for group in groups:
        hours = {hour for start in group for hour in wanted[start] if by_hour[hour]}
        assert sum(map(by_hour.__getitem__, hours)) <= most or hours <= set(wanted[group[0]])


class _Folder:
    """Batches published one after the other, listed in pages of names in their order."""

    def __init__(self, batches: int) -> None:
        self.batches = batches

    def listing(self, page: int, grows: list[int]) -> list[BatchName]:
        found: list[str] = []
        for growth in grows:
            after = [n for n in sorted(self._names()) if not found or n > found[-1]]
            found += after[:page]
            self.batches += growth
        after = [n for n in sorted(self._names()) if not found or n > found[-1]]
        return [BatchName(G, int(name.rpartition("-")[2])) for name in found + after]

    def _names(self) -> list[str]:
        return [BatchName(G, n).folder for n in range(self.batches)]


@given(
    st.integers(0, 40),
    st.integers(1, 7),
    st.lists(st.integers(0, 9), max_size=6),
    st.lists(st.integers(0, 9), max_size=6),
)
def test_batches_published_during_a_listing_leave_no_gap(
    batches: int, page: int, first: list[int], second: list[int]
) -> None:
    folder = _Folder(batches)
    found = settled(folder.listing(page, first), folder.listing(page, second))
    assert [name.batch for name in found] == list(range(len(found)))
    assert len(found) >= batches
