"""Periods: the days, and everything, of which KPIs are computed from closed hours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict

from streamkeeper.errors import StreamkeeperError
from streamkeeper.hours import HOUR, Revision
from streamkeeper.names import format_hour, parse_hour

PeriodKind = Literal["day", "all"]
PERIOD_KEY = "streamkeeper.period"
"""Where a file tells what it covers: in its footer, in the metadata of its first column."""
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Period:
    """A day in UTC, or everything (`day` is None)."""

    day: date | None = None

    @property
    def kind(self) -> PeriodKind:
        """Which kind of period it is."""
        return "all" if self.day is None else "day"

    def __str__(self) -> str:
        return "all" if self.day is None else self.day.isoformat()

    def holds(self, hour: datetime) -> bool:
        """Tell whether an hour lies in it."""
        return self.day is None or hour.astimezone(UTC).date() == self.day

    def ended(self, now: datetime) -> bool:
        """Tell whether no further hour will lie in it; everything never waits for that."""
        if self.day is None:
            return True
        return datetime(self.day.year, self.day.month, self.day.day, tzinfo=UTC) + _DAY <= now

    @property
    def folder(self) -> str:
        """Its folder below a zone, with a slash behind it; everything needs none."""
        return "" if self.day is None else f"dt={self.day.isoformat()}/"


def read_period(kind: str, day: str) -> Period:
    """Return the period that a person asks for.

    Parameters: kind, `day` or `all`; day, such as `2026-11-24`, only of a day.
    Raises StreamkeeperError with what is wrong.
    """
    if kind == "all" and not day:
        return Period()
    if kind != "day" or not day:
        raise StreamkeeperError(
            f"{kind!r} and {day!r} name no period; write `day` with a day such as 2026-11-24, "
            "or `all` without one"
        )
    try:
        return Period(datetime.strptime(day, "%Y-%m-%d").date())
    except ValueError:
        raise StreamkeeperError(f"{day!r} is not a day; write it as 2026-11-24") from None


class Covered(BaseModel):
    """Which closed hours a period's file was computed from.

    runs: hours that follow one another at the same revision: (first hour, how many, revision);
    partial: those of them that were closed before they were complete.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    period: str
    runs: tuple[tuple[str, int, int], ...]
    partial: tuple[str, ...] = ()

    @classmethod
    def of(cls, period: Period, revisions: Iterable[Revision]) -> Covered:
        """Return what a period covers of the last revisions of a stream's closed hours."""
        runs: list[tuple[datetime, int, int]] = []
        partial = []
        for one in sorted((r for r in revisions if period.holds(r.hour)), key=lambda r: r.hour):
            if one.state == "partial":
                partial.append(format_hour(one.hour))
            first, count, revision = runs[-1] if runs else (one.hour, 0, 0)
            if count and revision == one.revision and first + count * HOUR == one.hour:
                runs[-1] = (first, count + 1, revision)
            else:
                runs.append((one.hour, 1, one.revision))
        told = tuple((format_hour(first), count, revision) for first, count, revision in runs)
        return cls(period=str(period), runs=told, partial=tuple(partial))

    def hours(self) -> dict[datetime, int]:
        """Return the revision of each hour."""
        return {
            parse_hour(first) + i * HOUR: revision
            for first, count, revision in self.runs
            for i in range(count)
        }


def wanted_periods(
    kinds: Iterable[PeriodKind], revisions: Sequence[Revision], now: datetime
) -> list[Period]:
    """Return the periods of a stream: each day that has ended and has a closed hour, and all.

    Parameters: kinds, those that the stream's KPIs declare; revisions, the last ones of its closed
    hours.
    """
    kinds = set(kinds)
    found = [Period()] if "all" in kinds and revisions else []
    if "day" in kinds:
        days = sorted({r.hour.astimezone(UTC).date() for r in revisions})
        found = [*(p for p in map(Period, days) if p.ended(now)), *found]
    return found


def due_periods(
    periods: Iterable[Period],
    revisions: Sequence[Revision],
    visible: Mapping[Period, Sequence[Covered | None]],
) -> list[Period]:
    """Return the periods of which a file is missing, or was made of other revisions.

    Parameters: revisions, the last ones of the closed hours; visible, what each of a period's files
    covers, None for a missing one.
    """
    return [
        period
        for period in periods
        if any(told != Covered.of(period, revisions) for told in visible[period])
    ]
