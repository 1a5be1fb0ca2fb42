"""Closing hours: what a close has to do, what it commits, which windows it may write."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from streamkeeper.generations import Change, Counted, Lost
from streamkeeper.hours import (
    HOUR,
    Completeness,
    Look,
    Revision,
    completeness,
)
from streamkeeper.manifest import Manifest
from streamkeeper.names import CURATED, format_hour, hour_of

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CLOSE_COLUMN = "_close"
"""The column that names a row's hour while a close writes it; it becomes a folder."""


@dataclass(frozen=True)
class Task:
    """What a close has to do for one hour: bring the revision `before`, if any, up to `change`.

    merged: by generation the last batch that the revision then holds.
    """

    hour: datetime
    before: Revision | None
    change: Change
    done: Completeness
    merged: Mapping[str, int]

    @property
    def manifests(self) -> tuple[Manifest, ...]:
        """The batches to merge."""
        return self.change.manifests

    @property
    def number(self) -> int:
        """The revision that this close makes."""
        return self.before.revision + 1 if self.before else 1

    @property
    def needed(self) -> bool:
        """Whether a new revision would hold or tell anything new."""
        if self.before is None or self.change:
            return True
        return self.before.state == "partial" and self.done.complete

    @property
    def has_rows(self) -> bool:
        """Whether the closed hour must hold rows."""
        if self.change.keeps:
            return True
        return self.holds(CURATED) and not self.change.replaced

    def holds(self, zone: str) -> bool:
        """Whether the revision before has a file in a zone."""
        return self.before is not None and zone in self.before.files


def plan_close(
    hours: Sequence[datetime],
    *,
    latest: Mapping[datetime, Revision],
    counted: Counted,
    looks: Mapping[datetime, Look | None],
    lost: Sequence[Lost] = (),
) -> list[Task]:
    """Return what a close of `hours` has to do for each of them, in their order.

    Parameters: latest, the last revision of each hour that has one; counted, the published raw
    batches; looks, by hour; lost, all that was accepted.
    """
    tasks = []
    for hour in hours:
        before = latest.get(hour)
        merged = before.merged if before else {}
        tasks.append(
            Task(
                hour,
                before,
                counted.change(hour, before.merged if before else None),
                completeness(counted, looks.get(hour), lost),
                {**merged, **counted.merged},
            )
        )
    return tasks


def due_again(latest: Mapping[datetime, Revision], counted: Counted) -> list[datetime]:
    """Return the closed hours that have rows from after their close, or rows read again.

    Parameters: latest, the last revision of each closed hour; counted, the published raw batches.
    """
    return [hour for hour, r in sorted(latest.items()) if counted.change(hour, r.merged)]


def staged_hour(revision_folder: str, zone: str, hour: datetime) -> str:
    """Return the folder in which a close has written an hour of a zone aside."""
    return f"{revision_folder}/{zone}/{CLOSE_COLUMN}={format_hour(hour)}"


def is_garbage(hour: datetime, number: int, epoch: int, latest: Revision | None) -> bool:
    """Tell whether files written aside can never become visible, or are so already.

    They cannot once the store has this revision, or a later one, of another close. Nothing is
    known of a close that has not committed: it may still run.

    Parameters: hour, number, epoch, of the files; latest, the hour's last revision.
    """
    if latest is None or latest.hour != hour or latest.revision < number:
        return False
    return latest.epoch != epoch or not latest.stores_pending


def lies_in_one_hour(size: timedelta, step: timedelta) -> bool:
    """Tell whether each window lies in one hour: it divides the hour and overlaps no other window.

    Parameters: size, of a window; step, from one start to the next.
    """
    return size == step and HOUR % size == timedelta(0)


def window_starts(size: timedelta, hour: datetime, step: timedelta) -> list[datetime]:
    """Return the starts of the windows that overlap an hour; windows are aligned to 1970.

    Parameters: size, of a window; step, from one start to the next.
    """
    # The first start after `hour - size`: that window ends after the hour's beginning.
    first = hour - size + step - (hour - size - _EPOCH) % step
    count = -((first - (hour + HOUR)) // step)
    return [first + i * step for i in range(count)]


def window_hours(size: timedelta, start: datetime) -> list[datetime]:
    """Return the hours that a window overlaps."""
    first = hour_of(start)
    count = -((first - (start + size)) // HOUR)
    return [first + i * HOUR for i in range(count)]


def closed_windows(
    size: timedelta, hours: Iterable[datetime], closed: Collection[datetime], step: timedelta
) -> dict[datetime, list[datetime]]:
    """Return the windows that overlap `hours` and all of whose hours are closed.

    Parameters: size, of a window; closed, the hours that are closed and complete; step, from one
    start to the next.
    Returns the windows' starts, in their order, with the hours that each overlaps.
    """
    starts = {start for hour in hours for start in window_starts(size, hour, step)}
    found = {start: window_hours(size, start) for start in sorted(starts)}
    return {start: over for start, over in found.items() if all(h in closed for h in over)}


def in_groups(
    windows: Mapping[datetime, Sequence[datetime]], readings: Callable[[datetime], int], most: int
) -> Iterator[list[datetime]]:
    """Yield the starts of windows in groups whose hours hold few enough readings.

    A group has one start at least, however many readings its hours hold.

    Parameters: windows, the starts in their order with the hours that each overlaps; readings, of
    an hour; most, readings in the hours of a group.
    """
    group: list[datetime] = []
    hours: set[datetime] = set()
    held = 0
    for start, over in windows.items():
        new = set(over) - hours
        more = sum(map(readings, new))
        if group and more and held + more > most:
            yield group
            group, hours, held = [], set(), 0
            new = set(over)
            more = sum(map(readings, new))
        group.append(start)
        hours |= new
        held += more
    if group:
        yield group
