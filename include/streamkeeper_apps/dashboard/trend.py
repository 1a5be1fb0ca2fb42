"""The trend view: what is the trend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, cast

import streamlit as st

from streamkeeper.dashboard_questions import Broken, Means, Pairs, Question
from streamkeeper.dashboards import (
    Group,
    Hits,
    Layout,
    Span,
    Variable,
    as_number,
    correlations,
    layout,
    pairs_of_means,
    stacked,
    step_of,
)
from streamkeeper.settings import Settings
from streamkeeper.spec.models import Spec
from streamkeeper_apps.dashboard import charts
from streamkeeper_apps.dashboard.parts import (
    RANGES,
    escaped,
    frame,
    guarded,
    last_rows,
    loading,
    titled,
)
from streamkeeper_io.lake_readings import LakeReadings
from streamkeeper_io.readings import Readings, Unanswered

_COMPARED, _KEYS_IN_BARS = 5, 15
_KPI_HOURS = 48
_LEAST_S = 60


def trend_view(settings: Settings, spec: Spec, every_s: int | None) -> None:
    """Draw the view, again and again by itself.

    Parameters: every_s, seconds between two looks, at least 60; None for one look.
    """
    with st.sidebar:
        chosen = st.selectbox("Time", list(RANGES)[2:], index=2)

    def look() -> None:
        with guarded("the rows"), loading(f"the last {chosen} of {spec.name}"):
            _look(settings, spec, RANGES[chosen])
        if spec.kpis:
            with guarded("the KPIs of closed hours"):
                _draw_kpis(settings, spec)

    st.fragment(look, run_every=every_s and max(every_s, _LEAST_S))()


def _look(settings: Settings, spec: Spec, length: timedelta) -> None:
    shown = layout(spec)
    with last_rows(settings, spec, length) as found:
        if found is None:
            return
        readings, span = found
        told = _ask(readings, span, _questions(spec, shown, span))
        series = Means(shown.variables, step_of(length))
        (before,) = readings.answer(span.before, [series])
        _draw_evolution(spec, shown, span, told["series"], _groups(before))
        if shown.by is not None and shown.variables:
            _draw_comparison(spec, shown, readings, span, told["keys"])
        _draw_alerts(spec, shown, span, told)
        left, right = st.columns(2)
        with left:
            _draw_correlations(shown, told)
        with right:
            _draw_windows(spec, readings, span)


def _questions(spec: Spec, shown: Layout, span: Span) -> dict[str, Question]:
    step = step_of(span.length)
    found: dict[str, Question] = {
        "series": Means(shown.variables, step),
    }
    if not shown.apart and len(shown.variables) > 1:
        found["pairs"] = Pairs(shown.variables)
    if shown.by is not None:
        found["keys"] = Means(shown.variables, by=shown.by)
    for alert in spec.alerts:
        if alert.field is not None:
            found[f"often {alert.name}"] = Broken(alert, step)
            if shown.by is not None:
                found[f"where {alert.name}"] = Broken(alert, by=shown.by)
    return found


def _ask(readings: Readings, span: Span, questions: Mapping[str, Question]) -> dict[str, list[Any]]:
    """Return the answers; one that is not told is shown with its reason, and is empty."""
    answers = readings.answer(span, list(questions.values()))
    found: dict[str, list[Any]] = {}
    reasons = dict.fromkeys(a.reason for a in answers if isinstance(a, Unanswered))
    for name, answer in zip(questions, answers, strict=True):
        found[name] = [] if isinstance(answer, Unanswered) else answer
    for reason in reasons:
        st.caption(escaped(reason))
    return found


def _groups(answer: list[Any] | Unanswered) -> list[Group]:
    return [] if isinstance(answer, Unanswered) else cast(list[Group], answer)


def _draw_evolution(
    spec: Spec, shown: Layout, span: Span, now: Sequence[Group], before: Sequence[Group]
) -> None:
    st.markdown("#### Means, beside those of the period before")
    if not shown.variables:
        st.caption("The declaration has no numbers to draw.")
        return
    st.caption("Blue: this period. Grey and dashed: the one before, moved here.")
    columns = st.columns(2) if len(shown.variables) > 1 else [st.container()]
    periods = (("this period", now, timedelta()), ("the one before", before, span.length))
    for i, variable in enumerate(shown.variables):
        rows = [
            {"at": g.at + shift, "mean": g.stats[i].mean, "period": period}
            for period, groups, shift in periods
            for g in groups
            if g.at is not None and g.stats[i].n
        ]
        data = frame(rows, ("at", "mean", "period"))
        chart = charts.beside(data, titled(spec, variable))
        columns[i % len(columns)].altair_chart(chart, key=f"evolution {variable.name}")


def _draw_comparison(
    spec: Spec, shown: Layout, readings: Readings, span: Span, keys: Sequence[Group]
) -> None:
    st.markdown(f"#### Comparison by {escaped(shown.by)}")
    choice, compared = st.columns([1, 2])
    place = choice.selectbox(
        "Variable",
        range(len(shown.variables)),
        format_func=lambda i: shown.variables[i].name,
        key=f"variable {spec.name}",
    )
    variable = shown.variables[place]
    known = [g for g in keys if g.key is not None and g.stats[place].n]
    names = [str(g.key) for g in known]
    if not names:
        st.caption(f"No reading of this time has a number and a value of {escaped(shown.by)}.")
        return
    picked = compared.multiselect(
        f"Curves (of {len(names):,}, the most frequent first)",
        names,
        default=names[:_COMPARED],
        max_selections=len(charts.COLOURS),
        key=f"keys {spec.name} {variable.name}",
    )
    bars = [
        {"key": g.key, "readings": g.rows, **g.stats[place]._asdict()}
        for g in known[:_KEYS_IN_BARS]
    ]
    left, right = st.columns(2)
    title = f"{titled(spec, variable)}: mean and range"
    data = frame(bars, ("key", "readings", "mean", "low", "high"))
    left.altair_chart(charts.ranges(data, title), key="ranges")
    question = Means((variable,), step_of(span.length), shown.by, tuple(picked))
    (answer,) = readings.answer(span, [question])
    rows = [
        {"at": g.at, "key": g.key, "value": g.stats[0].mean}
        for g in _groups(answer)
        if g.stats[0].n
    ]
    data = frame(rows, ("at", "key", "value"))
    right.altair_chart(charts.lines(data, titled(spec, variable), picked), key="compared")


def _draw_alerts(spec: Spec, shown: Layout, span: Span, told: Mapping[str, list[Any]]) -> None:
    names = [alert.name for alert in spec.alerts if alert.field is not None]
    if not names:
        return
    st.markdown("#### Alerts: how often, and whose")
    often = {name: cast(list[Hits], told[f"often {name}"]) for name in names}
    if not any(often.values()):
        st.caption("No reading of this time lies beyond a limit.")
        return
    left, right = st.columns(2)
    rows = stacked(often, step_of(span.length))
    columns = ("at", "until", "alert", "readings", "below", "stacked")
    left.altair_chart(charts.frequency(frame(rows, columns), names), key="frequency")
    if shown.by is None:
        return
    whose = {name: cast(list[Hits], told[f"where {name}"]) for name in names}
    totals: dict[str, int] = {}
    for hits in (h for found in whose.values() for h in found):
        totals[str(hits.key)] = totals.get(str(hits.key), 0) + hits.readings
    most = sorted(totals, key=lambda key: -totals[key])[:_KEYS_IN_BARS]
    rows = [
        {"key": h.key, "alert": name, "readings": h.readings}
        for name, found in whose.items()
        for h in found
        if h.key in most
    ]
    data = frame(rows, ("key", "alert", "readings"))
    right.altair_chart(charts.spread(data, names, shown.by), key="spread")


def _draw_correlations(shown: Layout, told: Mapping[str, list[Any]]) -> None:
    names = [variable.name for variable in shown.variables]
    by_steps = pairs_of_means(told["series"], len(names)) if shown.apart else []
    pairs = told.get("pairs", by_steps)
    if not pairs:
        return
    st.markdown("#### Correlations")
    if shown.apart:
        st.caption("Of the means of each step of time, as no reading has two of them.")
    data = frame(correlations(names, pairs), ("x", "y", "r", "n", "text"))
    st.altair_chart(charts.heatmap(data, names), key="correlations")


def _draw_windows(spec: Spec, readings: Readings, span: Span) -> None:
    if not spec.windows:
        return
    st.markdown("#### Windows")
    measure_of, by_of = st.columns([2, 1])
    options = [f"{w.name}: {measure}" for w in spec.windows for measure in w.measures]
    chosen = measure_of.selectbox("Measure", options, key=f"window {spec.name}")
    if chosen is None:
        return
    name, _, measure = chosen.partition(": ")
    keys = spec.window(name).by
    by = by_of.selectbox("By", keys, key=f"by {spec.name} {name}") if keys else None
    with guarded(f"the window {name}"):
        place, answer = readings.window(name)
        most = len(charts.COLOURS)
        variable = Variable(measure, measure)
        (found,) = answer(span, [Means((variable,), by=by)])
        if isinstance(found, Unanswered):
            st.caption(escaped(found.reason))
            return
        named = [g.key or "none" for g in _groups(found)] if by else ["all"]
        kept = tuple(sorted(named[:most]))
        # Without a key there is none to choose among.
        only = kept if by else None
        (found,) = answer(span, [Means((variable,), step_of(span.length), by, only)])
        rows = [
            {"at": g.at, "key": g.key or kept[0], "value": g.stats[0].mean}
            for g in _groups(found)
            if g.stats[0].n
        ]
        if not rows:
            st.caption(f"No window of this time is in {escaped(place)}.")
            return
        data = frame(rows, ("at", "key", "value"))
        st.altair_chart(charts.lines(data, measure, kept), key="windows")
        more = f", {len(named) - most} further keys are not drawn" if len(named) > most else ""
        st.caption(
            f"Means of the windows that begin within each step, from {escaped(place)}{more}."
        )


def _draw_kpis(settings: Settings, spec: Spec) -> None:
    """Draw the measures of KPIs of one row, over the last closed hours."""
    lake = LakeReadings(settings, spec)
    for kpi in spec.kpis:
        if kpi.by or kpi.of_readings:
            continue
        hours: Mapping[datetime, Sequence[Mapping[str, Any]]] = lake.kpi(kpi.name, _KPI_HOURS)
        if not hours:
            continue
        st.markdown(f"#### Closed hours: {escaped(kpi.name)}")
        columns = st.columns(3)
        for i, name in enumerate(kpi.measures):
            rows = [
                {"at": hour, "key": name, "value": as_number(found[0].get(name))}
                for hour, found in hours.items()
                if found
            ]
            data = frame(rows, ("at", "key", "value"))
            chart = charts.lines(data, name, [name], legend=False, height=170)
            columns[i % 3].altair_chart(chart, key=f"kpi {kpi.name} {name}")
