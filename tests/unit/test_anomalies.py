"""Anomalies of hours: which values make a history, what is told where nothing can be, mistakes."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from streamkeeper.anomalies import Judged, KpiValue, history_hours, judge, verdict_types
from streamkeeper.detectors import MedianDeviation, Verdict
from streamkeeper.errors import DeclarationError
from streamkeeper.hours import HOUR, Revision
from streamkeeper.report_text import markdown
from streamkeeper.reports import ANOMALIES_SHOWN, HourReport, hour_report
from streamkeeper.spec.anomalies import VERDICT_COLUMNS, Anomaly
from streamkeeper.spec.loader import load_spec
from streamkeeper.spec.models import Kpi, Spec
from streamkeeper_apps.explain import explain

EVERYTHING = Path(__file__).parents[1] / "streams" / "everything.yaml"
DATA: dict[str, Any] = yaml.safe_load(EVERYTHING.read_text(encoding="utf-8"))
SPEC = load_spec(EVERYTHING)
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
KPI = Kpi(name="by_device", by=("device", "kind"), measures={"mean": "avg(value)"})
MAD = MedianDeviation(3.5)


def anomaly(**changes: Any) -> Anomaly:
    return Anomaly.model_validate({"name": "odd", "of": "by_device.mean", "least": 3, **changes})


def value(hours_back: int, number: float | None, *keys: str) -> KpiValue:
    return KpiValue(NOON - hours_back * HOUR, keys or ("d1", "co2"), number)


def judged(
    rows: Sequence[KpiValue], detector: Any = MAD, *, history: Any = None, **changes: Any
) -> list[Judged]:
    given = rows if history is None else history
    return list(judge(anomaly(**changes), KPI, detector, history=given, judged=rows))


def test_a_row_tells_its_history() -> None:
    before = [value(n, 20.0 + n % 3) for n in range(1, 7)]
    (found,) = judged([value(0, 90.0)], history=before)
    assert found == Judged(
        hour=NOON,
        keys=("d1", "co2"),
        value=90.0,
        median=21.0,
        mad=1.0,
        score=pytest.approx(0.6745 * 69),
        hours=6,
        first_hour=NOON - 6 * HOUR,
        last_hour=NOON - HOUR,
        anomalous=True,
        basis="mad",
    )
    assert Judged._fields == ("hour", "keys", *VERDICT_COLUMNS)


@given(st.permutations(range(8)), st.integers(0, 7))
def test_only_hours_before_count_however_they_come(order: list[int], back: int) -> None:
    rows = [value(n, float(n)) for n in order]
    (found,) = judged([value(back, 0.0)], history=rows, least=3)
    assert found.hours == 7 - back
    assert found.last_hour == (NOON - (back + 1) * HOUR if back < 7 else None)


def test_history_ends_where_it_is_declared_to() -> None:
    rows = [value(n, float(n)) for n in range(1, 300)]
    for declared, hours in (("24h", 24), ("7d", 168)):
        odd = anomaly(history=declared)
        (found,) = judge(odd, KPI, MAD, history=rows, judged=[value(0, 1.0)])
        assert (found.hours, found.first_hour) == (hours, NOON - hours * HOUR)


def test_each_key_has_a_history_of_its_own_unless_by_says_otherwise() -> None:
    others = [value(n, 1.0 * n, device, "co2") for device in ("d1", "d2") for n in range(1, 5)]
    (own,) = judged([value(0, 2.0, "d1", "co2")], history=others)
    (shared,) = judged([value(0, 2.0, "d1", "co2")], history=others, by=["kind"])
    (alone,) = judged([value(0, 2.0, "d3", "co2")], history=others)
    # Two values of each hour are two values, and one hour.
    assert (own.hours, shared.hours, alone.hours) == (4, 4, 0)
    assert (alone.anomalous, alone.median, alone.basis) == (None, None, "few_hours")
    pooled: list[int] = []

    class Counting:
        def judge(self, history: Sequence[float], value: float) -> Verdict:
            pooled.append(len(history))
            return Verdict(False, 0.0, "counted")

    (told,) = judged([value(0, 2.0, "d9", "co2")], Counting(), history=others, by=["kind"])
    assert (pooled, told.basis, told.median, told.mad) == ([8], "counted", 2.5, 1.0)


@pytest.mark.parametrize("number", [None, float("nan"), float("inf")])
def test_what_is_no_number_is_not_judged_and_no_history(number: float | None) -> None:
    before = [value(n, number if n == 2 else float(n)) for n in range(1, 6)]
    (found,) = judged([value(0, number)], history=before)
    assert (found.anomalous, found.score, found.basis) == (None, None, "no_value")
    assert found.hours == 4


def test_hours_of_one_close_count_for_later_ones_of_it() -> None:
    rows = [value(n, 5.0 + n % 2) for n in range(10)]
    found = {row.hour: row for row in judged(rows)}
    assert [found[NOON - n * HOUR].hours for n in range(10)] == list(range(9, -1, -1))
    assert found[NOON].anomalous is False
    assert found[NOON - 8 * HOUR].basis == "few_hours"


def test_which_hours_are_read() -> None:
    reached = history_hours(anomaly(history="3h"), [NOON, NOON + HOUR, NOON + 10 * HOUR])
    assert reached == [NOON + n * HOUR for n in (-3, -2, -1, 0, 7, 8, 9)]


def test_columns_are_the_keys_and_the_verdict() -> None:
    types = verdict_types(SPEC, SPEC.anomalies[0])
    assert types["class"] == SPEC.columns()["class"]
    assert list(types)[-len(VERDICT_COLUMNS) :] == list(VERDICT_COLUMNS)


# Declarations
def mistakes(folder: Path, changes: dict[str, Any], **parts: Any) -> list[str]:
    data = copy.deepcopy(DATA) | parts
    data["anomalies"] = [data["anomalies"][0] | changes]
    path = folder / "everything.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    try:
        load_spec(path)
    except DeclarationError as error:
        return [str(m).replace(f"{folder}/everything.yaml", "") for m in error.mistakes]
    return []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"of": "by_class.mean_prise"}, "no such KPI column; write kpi.column; valid: "),
        ({"of": "hottest.temperature"}, "no such KPI column"),
        ({"of": "unusual.score"}, "no such KPI column"),
        ({"by": ["clas"]}, "anomalies[0].by[0]: 'clas' is no key of the KPI; valid: class, level; "
         "did you mean 'class'?"),
        ({"by": ["class", "class"]}, "anomalies[0].by[1]: 'class' this key stands twice"),
        ({"history": "90min"}, "anomalies[0].history: '90min' is whole hours, such as 168h"),
        ({"history": "11h"}, "anomalies[0].least: 12 the history has 11 hours, fewer than `least`"),
        ({"history": "400d"}, "anomalies[0].history: '400d' is wrong"),
        ({"least": 2}, "anomalies[0].least: 2 is wrong"),
        ({"above": 0}, "anomalies[0].above: 0 is wrong"),
        ({"method": "mda"}, "anomalies[0].method: 'mda' no such method; valid: mad; did you mean "
         "'mad'?"),
        ({"name": "by_class"}, "anomalies[0].name: 'by_class' its folder would be one of the KPI "
         "by_class; rename one"),
        ({"name": "hottest_day_csv"}, "its folder would be one of the KPI hottest; rename one"),
        ({"nme": "x"}, "anomalies[0].nme: is not a key here; valid: name, of, by, history"),
    ],
)  # fmt: skip
def test_mistakes(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    found = mistakes(tmp_path, changes)
    assert any(expected in told for told in found), found


def test_an_alert_may_watch_the_numbers_of_a_verdict(tmp_path: Path) -> None:
    def told(column: str) -> list[str]:
        alerts = [{"name": "x", "kpi": f"unusual.{column}", "above": 1}]
        return mistakes(tmp_path, {}, alerts=alerts)

    assert told("score") == told("value") == told("hours") == []
    assert any("no such KPI column" in line for line in told("anomalous"))
    chart = DATA["report"] | {"chart": "unusual.score"}
    assert any("no such KPI column" in line for line in mistakes(tmp_path, {}, report=chart))


def test_a_key_may_not_have_the_name_of_a_verdicts_column(tmp_path: Path) -> None:
    fields = DATA["fields"] | {"Score": {"type": "string"}}
    kpis = [DATA["kpis"][0] | {"by": ["class", "Score"]}, DATA["kpis"][1]]
    found = mistakes(tmp_path, {}, fields=fields, kpis=kpis)
    assert any("the KPI's key 'Score' is a column that every anomaly has" in m for m in found)


def test_a_snapshot_keeps_them_and_explain_tells_them() -> None:
    assert Spec.model_validate(SPEC.dump()).anomalies == SPEC.anomalies
    lines = "\n".join(explain(SPEC))
    assert "a verdict on by_class.mean_price of each KPI row: mad, anomalous beyond 3" in lines
    assert "history: the closed, complete hours of the 2d before, by class; at least 12" in lines
    assert "score double" in lines


# Reports
def verdict(label: str, score: float | None, *, anomalous: bool | None) -> dict[str, Any]:
    keys = {"class": label, "level": 3}
    told = dict.fromkeys(VERDICT_COLUMNS) | {"value": 10.0, "median": 5.0, "mad": 1.0, "hours": 48}
    return keys | told | {"score": score, "anomalous": anomalous, "basis": "mad"}


def report(rows: list[dict[str, Any]], language: str = "en") -> HourReport:
    given = SPEC.dump()
    given["report"]["language"] = language
    revision = Revision(
        **{"stream": "everything", "hour": NOON, "revision": 1, "epoch": 1, "write_number": 1},
        **{"state": "complete", "merged": {}, "files": {}, "committed_at": NOON},
        counts={"valid": 7, "added": 7, "quarantined": 0, "quarantined_by_rule": {}},
    )
    return hour_report(Spec.model_validate(given), revision, {"unusual": rows}, ())


def test_a_report_lists_anomalies_the_farthest_first() -> None:
    rows = [
        verdict("a", 4.0, anomalous=True),
        verdict("b", 0.5, anomalous=False),
        verdict("c", -9.25, anomalous=True),
        verdict("d", None, anomalous=None),
    ]
    made = report(rows)
    text = markdown(made)
    assert "## Unusual\n\n2 anomalies in 4 KPI rows of by_class.mean_price" in text
    assert "1 row could not be judged." in text
    assert text.index("| c | 3 |") < text.index("| a | 3 |")
    assert "| b |" not in text
    assert HourReport.model_validate_json(made.model_dump_json()) == made
    french = markdown(report(rows, "fr"))
    assert "2 anomalies sur 4 lignes d'indicateurs de by_class.mean_price" in french
    assert "1 ligne n'a pas pu être jugée." in french


def test_a_report_shows_so_many_and_says_so() -> None:
    rows = [verdict(f"k{n}", 4.0 + n, anomalous=True) for n in range(30)]
    text = markdown(report(rows))
    assert "30 anomalies in 30 KPI rows" in text
    assert f"The {ANOMALIES_SHOWN} farthest ones:" in text
    assert "| k10 |" in text
    assert "| k9 |" not in text


def test_an_alert_on_a_score_breaks_like_that_of_a_kpi() -> None:
    made = report([verdict("a", 7.0, anomalous=True), verdict("b", None, anomalous=None)])
    (broken,) = [b for b in made.broken if b.name == "jumped"]
    assert (broken.condition, broken.count, broken.worst) == ("unusual.score above 6", 1, 7.0)
