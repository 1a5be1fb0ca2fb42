"""What the dashboard shows of a declaration, and its figures against slow computations."""

from __future__ import annotations

import math
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkeeper.dashboard_questions import (
    AT,
    DUCKDB,
    ROWS,
    Broken,
    Keys,
    Last,
    Means,
    Pairs,
    Question,
    postgres,
)
from streamkeeper.dashboards import (
    EPOCH,
    Group,
    Hits,
    Seen,
    Span,
    Stat,
    Variable,
    age,
    figure,
    in_all,
    kpi_alert,
    kpi_tiles,
    last_span,
    layout,
    live_tiles,
    pairs_of_means,
    reading_alert,
    step_of,
    tile,
)
from streamkeeper.errors import DeclarationError
from streamkeeper.spec.loader import load_spec
from streamkeeper.spec.models import Alert, Spec
from streamkeeper_io.cassandra_windows import partitions

STREAMS = Path(__file__).parents[2] / "include" / "streams"
BEGIN = datetime(2026, 11, 26, 10, tzinfo=UTC)
SPAN = Span(BEGIN, BEGIN + timedelta(hours=2))
SECOND = timedelta(seconds=1)
DATABASE = duckdb.connect(config={"threads": 1})


def declared(tmp_path: Path, **more: Any) -> Spec:
    declaration = {
        "description": "Readings of the tests.",
        "source": {"kafka": {"topic": "readings"}},
        "fields": {
            "sensor": {"type": "string"},
            "latitude": {"type": "double"},
            "longitude": {"type": "double"},
            "t": {"type": "double", "unit": "°C"},
            "level": {"type": "int32"},
            "price": {"type": "decimal(9,2)"},
            "ok": {"type": "boolean"},
            "at": {"type": "timestamp"},
        },
        "event_time": {"field": "at"},
        "lake": {"path": "/readings"},
        "kpis": [
            {"name": "all", "measures": {"n": "count(*)", "mean": "avg(t)"}},
            {"name": "by_level", "by": ["level"], "measures": {"top": "max(t)"}},
        ],
        "alerts": [
            {"name": "hot", "field": "t", "above": 30, "where": "ok and sensor <> 'b'"},
            {"name": "cold", "field": "t", "below": -5},
            {"name": "hot_hour", "kpi": "by_level.top", "above": 40},
        ],
    }
    path = tmp_path / "readings.yaml"
    path.write_text(yaml.safe_dump(declaration | more, sort_keys=False))
    return load_spec(path)


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Spec:
    return declared(tmp_path_factory.mktemp("spec"))


def alert(spec: Spec, name: str) -> Alert:
    return next(a for a in spec.alerts if a.name == name)


def variables(*columns: str) -> tuple[Variable, ...]:
    return tuple(Variable(name, name) for name in columns)


# What is shown
def test_names_and_types_tell_what_is_shown(spec: Spec) -> None:
    shown = layout(spec)
    assert shown.by == "level"
    assert [v.name for v in shown.variables] == ["t", "price"]
    assert shown.map is not None
    assert (shown.map.latitude, shown.map.longitude, shown.map.label) == (
        "latitude",
        "longitude",
        "level",
    )


def test_a_declaration_tells_better(tmp_path: Path) -> None:
    places = {"latitude": "t", "longitude": "price"}
    shown = layout(declared(tmp_path, dashboard={"by": "ok", "series": ["level"], "map": places}))
    assert (shown.by, shown.variables) == ("ok", (Variable("level", "level"),))
    assert shown.map is not None
    assert (shown.map.latitude, shown.map.label) == ("t", "ok")


def kinds_declared(tmp_path: Path, *kinds: Any, **dashboard: Any) -> Spec:
    fields = {
        "sensor": {"type": "string", "allowed": list(kinds)},
        "t": {"type": "double", "unit": "°C"},
        "u": {"type": "double"},
        "ok": {"type": "boolean"},
        "at": {"type": "timestamp"},
    }
    given = {"by": "ok", "kinds": "sensor"} | dashboard
    return declared(tmp_path, fields=fields, kpis=[], alerts=[], dashboard=given)


def test_what_a_column_tells_apart_is_drawn_apart(tmp_path: Path) -> None:
    spec = kinds_declared(tmp_path, "a", "it's", where="ok", series=["t"])
    shown = layout(spec)
    assert shown.apart
    assert [(v.name, v.column) for v in shown.variables] == [("a", "t"), ("it's", "t")]
    rows = [
        {"second": n, "sensor": s, "t": t, "u": t, "latitude": 0, "longitude": 0, "ok": n != 4}
        for n, (s, t) in enumerate([("a", 1.0), ("it's", 7.0), ("b", 9.0), ("a", 2.0), ("a", 5.0)])
    ]
    (group,) = asked(Means(shown.variables), rows[:2], rows[2:])
    assert group.rows == 5
    assert group.stats == (Stat(2, 1.5, 1.0, 2.0), Stat(1, 7.0, 7.0, 7.0))
    tiles = live_tiles(spec, shown, Seen(group, None, {}), None)
    assert [(t.label, t.value) for t in tiles[-2:]] == [
        ("mean a (°C)", "1.5"),
        ("mean it's (°C)", "7"),
    ]
    both = [v.name for v in layout(kinds_declared(tmp_path, "a", "b")).variables]
    assert both == ["t: a", "t: b", "u: a", "u: b"]


def test_kinds_are_correlated_by_steps(tmp_path: Path) -> None:
    given = np.random.default_rng(3).normal(size=(40, 2))
    steps = [
        Group(BEGIN + n * SECOND, None, 2, (Stat(1, x, x, x), Stat(1, y, y, y)))
        for n, (x, y) in enumerate(given)
    ]
    # A step that has one of them only tells nothing.
    lone = Group(BEGIN - SECOND, None, 1, (Stat(1, 99.0, 99.0, 99.0), Stat()))
    (pair,) = pairs_of_means([lone, *steps], 2)
    assert pair.n == 40
    assert pair.correlation == pytest.approx(np.corrcoef(given.T)[0, 1])


@pytest.mark.parametrize(
    ("kinds", "dashboard", "told"),
    [
        ([], {}, "dashboard.kinds: 'sensor' needs a field whose values are texts"),
        (["a"], {"kinds": "t"}, "dashboard.kinds: 't' needs a field whose values are texts"),
        (["a"], {"kinds": "senso"}, "did you mean 'sensor'?"),
        (list("abcde"), {"series": ["t", "u"]}, "5 kinds of 2 numbers are more than the 8 series"),
    ],
)
def test_kinds_that_cannot_be_told_apart(
    tmp_path: Path, kinds: list[str], dashboard: dict[str, Any], told: str
) -> None:
    with pytest.raises(DeclarationError) as caught:
        kinds_declared(tmp_path, *kinds, **dashboard)
    assert told in str(caught.value)


@pytest.mark.parametrize("path", sorted(STREAMS.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_stream_of_the_project_has_something_to_show(path: Path) -> None:
    shown = layout(load_spec(path))
    assert shown.by
    assert shown.variables


def test_all_mistakes_are_told(tmp_path: Path) -> None:
    wrong = {"by": "sensr", "series": ["t", "t", "sensor"], "map": {"latitude": "lat"}}
    with pytest.raises(DeclarationError) as caught:
        declared(tmp_path, dashboard=wrong)
    text = str(caught.value)
    assert "dashboard.by: 'sensr' no such field is declared" in text
    assert "did you mean 'sensor'?" in text
    assert "dashboard.series[1]: 't' this column stands twice" in text
    assert "only a number can be drawn; this column is string" in text
    assert "dashboard.map.latitude: 'lat' no such field is declared" in text
    assert "dashboard.map.longitude" in text


# Questions
values = st.one_of(st.none(), st.floats(-50, 50))
rows_of_readings = st.lists(
    st.fixed_dictionaries(
        {
            "second": st.integers(-600, 8000),
            "sensor": st.sampled_from(["a", "b", "it's", None]),
            "t": values,
            "u": values,
            "latitude": values,
            "longitude": values,
            "ok": st.sampled_from([True, False, None]),
        }
    ),
    max_size=40,
)
Row = dict[str, Any]


def asked(question: Question, *parts: list[Row]) -> list[Any]:
    """Ask each part by DuckDB, as the lake is asked hour by hour, and put the answers together."""
    answers = []
    for rows in parts:
        table = pa.table(
            {
                AT: pa.array([1_000_000 * r["second"] + start() for r in rows], pa.int64()),
                **{n: pa.array([r[n] for r in rows], pa.string()) for n in ("sensor",)},
                **{
                    n: pa.array([r[n] for r in rows], pa.float64())
                    for n in ("t", "u", "latitude", "longitude")
                },
                "ok": pa.array([r["ok"] for r in rows], pa.bool_()),
            }
        )
        DATABASE.register(ROWS, table)
        answers.append(DATABASE.execute(question.sql(DUCKDB, SPAN)).fetchall())
    return question.merge(answers)


def start() -> int:
    return (BEGIN - EPOCH) // timedelta(microseconds=1)


def inside(rows: list[Row]) -> list[Row]:
    return [r for r in rows if 0 <= r["second"] < 7200]


def slow_stat(found: list[float | None]) -> Stat:
    known = [v for v in found if v is not None]
    if not known:
        return Stat()
    return Stat(len(known), math.fsum(known) / len(known), min(known), max(known))


def same(one: Stat, other: Stat) -> bool:
    if one.n != other.n or (one.low, one.high) != (other.low, other.high):
        return False
    return one.mean == other.mean or math.isclose(one.mean or 0, other.mean or 0, abs_tol=1e-9)


@settings(max_examples=50)
@given(rows_of_readings, st.integers(0, 40), st.sampled_from([None, 60, 3600, 5400]), st.booleans())
def test_means_are_those_of_a_slow_computation(
    rows: list[Row], cut: int, step: int | None, by: bool
) -> None:
    question = Means(variables("t", "u"), step and step * SECOND, "sensor" if by else None)
    found = asked(question, rows[:cut], rows[cut:])
    groups: dict[Any, list[Row]] = defaultdict(list)
    for row in inside(rows):
        seconds = start() // 10**6 + row["second"]
        at = EPOCH + seconds // step * step * SECOND if step else None
        groups[at, row["sensor"] if by else None].append(row)
    assert {(g.at, g.key) for g in found if g.rows} == set(groups)
    for group in found:
        mine = groups[group.at, group.key]
        assert group.rows == len(mine)
        for stat, name in zip(group.stats, ("t", "u"), strict=True):
            assert same(stat, slow_stat([r[name] for r in mine]))
    whole = in_all(found, 2)
    assert whole.rows == len(inside(rows))
    assert same(whole.stats[0], slow_stat([r["t"] for r in inside(rows)]))


def test_means_of_some_keys(spec: Spec) -> None:
    rows = [
        {"second": n, "sensor": s, "t": 1.0, "u": 1.0, "latitude": 0, "longitude": 0, "ok": True}
        for n, s in enumerate(["a", "a", "b", "it's"])
    ]
    found = asked(Means((), by="sensor", only=("a", "it's")), rows)
    assert [(g.key, g.rows) for g in found] == [("a", 2), ("it's", 1)]
    assert asked(Means((), by="sensor", only=()), rows) == []
    found = asked(Means((), by="sensor", most=1), rows[:2], rows[2:])
    assert [(g.key, g.rows) for g in found] == [("a", 2)]


@settings(max_examples=50)
@given(rows_of_readings, st.integers(0, 40))
def test_alerts_are_counted_as_a_slow_computation_does(
    spec: Spec, rows: list[Row], cut: int
) -> None:
    for name in ("hot", "cold"):
        watched = alert(spec, name)
        broken = [r for r in inside(rows) if r["t"] is not None and slow_breaks(name, r)]
        for by in (None, "sensor"):
            expected: dict[Any, list[Row]] = defaultdict(list)
            for row in broken:
                expected[row["sensor"] if by else None].append(row)
            found = asked(Broken(watched, by=by), rows[:cut], rows[cut:])
            assert {h.key: h.readings for h in found} == {k: len(v) for k, v in expected.items()}
            for hits in found:
                mine = expected[hits.key]
                worst = (max if name == "hot" else min)(r["t"] for r in mine)
                assert hits.worst == worst
                assert hits.last == BEGIN + max(r["second"] for r in mine) * SECOND
        by_minute = asked(Broken(watched, step=60 * SECOND), rows[:cut], rows[cut:])
        assert sum(h.readings for h in by_minute) == len(broken)


def slow_breaks(name: str, row: Row) -> bool:
    if name == "cold":
        return row["t"] < -5
    return row["t"] > 30 and row["ok"] is True and row["sensor"] in ("a", "it's")


@settings(max_examples=50)
@given(rows_of_readings, st.integers(0, 40))
def test_the_last_reading_of_each_place(spec: Spec, rows: list[Row], cut: int) -> None:
    watched = (alert(spec, "hot"), alert(spec, "cold"))
    question = Last("sensor", ("latitude", "longitude"), variables("t"), watched)
    found = asked(question, rows[:cut], rows[cut:])
    known = [r for r in inside(rows) if None not in (r["sensor"], r["latitude"], r["longitude"])]
    assert [f[1] for f in found] == sorted({r["sensor"] for r in known})
    for at, sensor, beyond, *values in found:
        last = max(r["second"] for r in known if r["sensor"] == sensor)
        assert at == BEGIN + last * SECOND
        assert (beyond, *values) in [
            (
                r["t"] is not None and any(slow_breaks(name, r) for name in ("hot", "cold")),
                *(r["latitude"], r["longitude"], r["t"]),
            )
            for r in known
            if (r["sensor"], r["second"]) == (sensor, last)
        ]


@settings(max_examples=50)
@given(rows_of_readings, st.integers(0, 40))
def test_correlations_are_those_of_numpy(rows: list[Row], cut: int) -> None:
    question = Pairs(variables("t", "u"))
    (pair,) = asked(question, rows[:cut], rows[cut:])
    both = [(r["t"], r["u"]) for r in inside(rows) if None not in (r["t"], r["u"])]
    assert pair.n == len(both)
    if len(both) < 2 or any(np.std(column) < 1e-6 for column in zip(*both, strict=True)):
        return
    assert pair.correlation == pytest.approx(np.corrcoef(np.array(both).T)[0, 1], abs=1e-6)


def test_correlations_need_two_that_change() -> None:
    rows = [
        {"second": n, "sensor": "a", "t": 7.0, "u": float(n), "latitude": 0, "longitude": 0}
        for n in range(5)
    ]
    rows = [r | {"ok": True} for r in rows]
    (pair,) = asked(Pairs(variables("t", "u")), rows)
    assert (pair.n, pair.correlation) == (5, None)
    assert asked(Pairs(variables("t")), rows) == []
    told = [(x.name, y.name) for x, y in Pairs(variables("a", "b", "c")).pairs]
    assert told == [("a", "b"), ("a", "c"), ("b", "c")]


def test_known_keys_are_those_without_null() -> None:
    rows = [
        {"second": n, "sensor": s, "t": t, "u": 1.0, "latitude": 0, "longitude": 0, "ok": True}
        for n, (s, t) in enumerate([("b", 1.0), ("a", 2.0), (None, 3.0), ("a", None), ("b", 1.0)])
    ]
    assert asked(Keys(("sensor", "t")), rows[:1], rows[1:]) == [("a", 2.0), ("b", 1.0)]


def test_partitions_are_keys_and_days() -> None:
    span = Span(BEGIN, BEGIN + timedelta(hours=20))
    days = [BEGIN.date(), BEGIN.date() + timedelta(days=1)]
    keys = [("a", 1), ("b", 2)]
    assert partitions(keys, span) == [(*key, day) for key in keys for day in days]
    assert partitions([()], SPAN) == [(BEGIN.date(),)]


def test_names_and_texts_are_quoted_in_sql() -> None:
    dialect = postgres('"public"."x"', 'at"; drop table x; --')
    sql = Means((), by='k"', only=("it's",)).sql(dialect, SPAN)
    assert '"at""; drop table x; --"' in sql
    assert "CAST(\"k\"\"\" AS text) IN ('it''s')" in sql
    assert "TIMESTAMPTZ '2026-11-26T10:00:00+00:00'" in sql


# Figures
@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((None, "–"), (math.nan, "–"), (math.inf, "–"), (0, "0"), (1234567, "1,234,567")),
        *((12.34567, "12.35"), (0.000123456, "0.0001235"), (4321.7, "4,322"), (-2.5, "-2.5")),
        (1e300, "1.000e+300"),
    ],
)
def test_numbers_are_short(value: float | None, text: str) -> None:
    assert figure(value) == text


def test_a_tile_tells_its_change() -> None:
    assert tile("t", 21.5, 20.0, "°C") == ("t (°C)", "21.5", "+1.5")
    assert tile("t", 20.0, 21.5) == ("t", "20", "-1.5")
    assert tile("t", 20.0, 20.0) == ("t", "20", "±0")
    assert tile("t", 20.0, None) == ("t", "20", "")
    assert tile("t", None, 20.0) == ("t", "–", "")
    assert tile("t", math.nan, 20.0) == ("t", "–", "")


def test_tiles_of_a_period_beside_the_one_before(spec: Spec) -> None:
    shown = layout(spec)
    hits = {"hot": Hits(None, None, 3, 31.0, BEGIN), "cold": None}
    now = Seen(Group(None, None, 10, (Stat(9, 21.0, 1, 40), Stat())), 4, hits)
    none = {"hot": Hits(None, None, 0, None, None), "cold": None}
    before = Seen(Group(None, None, 8, (Stat(8, 20.0, 1, 40), Stat())), 5, none)
    assert live_tiles(spec, shown, now, before) == [
        ("readings", "10", "+2"),
        ("different level", "4", "-1"),
        ("beyond a limit", "3", "+3"),
        ("mean t (°C)", "21", "+1"),
        ("mean price", "–", ""),
    ]
    # Nothing is told to have grown from a period of which there is nothing.
    empty = Seen(Group(None, None, 0, (Stat(), Stat())), 0, none)
    assert [t.change for t in live_tiles(spec, shown, now, empty)] == [""] * 5


def test_tiles_of_the_last_closed_hour(spec: Spec) -> None:
    hours = {
        "all": {BEGIN: [{"n": 100, "mean": 20.0}], SPAN.end: [{"n": 90, "mean": None}]},
        "by_level": {BEGIN: [{"level": 1, "top": 30.0}]},
    }
    assert kpi_tiles(spec, hours) == [("n", "90", "-10"), ("mean (°C)", "–", "")]
    assert kpi_tiles(spec, {}) == []


def test_alerts_on_kpis(spec: Spec) -> None:
    watched = alert(spec, "hot_hour")
    rows = [{"level": 1, "top": 41.0}, {"level": 2, "top": 45.5}, {"level": 3, "top": None}]
    state = kpi_alert(spec, watched, {BEGIN: rows[:1], SPAN.end: rows})
    assert (state.broken, state.worst, state.last, state.before) == (2, 45.5, SPAN.end, 1)
    assert state.condition == "by_level.top above 40 °C"
    assert kpi_alert(spec, watched, {BEGIN: rows[2:]}).broken == 0
    assert kpi_alert(spec, watched, {}).reason == "no hour is closed yet"


def test_alerts_that_cannot_be_told_say_why(spec: Spec) -> None:
    state = reading_alert(spec, alert(spec, "hot"), None, None, "no column t")
    assert (state.broken, state.reason) == (None, "no column t")
    assert state.condition == "t above 30 °C where ok and sensor <> 'b'"


def test_periods_and_steps() -> None:
    span = last_span(BEGIN, timedelta(minutes=15))
    assert BEGIN in span
    assert span.before.end == span.begin
    assert span.length == span.before.length == timedelta(minutes=15)
    assert step_of(timedelta(minutes=15)) == timedelta(seconds=10)
    assert step_of(timedelta(days=1)) == timedelta(minutes=15)
    assert step_of(timedelta(days=3650)) == timedelta(days=1)
    assert [age(n * SECOND) for n in (-5, 4, 119, 120, 7200, 200_000)] == [
        "ahead of this clock",
        "4 s ago",
        "119 s ago",
        "2 min ago",
        "2 h ago",
        "2 d ago",
    ]
