"""The live view: what is happening now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, cast

import streamlit as st

from streamkeeper.dashboard_questions import Broken, Last, Means, Question
from streamkeeper.dashboards import (
    AlertState,
    Group,
    Hits,
    Layout,
    Seen,
    Span,
    in_all,
    kpi_alert,
    kpi_tiles,
    layout,
    live_tiles,
    reading_alert,
    step_of,
)
from streamkeeper.settings import Settings
from streamkeeper.spec.models import Spec
from streamkeeper_apps.dashboard import charts
from streamkeeper_apps.dashboard.parts import (
    RANGES,
    alert_table,
    draw_tiles,
    escaped,
    frame,
    guarded,
    last_rows,
    loading,
    titled,
)
from streamkeeper_io.lake_readings import LakeReadings
from streamkeeper_io.readings import Readings, Unanswered

_NAMES_ON_MAP = 15
KpiHours = Mapping[str, Mapping[datetime, Sequence[Mapping[str, Any]]]]


def live_view(settings: Settings, spec: Spec, every_s: int | None) -> None:
    """Draw the view, again and again by itself.

    Parameters: every_s, seconds between two looks, None for one look.
    """
    with st.sidebar:
        chosen = st.selectbox("Period", list(RANGES), index=1, help="each change is against the "
                              "period of equal length before it")  # fmt: skip

    def look() -> None:
        with guarded("the rows"), loading(f"the last {chosen} of {spec.name}"):
            _look(settings, spec, RANGES[chosen])

    st.fragment(look, run_every=every_s)()


def _look(settings: Settings, spec: Spec, length: timedelta) -> None:
    shown = layout(spec)
    with last_rows(settings, spec, length) as found:
        if found is None:
            return
        readings, span = found
        answers = _Answers(readings, spec, shown, span)
        draw_tiles(live_tiles(spec, shown, answers.now, answers.before))
        closed, alerts = st.container(), st.container()
        left, right = st.columns([3, 2]) if shown.map else (st.container(), st.container())
        with left:
            _draw_series(spec, shown, answers.series)
        if shown.map is not None:
            with right:
                _draw_map(shown, answers)
        hours = _closed_kpis(settings, spec, closed)
        with alerts:
            st.markdown("#### Alerts")
            alert_table(_alerts(spec, answers, hours))


class _Answers:
    """What was asked of the rows of a period and of the one before it."""

    def __init__(self, readings: Readings, spec: Spec, shown: Layout, span: Span) -> None:
        self.reasons: dict[str, str] = {}
        alerts = [alert for alert in spec.alerts if alert.field is not None]
        broken = {alert.name: Broken(alert) for alert in alerts}
        questions: dict[str, Question] = {
            "series": Means(shown.variables, step_of(span.length)),
            **broken,
        }
        if shown.by is not None:
            questions["sources"] = Means((), by=shown.by)
        place = shown.map
        now = dict(questions)
        if place is not None and place.label is not None:
            where = (place.latitude, place.longitude)
            now["places"] = Last(place.label, where, shown.variables, tuple(alerts))
        readings.expect(Span(span.before.begin, span.end), list(now.values()))
        told = self._ask(readings, span, now)
        self.series = cast(list[Group], told["series"] or [])
        self.places = told.get("places") or []
        self.now = self._seen(told, shown, broken)
        self.before = self._seen(self._ask(readings, span.before, questions), shown, broken)

    def _ask(
        self, readings: Readings, span: Span, questions: Mapping[str, Question]
    ) -> dict[str, list[Any] | None]:
        found: dict[str, list[Any] | None] = {}
        answers = readings.answer(span, list(questions.values()))
        for name, answer in zip(questions, answers, strict=True):
            if isinstance(answer, Unanswered):
                self.reasons[name] = answer.reason
                found[name] = None
            else:
                found[name] = answer
        return found

    @staticmethod
    def _seen(
        told: Mapping[str, list[Any] | None], shown: Layout, broken: Mapping[str, Broken]
    ) -> Seen:
        sources = told.get("sources")
        none = Hits(None, None, 0, None, None)
        return Seen(
            in_all(told["series"] or [], len(shown.variables)),
            None if sources is None else len(sources),
            {
                name: None if hits is None else (hits[0] if hits else none)
                for name in broken
                for hits in (told[name],)
            },
        )


def _draw_series(spec: Spec, shown: Layout, series: Sequence[Group]) -> None:
    columns = st.columns(2) if len(shown.variables) > 1 else [st.container()]
    for i, variable in enumerate(shown.variables):
        rows = [{"at": g.at, **g.stats[i]._asdict()} for g in series if g.stats[i].n]
        data = frame(rows, ("at", "mean", "low", "high"))
        chart = charts.band(data, titled(spec, variable))
        columns[i % len(columns)].altair_chart(chart, key=f"live {variable.name}")
    if not shown.variables:
        st.caption("The declaration has no numbers to draw.")


def _closed_kpis(settings: Settings, spec: Spec, place: Any) -> KpiHours | str:
    """Draw the tiles of the last closed hour; return the KPIs' rows, or why there are none."""
    wanted = {kpi.name for kpi in spec.kpis if not kpi.by and not kpi.of_readings}
    # An alert's table may be that of anomalies too.
    wanted |= {str(alert.kpi).partition(".")[0] for alert in spec.alerts if alert.kpi}
    if not wanted:
        return {}
    found: KpiHours | str = "the lake is away"
    with place, guarded("the KPIs of closed hours"):
        lake = LakeReadings(settings, spec)
        found = {name: lake.kpi(name, 2) for name in sorted(wanted)}
        tiles = kpi_tiles(spec, found)
        if tiles:
            last = max(hour for hours in found.values() for hour in hours)
            st.markdown(f"#### Last closed hour: {last:%Y-%m-%d %H:00} UTC")
            draw_tiles(tiles)
    return found


def _alerts(spec: Spec, answers: _Answers, hours: KpiHours | str) -> list[AlertState]:
    states = []
    for alert in spec.alerts:
        if alert.field is not None:
            now, before = (s.broken[alert.name] for s in (answers.now, answers.before))
            reason = answers.reasons.get(alert.name, "")
            states.append(reading_alert(spec, alert, now, before, reason))
        elif isinstance(hours, str):
            states.append(kpi_alert(spec, alert, {})._replace(reason=hours))
        else:
            kpi = str(alert.kpi).partition(".")[0]
            states.append(kpi_alert(spec, alert, hours.get(kpi, {})))
    return states


def _draw_map(shown: Layout, answers: _Answers) -> None:
    # Names are texts of the data; those of columns must not be read as ways into objects.
    names = {f"v{i}": variable.name for i, variable in enumerate(shown.variables)}
    rows = [
        {
            **dict(zip(names, values, strict=True)),
            "at": at,
            "place": place,
            "name": place if len(answers.places) <= _NAMES_ON_MAP else "",
            "latitude": latitude,
            "longitude": longitude,
            "state": "beyond a limit" if beyond else "within the limits",
        }
        for at, place, beyond, latitude, longitude, *values in answers.places
    ]
    if not rows:
        reason = answers.reasons.get("places")
        st.caption(escaped(reason or "No reading of this period tells where it was made."))
        return
    # What is drawn last lies on top.
    rows.sort(key=lambda row: row["state"], reverse=True)
    data = frame(rows, list(rows[0]))
    st.altair_chart(charts.places(data, names), key="live map")
