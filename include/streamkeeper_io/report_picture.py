"""The picture of an hour: the charted KPI as bars, and the hour's course by window."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import matplotlib.dates as mdates
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from streamkeeper.hours import HOUR
from streamkeeper.names import EVENT_TIME
from streamkeeper.report_text import heading, plain
from streamkeeper.reports import language_of, measure_text
from streamkeeper.spec.expressions import Expression
from streamkeeper.spec.field_types import is_number
from streamkeeper.spec.models import Kpi, Spec, Window
from streamkeeper.texts import Language

_BARS, _PANELS, _LABEL = 20, 6, 24
_INK, _SOFT, _BAR, _LINE, _LIMIT = "#1f2933", "#66727f", "#3e7cb1", "#1b6ca8", "#b3261e"
_WIDTH, _DPI = 7.8, 160
# Texts come from data: a `$` in them must not begin a formula.
_TEXT: dict[str, Any] = {"parse_math": False, "color": _INK}
_AGGREGATES = {
    "avg": "mean",
    "min": "min",
    "max": "max",
    "sum": "sum",
    "count": "count",
    "stddev": "stddev",
}


def draw_hour(
    spec: Spec,
    hour: datetime,
    kpis: Mapping[str, Sequence[Mapping[str, Any]]],
    curated: pa.Table | None,
) -> bytes | None:
    """Return the picture as PNG; None when there is nothing to draw.

    Parameters: kpis, the rows of each KPI by its name; curated, the hour's rows with at least
    the columns of `course_columns`.
    """
    chart = _chart(spec, kpis)
    window = course_window(spec)
    course = window_course(curated, window) if window and curated is not None else None
    heights = []
    if chart:
        heights.append(0.9 + 0.3 * min(len(chart[2]), _BARS))
    if window and course is not None:
        heights.append(0.6 + 1.55 * _grid(window)[0])
    if not heights:
        return None
    figure = Figure(figsize=(_WIDTH, sum(heights)), dpi=_DPI, layout="constrained")
    parts = list(figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0])
    if chart:
        _draw_bars(parts.pop(0), spec, *chart)
    if window and course is not None:
        _draw_course(parts.pop(0), spec, window, course, hour)
    return _png(figure)


def _png(figure: Figure) -> bytes:
    picture = io.BytesIO()
    with warnings.catch_warnings():
        # A sign that the font lacks is drawn as a box.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing")
        FigureCanvasAgg(figure).print_png(picture)
    return picture.getvalue()


# Bars
def _chart(
    spec: Spec, kpis: Mapping[str, Sequence[Mapping[str, Any]]]
) -> tuple[Kpi, str, list[Mapping[str, Any]]] | None:
    name, _, column = (spec.report.chart or "" if spec.report else "").partition(".")
    kpi = next((k for k in spec.kpis if k.name == name), None)
    rows = [row for row in kpis.get(name, ()) if row.get(column) is not None]
    return (kpi, column, rows) if kpi is not None and rows else None


def _draw_bars(
    part: SubFigure, spec: Spec, kpi: Kpi, column: str, rows: list[Mapping[str, Any]]
) -> None:
    measure, language = kpi.measures[column], language_of(spec)
    shown = rows[:_BARS]
    axes = part.subplots()
    labels = [_label(kpi, row, language) for row in shown]
    bars = axes.barh(
        range(len(shown)), [float(row[column]) for row in shown], color=_BAR, height=0.62
    )
    numbers = [language.number(row[column]) for row in shown]
    axes.bar_label(bars, numbers, padding=3, fontsize=8, **_TEXT)
    axes.set_yticks(range(len(shown)), labels, fontsize=8.5, **_TEXT)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    _title(axes, _bars_title(kpi, measure_text(spec, measure, language), len(rows), language))
    _draw_limits(axes, spec, measure)
    _bare(axes)
    axes.xaxis.set_major_formatter(_Ticks(language))
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#e4e9ee", linewidth=0.8)


def _bars_title(kpi: Kpi, measure: str, rows: int, language: Language) -> str:
    title = _capital(measure)
    if kpi.by:
        title = language.text("bars", measure=title, keys=", ".join(kpi.by))
    if rows > _BARS:
        title = language.text("bars.first", title=title, shown=_BARS, all=language.number(rows))
    return title


def _draw_limits(axes: Axes, spec: Spec, measure: Expression) -> None:
    """Mark the alert limits of the charted field where the bars reach or nearly reach them."""
    if measure.function not in ("avg", "min", "max"):
        return
    right, language = axes.get_xlim()[1], language_of(spec)
    for alert in spec.alerts:
        limit = alert.above if alert.above is not None else alert.below
        if alert.field == measure.field and limit is not None and 0 < limit < 1.4 * right:
            axes.axvline(limit, color=_LIMIT, linewidth=1, linestyle=(0, (4, 3)))
            over = alert.above is not None
            key = "limit.above" if over else "limit.below"
            text = language.text(key, limit=language.short(limit))
            side = "left" if over else "right"
            axes.annotate(
                text,
                (limit, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(3 if side == "left" else -3, 2),
                textcoords="offset points",
                ha=side,
                fontsize=7,
                color=_LIMIT,
            )


class _Ticks(ScalarFormatter):
    """Writes an axis's numbers as a language does."""

    def __init__(self, language: Language) -> None:
        super().__init__()
        self._language = language

    def __call__(self, x: float, pos: int | None = None) -> str:
        return self._language.exact(super().__call__(x, pos))


def _label(kpi: Kpi, row: Mapping[str, Any], language: Language) -> str:
    none = language.text("none")
    values = [none if row[key] is None else str(row[key]) for key in kpi.by]
    return plain(", ".join(values), _LABEL) if values else heading(kpi.name)


# The hour's course
def course_window(spec: Spec) -> Window | None:
    """Return the window whose measures are drawn over the hour: the first with several an hour.

    Measures that are not one aggregate of one column are not drawn, nor windows with a condition.
    """
    several = (w for w in spec.windows if w.size * 2 <= HOUR and w.where is None)
    return next((w for w in several if _drawn(w)), None)


def _drawn(window: Window) -> dict[str, Expression]:
    return {
        name: measure
        for name, measure in window.measures.items()
        if measure.function in _AGGREGATES and is_number(measure.type)
    }


def course_columns(window: Window) -> list[str]:
    """Return the columns of the curated rows that a course needs."""
    fields = [m.field for m in _drawn(window).values() if m.field is not None]
    return list(dict.fromkeys((EVENT_TIME, *window.by, *fields)))


def window_course(curated: pa.Table, window: Window) -> pa.Table | None:
    """Return the window's rows: `start` (microseconds since 1970), keys, measures.

    None when the rows fill fewer than two windows: they make no course.
    """
    size = window.size.seconds * 1_000_000 + window.size.microseconds
    times = curated[EVENT_TIME].cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    start = pc.multiply(pc.divide(times, size), size)
    # Measures may share a field, so each works on a column of its own.
    columns = {"start": start, **{f"k{i}": curated[name] for i, name in enumerate(window.by)}}
    wanted: list[Any] = []
    for i, measure in enumerate(_drawn(window).values()):
        columns[f"m{i}"] = times if measure.field is None else _plain(curated[measure.field])
        wanted.append((f"m{i}", *_aggregate(measure)))
    keys = ["start", *(f"k{i}" for i in range(len(window.by)))]
    grouped = pa.table(columns).group_by(keys).aggregate(wanted)
    if len(pc.unique(grouped["start"])) < 2:
        return None
    names = [f"m{i}_{function}" for i, (_, function, *_) in enumerate(wanted)]
    found = grouped.select([*keys, *names])
    return found.rename_columns(["start", *window.by, *_drawn(window)])


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return decimals as doubles, which Arrow has all aggregates of."""
    return column.cast(pa.float64()) if pa.types.is_decimal(column.type) else column


def _aggregate(measure: Expression) -> tuple[Any, ...]:
    if measure.distinct:
        return ("count_distinct", pc.CountOptions(mode="only_valid"))
    if measure.function == "stddev":
        return ("stddev", pc.VarianceOptions(ddof=1))
    return (_AGGREGATES[str(measure.function)],)


def _draw_course(
    part: SubFigure,
    spec: Spec,
    window: Window,
    course: pa.Table,
    hour: datetime,
) -> None:
    panels = list(_drawn(window).items())[:_PANELS]
    language = language_of(spec)
    told = language.text("course", seconds=language.short(window.size.total_seconds()))
    if window.by:
        told = language.text("course.keys", title=told, keys=", ".join(window.by))
    part.suptitle(told, x=0.01, ha="left", fontsize=9, color=_SOFT)
    rows, columns = _grid(window)
    grid = list(part.subplots(rows, columns, sharex=True, squeeze=False).flat)
    for place, (axes, (name, measure)) in enumerate(zip(grid, panels, strict=False)):
        _draw_panel(axes, course, name)
        _title(axes, _capital(measure_text(spec, measure, language)), 8)
        axes.yaxis.set_major_formatter(_Ticks(language))
        axes.set_xlim(hour, hour + HOUR)
        axes.tick_params(labelbottom=place + columns >= len(panels))
        axes.xaxis.set_major_locator(mdates.MinuteLocator(byminute=(0, 20, 40)))
        axes.xaxis.set_major_formatter(mdates.DateFormatter("%H:%M", tz=UTC))
    for axes in grid[len(panels) :]:
        axes.set_visible(False)


def _grid(window: Window) -> tuple[int, int]:
    """Return rows and columns of the panels."""
    panels = min(len(_drawn(window)), _PANELS)
    columns = min(panels, 2 if panels == 4 else 3)
    return math.ceil(panels / columns), columns


def _draw_panel(axes: Axes, course: pa.Table, name: str) -> None:
    band = (
        course.select(["start", name])
        .group_by("start")
        .aggregate([(name, "mean"), (name, "min"), (name, "max")])
        .sort_by("start")
    )
    times = [datetime.fromtimestamp(micros / 1e6, UTC) for micros in band["start"].to_pylist()]
    low, high, mean = (_floats(band[f"{name}_{f}"]) for f in ("min", "max", "mean"))
    axes.fill_between(times, low, high, color=_LINE, alpha=0.18, linewidth=0)  # type: ignore[arg-type]
    axes.plot(times, mean, color=_LINE, linewidth=1.3)  # type: ignore[arg-type]
    _bare(axes)
    axes.grid(axis="y", color="#e4e9ee", linewidth=0.8)
    axes.yaxis.set_major_locator(MaxNLocator(4))


def _floats(column: pa.ChunkedArray) -> list[float]:
    return [float("nan") if value is None else float(value) for value in column.to_pylist()]


def _title(axes: Axes, text: str, size: float = 10) -> None:
    axes.set_title(plain(text, 80), loc="left", fontsize=size, pad=12 if size > 9 else 4, **_TEXT)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _bare(axes: Axes) -> None:
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#9fb3c8")
    axes.tick_params(labelsize=8, colors=_SOFT)
    axes.set_axisbelow(True)
