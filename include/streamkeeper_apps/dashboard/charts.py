"""The charts: same marks and same columns at every look, so that only their data change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
import pandas as pd

Chart = alt.Chart | alt.LayerChart | alt.FacetChart
# Okabe and Ito's colours, told apart by colour-blind people too, on white and on black; the last
# two are further ones of the same kind.
COLOURS = (
    *("#0b84d8", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9"),
    *("#9b7fe6", "#a89a2c"),
)
NOW, BEFORE, BEYOND = COLOURS[0], "#8c8c8c", COLOURS[4]
_HEIGHT = 190
# The day where it begins, else the time, in 24 hours.
_CLOCK = (
    (
        "hours(datum.value) + minutes(datum.value) == 0 ? "
        "utcFormat(datum.value, '%b %d') : utcFormat(datum.value, '%H:%M')"
    )
    .replace("hours(", "utchours(")
    .replace("minutes(", "utcminutes(")
)
_NUMBER = "abs(datum.value) >= 1e5 ? format(datum.value, '.3~s') : format(datum.value, ',.6~g')"


def _time(title: str = "UTC") -> alt.X:
    # Times are drawn in UTC, wherever the browser is.
    return alt.X(
        "at:T",
        title=title,
        scale=alt.Scale(type="utc"),
        axis=alt.Axis(
            labelOverlap=True,
            tickCount=6,
            labelAngle=0,
            grid=False,
            labelExpr=_CLOCK,
            titlePadding=2,
        ),
    )


def _value(name: str, title: str | None) -> alt.Y:
    return alt.Y(
        f"{name}:Q",
        title=title,
        scale=alt.Scale(zero=False, nice=True),
        axis=alt.Axis(tickCount=4, labelExpr=_NUMBER),
    )


def _when() -> alt.Tooltip:
    return alt.Tooltip("at:T", title="UTC", timeUnit="utcyearmonthdatehoursminutesseconds")


def band(rows: pd.DataFrame, title: str) -> Chart:
    """Return the means of one variable over time, between its lowest and highest values.

    Parameters: rows, with `at`, `mean`, `low`, `high`; title, the variable with its unit.
    """
    base = alt.Chart(rows, height=_HEIGHT, title=alt.Title(title, fontSize=13, anchor="start"))
    tooltips = [_when(), *(alt.Tooltip(f"{n}:Q", format=".4~g") for n in ("mean", "low", "high"))]
    area = base.mark_area(opacity=0.18, color=NOW).encode(
        x=_time(), y=_value("low", None), y2="high:Q"
    )
    line = base.mark_line(color=NOW, strokeWidth=1.8).encode(
        x=_time(), y=_value("mean", None), tooltip=tooltips
    )
    return alt.layer(area, line)


def beside(rows: pd.DataFrame, title: str) -> Chart:
    """Return the means of one variable in a period and in the one before it.

    Parameters: rows, with `at`, `mean`, `period`: `this period` or `the one before`.
    """
    periods = ["this period", "the one before"]
    return (
        alt.Chart(rows, height=_HEIGHT, title=alt.Title(title, fontSize=13, anchor="start"))
        .mark_line(strokeWidth=1.8)
        .encode(
            x=_time(),
            y=_value("mean", None),
            color=alt.Color(
                "period:N",
                title=None,
                scale=alt.Scale(domain=periods, range=[NOW, BEFORE]),
                legend=None,
            ),
            strokeDash=alt.StrokeDash(
                "period:N", scale=alt.Scale(domain=periods, range=[[1, 0], [4, 3]]), legend=None
            ),
            tooltip=[_when(), "period:N", alt.Tooltip("mean:Q", format=".4~g")],
        )
    )


def lines(
    rows: pd.DataFrame, title: str, keys: Sequence[str], *, legend: bool = True, height: int = 300
) -> Chart:
    """Return the values of several keys over time.

    Parameters: rows, with `at`, `key`, `value`; keys, at most as many as there are colours.
    """
    return (
        alt.Chart(rows, height=height, title=alt.Title(title, fontSize=13, anchor="start"))
        .mark_line(strokeWidth=1.6)
        .encode(
            x=_time(),
            y=_value("value", None),
            color=_keys(keys, legend=legend),
            tooltip=[_when(), "key:N", alt.Tooltip("value:Q", format=".4~g")],
        )
    )


def _keys(keys: Sequence[str], name: str = "key", *, legend: bool = True) -> alt.Color:
    colours = [COLOURS[i % len(COLOURS)] for i in range(len(keys))]
    return alt.Color(
        f"{name}:N",
        title=None,
        scale=alt.Scale(domain=list(keys), range=colours),
        legend=alt.Legend(orient="top", offset=4, columns=4, labelLimit=120) if legend else None,
    )


def ranges(rows: pd.DataFrame, title: str) -> Chart:
    """Return the mean of each key, with the range of its values.

    Parameters: rows, with `key`, `mean`, `low`, `high`, `readings`.
    """
    height = 24 * len(rows) + 110
    base = alt.Chart(rows, height=height, title=alt.Title(title, fontSize=13, anchor="start"))
    key = alt.Y("key:N", title=None, sort="-x", axis=alt.Axis(labelLimit=180))
    value = alt.Scale(zero=False, nice=True)
    tooltips = [
        "key:N",
        *(alt.Tooltip(f"{n}:Q", format=".4~g") for n in ("mean", "low", "high")),
        alt.Tooltip("readings:Q", format=","),
    ]
    rule = base.mark_rule(color=BEFORE, strokeWidth=2).encode(
        x=alt.X("low:Q", title=None, scale=value, axis=alt.Axis(labelExpr=_NUMBER)),
        x2="high:Q",
        y=key,
    )
    point = base.mark_point(filled=True, size=90, color=NOW, opacity=1).encode(
        x=alt.X("mean:Q", title=None, scale=value), y=key, tooltip=tooltips
    )
    return alt.layer(rule, point)


def frequency(rows: pd.DataFrame, alerts: Sequence[str]) -> Chart:
    """Return how many readings broke each alert, by steps of time.

    Parameters: rows, with `at`, `until`, `alert`, `readings`.
    """
    return (
        alt.Chart(rows, height=280, title=alt.Title("over time", fontSize=13, anchor="start"))
        .mark_rect()
        .encode(
            x=_time(),
            x2="until:T",
            y=alt.Y("stacked:Q", title="readings", axis=alt.Axis(tickCount=4, labelExpr=_NUMBER)),
            y2="below:Q",
            color=_keys(alerts, "alert"),
            tooltip=[_when(), "alert:N", alt.Tooltip("readings:Q", format=",")],
        )
    )


def spread(rows: pd.DataFrame, alerts: Sequence[str], by: str) -> Chart:
    """Return how many readings of each key broke each alert.

    Parameters: rows, with `key`, `alert`, `readings`; by, what the keys are.
    """
    height = max(280, 24 * rows["key"].nunique() + 140)
    title = alt.Title(f"by {by}", fontSize=13, anchor="start")
    return (
        alt.Chart(rows, height=height, title=title)
        .mark_bar()
        .encode(
            x=alt.X("readings:Q", title="readings", axis=alt.Axis(tickCount=5, labelExpr=_NUMBER)),
            y=alt.Y("key:N", title=None, sort="-x", axis=alt.Axis(labelLimit=180)),
            color=_keys(alerts, "alert"),
            tooltip=["key:N", "alert:N", alt.Tooltip("readings:Q", format=",")],
        )
    )


def heatmap(rows: pd.DataFrame, variables: Sequence[str]) -> Chart:
    """Return the correlations of each two variables.

    Parameters: rows, with `x`, `y`, `r`, `text`; variables, in their order.
    """
    base = alt.Chart(rows, height=max(160, 46 * len(variables) + 60)).encode(
        x=alt.X("x:N", title=None, sort=list(variables), axis=alt.Axis(labelAngle=-30)),
        y=alt.Y("y:N", title=None, sort=list(variables)),
    )
    cells = base.mark_rect().encode(
        color=alt.Color(
            "r:Q",
            title="r",
            scale=alt.Scale(domain=[-1, 0, 1], range=["#d55e00", "#f2f2f2", "#0072b2"]),
        ),
        tooltip=["x:N", "y:N", alt.Tooltip("r:Q", format=".3f"), alt.Tooltip("n:Q", format=",")],
    )
    dark = "datum.r > 0.6 || datum.r < -0.75"
    texts = base.mark_text(fontSize=13).encode(
        text="text:N",
        color=alt.condition(dark, alt.value("#ffffff"), alt.value("#1a1a1a")),
    )
    return alt.layer(cells, texts)


def places(rows: pd.DataFrame, shown: Mapping[str, str]) -> Chart:
    """Return where the readings were made, those beyond a limit in another colour and shape.

    Parameters: rows, with `latitude`, `longitude`, `place`, `state`, `at` and the shown columns;
    shown, the names of these for people.
    """
    states = ["within the limits", "beyond a limit"]
    title = alt.Title("last reading of each place", fontSize=13, anchor="start")
    far = alt.Scale(zero=False, nice=True, padding=24)
    base = alt.Chart(rows, height=400, title=title).encode(
        x=alt.X("longitude:Q", scale=far, title="longitude °", axis=alt.Axis(tickCount=6)),
        y=alt.Y("latitude:Q", scale=far, title="latitude °", axis=alt.Axis(tickCount=6)),
    )
    points = base.mark_point(filled=True, size=150, opacity=0.9).encode(
        color=alt.Color(
            "state:N",
            title=None,
            scale=alt.Scale(domain=states, range=[NOW, BEYOND]),
            legend=alt.Legend(orient="top", offset=4),
        ),
        shape=alt.Shape(
            "state:N", scale=alt.Scale(domain=states, range=["circle", "triangle-up"]), legend=None
        ),
        tooltip=[
            *("place:N", "state:N", _when()),
            *(alt.Tooltip(f"{column}:Q", title=name) for column, name in shown.items()),
        ],
    )
    names = base.mark_text(dy=-13, fontSize=11, color=BEFORE).encode(text="name:N")
    return alt.layer(points, names)
