"""What the dashboard shows of a declared stream, and the figures that it makes of aggregates."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import reduce
from itertools import combinations
from typing import Any, NamedTuple

from streamkeeper.reports import broken_by_kpi, condition_text, measure_unit
from streamkeeper.spec.dashboard import MOST_SERIES, MapColumns
from streamkeeper.spec.expressions import Expression, parse_condition
from streamkeeper.spec.field_types import is_number
from streamkeeper.spec.models import Alert, Spec
from streamkeeper.spec.pieces import text_literal
from streamkeeper.texts import Language

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOTHING = "–"
_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200)
_POINTS = 120


# What is shown
class Variable(NamedTuple):
    """A number over time: its name for people, its column, of which readings (None: of all)."""

    name: str
    column: str
    where: Expression | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it needs."""
        return (self.column, *(self.where.fields if self.where else ()))


@dataclass(frozen=True)
class Layout:
    """What is drawn.

    by: the column whose values are compared; variables: numbers over time; map: where readings were
    made; apart: whether each reading has one of the variables only.
    """

    by: str | None
    variables: tuple[Variable, ...]
    map: MapColumns | None
    apart: bool = False


def layout(spec: Spec) -> Layout:
    """Return what the dashboard shows: as declared, else what the names and types suggest."""
    given, columns = spec.dashboard, spec.columns()
    numbers = [name for name, kind in columns.items() if is_number(kind)]
    place = given.map
    if place is None and {"latitude", "longitude"} <= set(numbers):
        place = MapColumns(latitude="latitude", longitude="longitude")
    by = given.by or _compared(spec)
    if place is not None and place.label is None:
        place = place.model_copy(update={"label": by})
    keys = {by, *(k for part in (*spec.kpis, *spec.windows) for k in part.by)}
    if place is not None:
        keys |= {place.latitude, place.longitude, place.label}
    found = [n for n in numbers if n in spec.fields and n not in keys]
    kinds = spec.fields[given.kinds].allowed or () if given.kinds else ()
    series = given.series or found[: MOST_SERIES // max(1, len(kinds))]
    return Layout(by, tuple(_variables(spec, series)), place, apart=bool(kinds))


def _variables(spec: Spec, series: Sequence[str]) -> Iterator[Variable]:
    """Yield what is drawn of some columns; those of each kind of readings."""
    where, kinds = spec.dashboard.where, spec.dashboard.kinds
    if kinds is None:
        yield from (Variable(name, name, where) for name in series)
        return
    for name in series:
        for kind in map(str, spec.fields[kinds].allowed or ()):
            told = f"`{kinds}` = {text_literal(kind)}"
            text = told if where is None else f"({where}) and {told}"
            condition = parse_condition(text, spec.columns())
            yield Variable(kind if len(series) == 1 else f"{name}: {kind}", name, condition)


def _compared(spec: Spec) -> str | None:
    """Return the first key of a KPI or window, else the producer's key, else the first text."""
    keys = [key for part in (*spec.kpis, *spec.windows) for key in part.by]
    simulator = spec.producer.simulator
    keys += [simulator.key] if simulator and simulator.key else []
    texts = [name for name, kind in spec.columns().items() if kind == "string"]
    valid = (k for k in (*keys, *texts) if k in spec.columns() and k != spec.event_time.field)
    return next(valid, None)


class Span(NamedTuple):
    """A time with its begin, up to its end, which is not in."""

    begin: datetime
    end: datetime

    @property
    def length(self) -> timedelta:
        """How long it is."""
        return self.end - self.begin

    @property
    def before(self) -> Span:
        """The time of equal length that ends where this one begins."""
        return Span(self.begin - self.length, self.begin)

    def __contains__(self, instant: object) -> bool:
        return isinstance(instant, datetime) and self.begin <= instant < self.end


def last_span(newest: datetime, length: timedelta) -> Span:
    """Return the time of this length whose last reading is the newest one."""
    end = newest + timedelta(microseconds=1)
    return Span(end - length, end)


def step_of(length: timedelta) -> timedelta:
    """Return how far apart the points of a curve of this length are: at most 120 of them."""
    seconds = length.total_seconds() / _POINTS
    return timedelta(seconds=next((s for s in _STEPS_S if s >= seconds), 86_400))


# Aggregates, which can be put together
class Stat(NamedTuple):
    """Values of one variable: how many, their mean, the lowest and the highest."""

    n: int = 0
    mean: float | None = None
    low: float | None = None
    high: float | None = None


def merged(stats: Iterable[Stat]) -> Stat:
    """Return the statistic of all values from those of parts."""
    found = [s for s in stats if s.n]
    n = sum(s.n for s in found)
    if not n:
        return Stat()
    mean = math.fsum((s.mean or 0.0) * (s.n / n) for s in found)
    lows, highs = (
        [x for x in ends if x is not None]
        for ends in ((s.low for s in found), (s.high for s in found))
    )
    return Stat(n, mean, min(lows, default=None), max(highs, default=None))


class Group(NamedTuple):
    """Readings of one point of time, or of one value of a column, or both: how many, statistics."""

    at: datetime | None
    key: str | None
    rows: int
    stats: tuple[Stat, ...]


def in_all(groups: Sequence[Group], variables: int) -> Group:
    """Return all groups as one; variables: how many there are."""
    stats = tuple(merged(g.stats[i] for g in groups) for i in range(variables))
    return Group(None, None, sum(g.rows for g in groups), stats)


class Hits(NamedTuple):
    """Readings beyond the limit of an alert: how many, the worst value, when the last one was."""

    at: datetime | None
    key: str | None
    readings: int
    worst: float | None
    last: datetime | None


class Pair(NamedTuple):
    """Two variables where both are known: how many, means, sums of squares about the means."""

    n: int = 0
    mean_x: float = 0.0
    mean_y: float = 0.0
    sxx: float = 0.0
    syy: float = 0.0
    sxy: float = 0.0

    def plus(self, other: Pair) -> Pair:
        """Return both together (Chan, Golub and LeVeque 1979)."""
        n = self.n + other.n
        if not self.n or not other.n:
            return self if self.n else other
        dx, dy = other.mean_x - self.mean_x, other.mean_y - self.mean_y
        share = other.n / n
        weight = self.n * share
        return Pair(
            n,
            self.mean_x + dx * share,
            self.mean_y + dy * share,
            self.sxx + other.sxx + dx * dx * weight,
            self.syy + other.syy + dy * dy * weight,
            self.sxy + other.sxy + dx * dy * weight,
        )

    @property
    def correlation(self) -> float | None:
        """Pearson's correlation; None where one of the two never changes."""
        if self.n < 2 or not self.sxx > 0 or not self.syy > 0:
            return None
        found = self.sxy / math.sqrt(self.sxx) / math.sqrt(self.syy)
        return max(-1.0, min(1.0, found)) if math.isfinite(found) else None


def pairs_of_means(groups: Sequence[Group], variables: int) -> list[Pair]:
    """Return what correlations are made of, of the means of those steps that have both.

    Parameters: groups, a step of time each; variables, how many there are.
    """
    found = []
    for x, y in combinations(range(variables), 2):
        means = [(g.stats[x].mean, g.stats[y].mean) for g in groups]
        both = [
            Pair(1, one, other) for one, other in means if one is not None and other is not None
        ]
        found.append(reduce(Pair.plus, both, Pair()))
    return found


def correlations(variables: Sequence[str], pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """Return the correlation of each variable with each, both ways, those that there are.

    Parameters: pairs, in the order of `itertools.combinations`.
    """
    cells = []
    for (x, y), pair in zip(combinations(variables, 2), pairs, strict=True):
        r = pair.correlation
        if r is not None:
            told = {"r": r, "n": pair.n, "text": f"{r:.2f}"}
            cells += [{"x": x, "y": y} | told, {"x": y, "y": x} | told]
    return cells


def stacked(often: Mapping[str, Sequence[Hits]], step: timedelta) -> list[dict[str, Any]]:
    """Return the hits of alerts by steps of time, those of one step on top of one another.

    Parameters: often, the hits of each alert by its name.
    """
    tops: dict[datetime, int] = {}
    rows = []
    for name, hits in often.items():
        for one in hits:
            assert one.at is not None
            below = tops.get(one.at, 0)
            tops[one.at] = below + one.readings
            row = {"at": one.at, "until": one.at + step, "alert": name, "readings": one.readings}
            rows.append(row | {"below": below, "stacked": tops[one.at]})
    return rows


# Figures as people read them
class Tile(NamedTuple):
    """A figure with its change since the period before; `change` is empty where none is known."""

    label: str
    value: str
    change: str = ""


def tile(label: str, now: float | None, before: float | None, unit: str | None = None) -> Tile:
    """Return the tile of a figure and its value in the period before."""
    named = f"{label} ({unit})" if unit else label
    if now is None or not known(now):
        return Tile(named, NOTHING)
    if before is None or not known(before):
        return Tile(named, figure(now))
    difference = now - before
    sign = "+" if difference > 0 else "-" if difference < 0 else "±"
    return Tile(named, figure(now), f"{sign}{figure(abs(difference), 3)}")


def known(value: float | None) -> bool:
    """Tell whether there is a number that can be shown."""
    return value is not None and math.isfinite(value)


def figure(value: float | None, digits: int = 4) -> str:
    """Write a number with its thousands; one with a fraction in so many digits."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if abs(value) >= 1e15:
        return f"{value:.3e}"
    if value == int(value):
        return f"{int(value):,}"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def age(since: timedelta) -> str:
    """Write how long ago something was, such as `4 min ago`."""
    seconds = since.total_seconds()
    if seconds < 0:
        return "ahead of this clock"
    for size, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name} ago"
    return f"{seconds:.0f} s ago"


def moment(instant: datetime) -> str:
    """Write an instant in UTC, and that it is."""
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


@dataclass(frozen=True)
class Seen:
    """What was asked of one period.

    whole: all readings; sources: how many values the compared column has, None without one;
    broken: hits of each alert on a field by its name, None where it could not be told.
    """

    whole: Group
    sources: int | None
    broken: dict[str, Hits | None]

    @property
    def hits(self) -> int:
        """How many readings broke an alert; one that broke two counts twice."""
        return sum(h.readings for h in self.broken.values() if h is not None)


def live_tiles(spec: Spec, shown: Layout, now: Seen, before: Seen | None) -> list[Tile]:
    """Return the tiles of a period beside the one before it, None where that is not known."""
    units = spec.units()
    old = before.whole if before and before.whole.rows else None
    tiles = [tile("readings", now.whole.rows, old and old.rows)]
    if shown.by is not None:
        sources = before.sources if old and before else None
        tiles.append(tile(f"different {shown.by}", now.sources, sources))
    if now.broken:
        tiles.append(tile("beyond a limit", now.hits, before.hits if old and before else None))
    for i, variable in enumerate(shown.variables):
        then, unit = old.stats[i].mean if old else None, units.get(variable.column)
        tiles.append(tile(f"mean {variable.name}", now.whole.stats[i].mean, then, unit))
    return tiles


def kpi_tiles(
    spec: Spec, hours: Mapping[str, Mapping[datetime, Sequence[Mapping[str, Any]]]]
) -> list[Tile]:
    """Return the measures of the KPIs of one row, of the last closed hour beside the one before.

    Parameters: hours, the rows of each KPI by hour, oldest first.
    """
    tiles = []
    for kpi in spec.kpis:
        rows = [found[0] for found in hours.get(kpi.name, {}).values() if len(found) == 1]
        if kpi.by or kpi.of_readings or not rows:
            continue
        before = rows[-2] if len(rows) > 1 else {}
        for name, measure in kpi.measures.items():
            now, then = (as_number(row.get(name)) for row in (rows[-1], before))
            tiles.append(tile(name, now, then, measure_unit(spec, measure)))
    return tiles


def as_number(value: Any) -> float | None:
    """Return a value as a number; None for anything that is none."""
    return float(value) if isinstance(value, int | float | Decimal) else None


class AlertState(NamedTuple):
    """An alert of the declaration as it stands.

    broken: how many readings, or rows of a KPI, lie beyond the limit, None where that is not told,
    then `reason` tells why; worst, the farthest value; last, the time of the last such reading, or
    the hour of the KPI; before, how many in the period before.
    """

    name: str
    condition: str
    of: str
    broken: int | None
    worst: float | None = None
    last: datetime | None = None
    before: int | None = None
    reason: str = ""


def reading_alert(
    spec: Spec, alert: Alert, now: Hits | None, before: Hits | None, reason: str = ""
) -> AlertState:
    """Return the state of an alert on a field; `reason` tells why it is not known."""
    condition = condition_text(spec, alert, Language())
    if now is None:
        return AlertState(alert.name, condition, "readings", None, reason=reason)
    then = before.readings if before else None
    return AlertState(alert.name, condition, "readings", now.readings, now.worst, now.last, then)


def kpi_alert(
    spec: Spec, alert: Alert, hours: Mapping[datetime, Sequence[Mapping[str, Any]]]
) -> AlertState:
    """Return the state of an alert on a KPI: of the last closed hour, and the one before."""
    condition = condition_text(spec, alert, Language())
    kpi = str(alert.kpi).partition(".")[0]
    if not hours:
        return AlertState(alert.name, condition, "KPI rows", None, reason="no hour is closed yet")
    *earlier, (hour, rows) = hours.items()
    found = broken_by_kpi(spec, alert, {kpi: rows})
    then = broken_by_kpi(spec, alert, {kpi: earlier[-1][1]}) if earlier else None
    before = (then.count if then else 0) if earlier else None
    if found is None:
        return AlertState(alert.name, condition, "KPI rows", 0, None, hour, before)
    return AlertState(alert.name, condition, "KPI rows", found.count, found.worst, hour, before)
