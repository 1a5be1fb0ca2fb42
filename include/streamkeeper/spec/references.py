"""Mistakes that one key alone does not show: fields, windows and KPIs that name one another.

The checks read the raw data, not the models, so that a file with other mistakes still shows these.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from streamkeeper.spec import raw
from streamkeeper.spec.anomalies import VERDICT_NUMBERS, anomaly_problems
from streamkeeper.spec.columns import Columns
from streamkeeper.spec.dashboard import dashboard_problems
from streamkeeper.spec.document import KeyPath, Problem
from streamkeeper.spec.durations import format_duration
from streamkeeper.spec.field_types import is_number
from streamkeeper.spec.places import place_problems
from streamkeeper.spec.producer_references import producer_problems
from streamkeeper.spec.sink_references import sink_problems

_CRON = re.compile(r"^\S+( \S+){4}$")
WINDOW_COLUMNS = ("window_start", "window_end", "day")
# Spark writes a reading once for each window that it lies in.
MOST_OVERLAPPING = 200
MOST = {"checks": 200, "windows": 20, "sinks": 50, "kpis": 100, "anomalies": 100, "alerts": 200}


class References:
    """The checks over one declaration's raw data."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data
        self.columns = Columns(data)
        self.windows = raw.items(data.get("windows"))
        self.kpis = raw.items(data.get("kpis"))
        self.anomalies = raw.items(data.get("anomalies"))

    def problems(self) -> Iterator[Problem]:
        """Yield every mistake found."""
        yield from self._numbers()
        yield from self.columns.problems()
        yield from self._source()
        csv = raw.mapping(self.data.get("source")).get("format") == "csv"
        yield from place_problems(self.columns.fields, csv=csv)
        yield from self._checks()
        yield from self._event_time()
        yield from self._windows()
        yield from sink_problems(self.data, self.columns)
        yield from self._kpis()
        yield from anomaly_problems(self.data)
        for i, anomaly in enumerate(self.anomalies):
            yield from self._kpi_column(("anomalies", i, "of"), raw.mapping(anomaly).get("of"))
        yield from self._alerts()
        yield from self._report()
        yield from dashboard_problems(self.data, self.columns)
        yield from producer_problems(self.data, self.columns.fields)
        yield from self._schedule()

    def _numbers(self) -> Iterator[Problem]:
        for part, most in MOST.items():
            given = self.data.get(part)
            if isinstance(given, list) and len(given) > most:
                yield Problem((part,), f"a stream has at most {most} of them", len(given))

    def _source(self) -> Iterator[Problem]:
        source = raw.mapping(self.data.get("source"))
        path: KeyPath = ("source", "csv")
        if "csv" in source and source.get("format", "json") != "csv":
            yield Problem(path, "needs `format: csv` beside it")
        csv = raw.mapping(source.get("csv"))
        if csv.get("delimiter") in ('"', "\\", "\n", "\r"):
            yield Problem((*path, "delimiter"), "cannot stand between cells", csv["delimiter"])
        columns = raw.texts(csv.get("columns"))
        for name in dict.fromkeys(c for c in columns if columns.count(c) > 1):
            yield Problem((*path, "columns"), "this column stands twice", name)
        for name, field in self.columns.fields.items():
            column = raw.text(field.get("path")) or name
            if columns and source.get("format") == "csv" and column not in columns:
                message = "no such column is listed in source.csv.columns"
                yield Problem(("fields", name), message, column, tuple(columns))

    def _checks(self) -> Iterator[Problem]:
        checks = raw.items(self.data.get("checks"))
        yield from raw.unique(("checks",), checks)
        for i, check in enumerate(checks):
            expect = raw.mapping(check).get("expect")
            yield from self.columns.condition(("checks", i, "expect"), expect)

    def _event_time(self) -> Iterator[Problem]:
        field = raw.text(raw.mapping(self.data.get("event_time")).get("field"))
        path: KeyPath = ("event_time", "field")
        fields = self.columns.fields
        if field is not None and field not in fields:
            yield Problem(path, "no such field is declared", field, tuple(fields))
        if field in fields and fields[field].get("type") != "timestamp":
            times = tuple(f for f, given in fields.items() if given.get("type") == "timestamp")
            yield Problem(path, "event time must be a timestamp field", field, times)

    def _measures(self, path: KeyPath, owner: dict[str, Any], streaming: bool) -> Iterator[Problem]:
        by = raw.items(owner.get("by"))
        for i, field in enumerate(by):
            yield from self.columns.known((*path, "by", i), field)
            if field in by[:i]:
                yield Problem((*path, "by", i), "this key stands twice", field)
        yield from self.columns.condition((*path, "where"), owner.get("where"))
        keys = [key.lower() for key in raw.texts(by)]
        found: list[Problem] = []
        for name, text in raw.mapping(owner.get("measures")).items():
            here: KeyPath = (*path, "measures", name)
            self.columns.expression(here, text, found, aggregates=True, streaming=streaming)
            if name.lower() in keys:
                found.append(Problem(here, "has the name of a key in `by`", name))
        yield from found

    def _windows(self) -> Iterator[Problem]:
        yield from raw.unique(("windows",), self.windows)
        for i, window in enumerate(self.windows):
            yield from _window_times(("windows", i), raw.mapping(window))
            yield from self._measures(("windows", i), raw.mapping(window), True)
            for name in raw.mapping(raw.mapping(window).get("measures")):
                if name in WINDOW_COLUMNS:
                    message = "is a column that every window has"
                    yield Problem(("windows", i, "measures", name), message, name)
            for j, name in enumerate(raw.items(raw.mapping(window).get("by"))):
                if isinstance(name, str) and name.lower() in WINDOW_COLUMNS:
                    message = "is a column that every window has; derive one of another name"
                    yield Problem(("windows", i, "by", j), message, name)

    def _kpis(self) -> Iterator[Problem]:
        yield from raw.unique(("kpis",), self.kpis)
        for i, given in enumerate(self.kpis):
            kpi, path = raw.mapping(given), ("kpis", i)
            yield from self._measures(path, kpi, False)
            yield from self._folders(path, kpi)
            order = kpi.get("order_by")
            grouped = bool(kpi.get("measures"))
            if "top" not in kpi and not grouped:
                message = "a KPI has either `measures` or `top` with `order_by`, or both"
                yield Problem(path, message, kpi.get("name"))
            elif "top" in kpi and grouped and not kpi.get("by"):
                message = "one row has no first ones; add `by`, or leave this out"
                yield Problem((*path, "top"), message, kpi["top"])
            elif "top" in kpi and order is None:
                what = "a key or measure" if grouped else "a field"
                yield Problem((*path, "top"), f"`top` needs `order_by`, {what}", kpi["top"])
            elif isinstance(order, str) and order not in self._kpi_columns(kpi):
                message = "no such column to order by"
                yield Problem((*path, "order_by"), message, order, self._kpi_columns(kpi))

    def _folders(self, path: KeyPath, kpi: dict[str, Any]) -> Iterator[Problem]:
        """Check that a KPI's further folders are not those of other KPIs."""
        name, csv = kpi.get("name"), kpi.get("csv") is True
        kinds = raw.texts(kpi.get("periods"))
        made = [("csv", f"{name}_csv")] if csv else []
        made += [("periods", f"{name}_{kind}") for kind in kinds]
        made += [("periods", f"{name}_{kind}_csv") for kind in kinds if csv]
        for key, folder in made:
            if folder in raw.names(self.kpis):
                told = f"its folder would be that of the KPI {folder}; rename one"
                yield Problem((*path, key), told, kpi[key])

    def _kpi_columns(self, kpi: dict[str, Any]) -> tuple[str, ...]:
        if not kpi.get("measures"):
            return tuple(self.columns.types)
        return (*map(str, raw.items(kpi.get("by"))), *raw.mapping(kpi.get("measures")))

    def _kpi_column(
        self, path: KeyPath, text: Any, verdicts: tuple[str, ...] = ()
    ) -> Iterator[Problem]:
        """Check a text of the form `kpi.column`; verdicts, what may stand there besides."""
        if not isinstance(text, str):
            return
        columns = {
            f"{raw.mapping(k).get('name')}.{name}": measure
            for k in self.kpis
            for name, measure in raw.mapping(raw.mapping(k).get("measures")).items()
        }
        numbers = tuple(name for name, measure in columns.items() if self._may_be_number(measure))
        numbers += verdicts
        if text not in columns and text not in verdicts:
            yield Problem(path, "no such KPI column; write kpi.column", text, numbers)
        elif text not in numbers:
            yield Problem(path, "this KPI column is no number", text, numbers)

    def _may_be_number(self, measure: Any) -> bool:
        found = self.columns.expression((), measure, [], aggregates=True)
        return found is None or is_number(found.type)

    def _alerts(self) -> Iterator[Problem]:
        alerts = raw.items(self.data.get("alerts"))
        yield from raw.unique(("alerts",), alerts)
        verdicts = tuple(f"{n}.{c}" for n in raw.names(self.anomalies) for c in VERDICT_NUMBERS)
        for i, given in enumerate(alerts):
            alert, path = raw.mapping(given), ("alerts", i)
            if ("field" in alert) == ("kpi" in alert):
                message = "an alert watches either a `field` or a `kpi` (kpi.column)"
                yield Problem(path, message, alert.get("name"))
            if ("above" in alert) == ("below" in alert):
                message = "an alert has either `above` or `below`"
                yield Problem(path, message, alert.get("name"))
            field, numbers = raw.text(alert.get("field")), self.columns.numbers()
            yield from self.columns.known((*path, "field"), field)
            typed = field in self.columns.types and field not in self.columns.unclear
            if typed and field not in numbers:
                yield Problem((*path, "field"), "an alert needs a number", field, numbers)
            yield from self.columns.condition((*path, "where"), alert.get("where"))
            if "where" in alert and "kpi" in alert:
                message = "is of readings; put the condition into the KPI's own `where`"
                yield Problem((*path, "where"), message, alert["where"])
            yield from self._kpi_column((*path, "kpi"), alert.get("kpi"), verdicts)

    def _report(self) -> Iterator[Problem]:
        report = raw.mapping(self.data.get("report"))
        yield from self._kpi_column(("report", "chart"), report.get("chart"))
        for i, address in enumerate(raw.items(report.get("to"))):
            if not isinstance(address, str) or not re.match(r"^[^@\s,]+@[^@\s,]+$", address):
                yield Problem(("report", "to", i), "is no mail address", address)

    def _schedule(self) -> Iterator[Problem]:
        for key, example in (("schedule", "0 * * * *"), ("daily", "30 1 * * *")):
            schedule = raw.mapping(self.data.get("hours")).get(key)
            if isinstance(schedule, str) and not _CRON.match(schedule):
                message = f"a schedule is five cron fields, such as {example}"
                yield Problem(("hours", key), message, schedule)


def _window_times(path: KeyPath, window: dict[str, Any]) -> Iterator[Problem]:
    size, slide = (raw.duration(window.get(key)) for key in ("size", "slide"))
    for key, given in (("size", size), ("slide", slide)):
        if given == timedelta(0):
            yield Problem((*path, key), "must be longer than nothing", window[key])
    if not size or not slide:
        return
    if size % slide:
        told = f"the size, {format_duration(size)}, must be a whole number of slides"
        yield Problem((*path, "slide"), told, window["slide"])
    elif size // slide > MOST_OVERLAPPING:
        told = f"a reading may lie in at most {MOST_OVERLAPPING} windows, not {size // slide:,}"
        yield Problem((*path, "slide"), told, window["slide"])
