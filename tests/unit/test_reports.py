"""Reports: alert conditions, the subject, Markdown and HTML that show values as they are."""

from __future__ import annotations

import itertools
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from streamkeeper.hours import Revision
from streamkeeper.report_text import markdown, plain, subject
from streamkeeper.reports import (
    Broken,
    HourReport,
    breaks,
    broken_by_readings,
    hour_report,
)
from streamkeeper.spec.models import Alert, Spec
from streamkeeper_io.reports import breaking_readings, broken_conditions, render

HOUR = datetime(2026, 11, 24, 14, tzinfo=UTC)
SPEC = Spec.model_validate(
    {
        "name": "temperature",
        "description": "Readings of the tests.",
        "app": "temperature",
        "source": {"kafka": {"topic": "readings"}},
        "fields": {
            "city": {"type": "string"},
            "temperature": {"type": "double", "unit": "°C"},
            "level": {"type": "integer"},
            "timestamp": {"type": "timestamp"},
        },
        "event_time": {"field": "timestamp"},
        "lake": {"path": "/tmp/readings"},
        "windows": [
            {
                "name": "city_30s",
                "size": "30s",
                "watermark": "1min",
                "by": ["city"],
                "measures": {"mean": "avg(temperature)", "n": "count(*)"},
            }
        ],
        "kpis": [
            {"name": "overall", "measures": {"readings": "count(*)", "cold": "min(temperature)"}},
            {
                "name": "by_city",
                "by": ["city"],
                "measures": {"mean": "avg(temperature)", "readings": "count(*)"},
                "order_by": "mean",
            },
        ],
        "alerts": [
            {"name": "hot", "field": "temperature", "above": 40},
            {"name": "cold", "field": "temperature", "below": 20},
            {"name": "below_zero", "field": "level", "below": 0},
            {"name": "warm_city", "kpi": "by_city.mean", "above": 30},
        ],
        "report": {"title": "Temperature", "to": ["a@b"], "chart": "by_city.mean"},
    }
)


def revision(**changed: Any) -> Revision:
    counts = {"valid": 3, "added": 3, "quarantined": 0, "quarantined_by_rule": {}, "reason": ""}
    fields: dict[str, Any] = {
        "stream": "temperature",
        "hour": HOUR,
        "revision": 1,
        "epoch": 4,
        "write_number": 4 * 10**9,
        "state": "complete",
        "merged": {},
        "files": {},
        "counts": counts,
        "committed_at": HOUR + timedelta(hours=2),
    }
    return Revision(**(fields | changed))


def curated(rows: list[tuple[str | None, float | None, int | None]]) -> pa.Table:
    times = [HOUR + timedelta(seconds=40 * n) for n in range(len(rows))]
    return pa.table(
        {
            "city": pa.array([r[0] for r in rows], pa.string()),
            "temperature": pa.array([r[1] for r in rows], pa.float64()),
            "level": pa.array([r[2] for r in rows], pa.int64()),
            "timestamp": pa.array(times, pa.timestamp("us", "UTC")),
            "_event_time": pa.array(times, pa.timestamp("us", "UTC")),
        }
    )


def report_of(
    rows: list[tuple[str | None, float | None, int | None]],
    kpis: dict[str, list[dict[str, Any]]] | None = None,
    **changed: Any,
) -> HourReport:
    table = curated(rows)
    found = []
    for alert in SPEC.alerts:
        if alert.field is not None:
            count, worst = breaking_readings(SPEC, alert, table)
            found.append(broken_by_readings(SPEC, alert, count, worst))
    return hour_report(SPEC, revision(**changed), kpis or {}, [b for b in found if b])


def test_conditions_are_counted_with_the_worst_reading_first() -> None:
    rows = [("Fes", 41.0, 1), ("Rabat", 44.0, 2), ("Agadir", 40.0, 3), ("Fes", None, None)]
    (hot,) = report_of(rows).broken
    assert (hot.name, hot.count, hot.worst) == ("hot", 2, 44.0)
    assert hot.condition == "temperature above 40 °C"
    assert hot.columns == ("temperature", "city", "level", "timestamp")
    assert hot.rows[0] == (44.0, "Rabat", 2, "2026-11-24 14:00:40")
    assert hot.distance == pytest.approx(0.1)


def test_a_condition_of_its_own_readings_is_told_from_its_zone() -> None:
    plain = SPEC.dump()
    plain["alerts"][0]["where"] = "city = 'Fes'"
    spec = Spec.model_validate(plain)
    rows = curated([("Fes", 41.0, 1), ("Rabat", 44.0, 2)])
    worst = rows.slice(0, 1).drop_columns(["_event_time"]).append_column("_count", [[3]])
    (hot,) = broken_conditions(spec, rows, {"alerts/hot": worst})
    assert (hot.count, hot.worst) == (3, 41.0)
    assert hot.condition == "temperature above 40 °C where city = 'Fes'"
    assert hot.columns == ("temperature", "city", "level", "timestamp")
    assert broken_conditions(spec, rows, {}) == []


def test_conditions_are_listed_by_how_far_beyond_their_limit_the_worst_lies() -> None:
    rows = [("Fes", 42.0, 5), ("Fes", 15.0, 5), ("Fes", 25.0, -2)]
    kpis = {"by_city": [{"city": "Fes", "mean": 30.3, "readings": 3}]}
    names = [broken.name for broken in report_of(rows, kpis).broken]
    assert names == ["below_zero", "cold", "hot", "warm_city"]


def test_rows_of_a_kpi_break_a_condition_too() -> None:
    kpis = {
        "by_city": [
            {"city": "Fes", "mean": 31.0, "readings": 3},
            {"city": "Rabat", "mean": 33.0, "readings": 3},
            {"city": "Agadir", "mean": None, "readings": 3},
        ]
    }
    (warm,) = report_of([], kpis).broken
    assert (warm.count, warm.of, warm.worst) == (2, "KPI rows", 33.0)
    assert warm.condition == "by_city.mean above 30 °C"
    assert [row[1] for row in warm.rows] == ["Rabat", "Fes"]


@pytest.mark.parametrize(
    ("alert", "value", "broken"),
    [
        ({"above": 40}, 40.0, False),
        ({"above": 40}, 40.01, True),
        ({"below": 20}, 20.0, False),
        ({"below": 20}, 19.99, True),
        ({"below": 0}, None, False),
        ({"above": 40}, math.inf, True),
        ({"above": 40}, math.nan, False),
    ],
)
def test_the_limit_itself_breaks_nothing(
    alert: dict[str, float], value: float | None, broken: bool
) -> None:
    assert breaks(Alert(name="a", field="temperature", **alert), value) is broken


@pytest.mark.parametrize(
    ("temperatures", "expected"),
    [
        ([30.0], "temperature 14:00"),
        ([30.0, 41.0], "[1 alert] temperature 14:00"),
        ([10.0, 41.0, 42.0], "[2 alerts] temperature 14:00"),
    ],
)
def test_the_subject_counts_the_conditions(temperatures: list[float], expected: str) -> None:
    assert subject(report_of([("Fes", t, 1) for t in temperatures])) == expected


def test_a_report_comes_back_from_json_as_it_was() -> None:
    kpis = {"by_city": [{"city": None, "mean": math.inf, "readings": 3}]}
    report = report_of([("Fes", math.inf, -1)], kpis, missing={0: [(4, 9)]}, state="partial")
    assert HourReport.model_validate_json(report.model_dump_json()) == report


def test_a_partial_hour_says_what_is_missing() -> None:
    counts = revision().counts | {"reason": "some offsets have not landed yet"}
    text = markdown(report_of([], state="partial", counts=counts, missing={2: [(10, 20)]}))
    assert "> This hour is partial: some offsets have not landed yet." in text
    assert "Partition 2 lacks the offsets 10 to 19." in text


def test_an_hour_without_rows_has_a_report_without_kpis_and_picture() -> None:
    counts = revision().counts | {"valid": 0, "added": 0}
    report = report_of([], counts=counts)
    built = render(SPEC, report, {}, None, revision())
    assert "No readings of this hour have landed" in built.markdown
    assert built.pictures == {}
    assert "<img" not in built.html


def cells(text: str) -> list[str]:
    """Return the texts of all table cells as a Markdown reader shows them."""
    tokens = MarkdownIt("commonmark", {"html": False}).enable("table").parse(text)
    return [
        "".join(child.content for child in token.children or ())
        for before, token in itertools.pairwise(tokens)
        if before.type == "td_open"
    ]


HOSTILE = st.text(
    st.one_of(st.sampled_from("|\\`*_[]()<>&!~#\"'$\n\r\t-+="), st.characters()), min_size=1
)


@given(HOSTILE)
def test_any_city_is_shown_as_it_is_and_breaks_no_table(city: str) -> None:
    kpis = {"by_city": [{"city": city, "mean": 1.0, "readings": 3}]}
    found = cells(markdown(report_of([], kpis)))
    assert found[:3] == [plain(city).strip(), "1.00", "3"]


def test_html_shows_markup_in_values_instead_of_running_it() -> None:
    city = '<img src=x onerror="alert(1)"> | **bold** [a](javascript:b)\n# "é" 🙂'
    kpis = {"by_city": [{"city": city, "mean": 31.0, "readings": 3}]}
    report = report_of([(city, 41.0, 1), (city, 42.0, 1)], kpis)
    built = render(SPEC, report, kpis, curated([(city, 41.0, 1), (city, 42.0, 1)]), revision())
    assert "<img src=x" not in built.html
    assert "&lt;img src=x onerror=&quot;alert(1)&quot;&gt;" in built.html
    assert "<a " not in built.html
    assert built.html.count("<img ") == 1


def test_the_mail_shows_its_own_picture() -> None:
    rows: list[tuple[str | None, float | None, int | None]] = [
        ("Fes", 20.0 + n, 1) for n in range(9)
    ]
    kpis = {"by_city": [{"city": "Fes", "mean": 24.0, "readings": 9}]}
    built = render(SPEC, report_of(rows, kpis), kpis, curated(rows), revision())
    (name,) = built.pictures
    assert name == "temperature-2026-11-24T14.png"
    assert f'src="cid:{name}"' in built.html
    assert f"]({name})" in built.markdown
    assert built.pictures[name].startswith(b"\x89PNG")


def test_worst_readings_are_limited_and_earliest_first_among_equals() -> None:
    rows: list[tuple[str | None, float | None, int | None]] = [
        (f"city {n}", 45.0, 1) for n in range(9)
    ]
    (hot,) = report_of(rows).broken
    assert isinstance(hot, Broken)
    assert (hot.count, len(hot.rows)) == (9, 5)
    assert [row[1] for row in hot.rows] == [f"city {n}" for n in range(5)]
