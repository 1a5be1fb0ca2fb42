"""The languages of reports: both have every text; a report in French, word for word."""

from __future__ import annotations

import string
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pyarrow as pa
import pytest

from streamkeeper.generations import Counted
from streamkeeper.hours import Revision, completeness
from streamkeeper.report_text import markdown, subject
from streamkeeper.reports import broken_by_readings, hour_report, measure_text
from streamkeeper.spec.expressions import parse_expression
from streamkeeper.spec.models import Spec
from streamkeeper.texts import CATALOGUE, MEASURES, Language, LanguageName, english
from streamkeeper_io.reports import breaking_readings, render

HOUR = datetime(2026, 12, 1, 14, tzinfo=UTC)
SPEC = Spec.model_validate(
    {
        "name": "temperature",
        "description": "Readings of the tests.",
        "app": "temperature",
        "source": {"kafka": {"topic": "readings"}},
        "fields": {
            "city": {"type": "string"},
            "temperature": {"type": "double", "unit": "°C"},
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
                "measures": {"mean": "avg(temperature)"},
            }
        ],
        "kpis": [
            {
                "name": "ensemble",
                "measures": {"mesures": "count(*)", "temp_min": "min(temperature)"},
            },
            {"name": "par_ville", "by": ["city"], "measures": {"temp_moy": "avg(temperature)"}},
        ],
        "alerts": [
            {"name": "hot", "field": "temperature", "above": 40.5},
            {"name": "warm", "kpi": "par_ville.temp_moy", "above": 30},
        ],
        "report": {
            "title": "Température dans six villes",
            "to": ["a@b"],
            "chart": "par_ville.temp_moy",
            "language": "fr",
        },
    }
)  # fmt: skip
KPIS: dict[str, list[dict[str, Any]]] = {
    "ensemble": [{"mesures": 12345, "temp_min": 19.5}],
    "par_ville": [{"city": "Fès", "temp_moy": 31.25}, {"city": None, "temp_moy": None}],
}
FRENCH = """\
# Température dans six villes

**1er décembre 2026, de 14:00 à 15:00 UTC** · 12~345 mesures · révision 2, partielle

> Cette heure est partielle~: des offsets ne sont pas encore arrivés. Il manque à la partition 2 \
les offsets 1~000 à 1~999.

## 2 alertes

### temperature au-dessus de 40,5 °C~: 2 mesures, 0,0~% du total

La pire d'abord~:

| temperature | city | timestamp |
| ---: | --- | --- |
| 44,00 | Fès | 01/12/2026 14:00:00 |
| 42,00 | Rabat | 01/12/2026 14:00:40 |

### par_ville.temp_moy au-dessus de 30 °C~: 1 ligne d'indicateurs

La voici~:

| temp_moy | city |
| ---: | --- |
| 31,25 | Fès |

![Température dans six villes~: l'heure en images](temperature-2026-12-01T14.png)

## Ensemble

| indicateur | valeur |
| --- | ---: |
| mesures | 12~345 |
| temp_min (°C) | 19,50 |

## Par ville

| city | temp_moy (°C) |
| --- | ---: |
| Fès | 31,25 |
| – | – |

## Messages

| messages | nombre |
| --- | ---: |
| lus : valides et mis en quarantaine | 12~352 |
| mesures valides de cette heure, par heure de mesure | 12~345 |
| parmi elles : nouvelles dans cette révision | 12~345 |
| messages mis en quarantaine, arrivés dans cette heure | 7 |
| parmi eux : type:temperature | 7 |

Clôturée le 01/12/2026 16:00:00 UTC. Les heures sont en UTC.
"""


def french() -> tuple[Any, pa.Table, Revision]:
    counts = {
        "valid": 12345, "added": 12345, "quarantined": 7,
        "quarantined_by_rule": {"type:temperature": 7}, "reason": english("reason.not_landed"),
    }  # fmt: skip
    revision = Revision(
        stream="temperature", hour=HOUR, revision=2, epoch=4, write_number=4 * 10**9,
        state="partial", merged={}, files={}, counts=counts, missing={2: [(1000, 2000)]},
        committed_at=HOUR + timedelta(hours=2),
    )  # fmt: skip
    times = [HOUR + timedelta(seconds=40 * n) for n in range(3)]
    curated = pa.table(
        {
            "city": ["Fès", "Rabat", "Fès"],
            "temperature": [44.0, 42.0, 30.0],
            "timestamp": pa.array(times, pa.timestamp("us", "UTC")),
            "_event_time": pa.array(times, pa.timestamp("us", "UTC")),
        }
    )
    found = breaking_readings(SPEC, SPEC.alerts[0], curated)
    hot = broken_by_readings(SPEC, SPEC.alerts[0], *found)
    assert hot is not None
    return hour_report(SPEC, revision, KPIS, [hot]), curated, revision


def test_both_languages_have_every_text_with_the_same_places() -> None:
    languages = set(get_args(LanguageName))
    for key, texts in CATALOGUE.items():
        assert set(texts) == languages, key
        assert all(texts.values()), key
        places = {tuple(sorted(n for _, n, _, _ in string.Formatter().parse(t) if n))
                  for t in texts.values()}  # fmt: skip
        assert len(places) == 1, key
    assert [key for key in MEASURES if key not in CATALOGUE] == []
    ones = {k.removesuffix(".one") for k in CATALOGUE if k.endswith(".one")}
    assert ones == {k.removesuffix(".many") for k in CATALOGUE if k.endswith(".many")}


def test_a_report_in_french() -> None:
    report, curated, revision = french()
    built = render(SPEC, report, KPIS, curated, revision)
    # In FRENCH `~` stands for the space that does not break.
    assert built.markdown == FRENCH.replace("~", "\u202f")
    assert subject(report) == "[2 alertes] temperature 14:00"
    assert '<html lang="fr">' in built.html
    assert "Streamkeeper, flux temperature" in built.html
    assert len(built.pictures) == 1


def test_a_french_report_comes_back_from_json() -> None:
    report = french()[0]
    assert type(report).model_validate_json(report.model_dump_json()) == report
    assert markdown(report) != markdown(report.model_copy(update={"language": "en"}))


@pytest.mark.parametrize(
    ("measure", "told"),
    [
        ("avg(temperature)", "moyenne de temperature (°C)"),
        ("count(*)", "nombre de mesures"),
        ("count(distinct city)", "nombre de valeurs différentes de city"),
        ("min(humidity)", "minimum d'humidity"),
        ("avg(temperature) + 1", "avg(temperature) + 1"),
    ],
)
def test_measures_in_french(measure: str, told: str) -> None:
    types = {"temperature": "double", "humidity": "double", "city": "string"}
    found = parse_expression(measure, types, aggregates=True)
    assert measure_text(SPEC, found, Language("fr")) == told


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("no_look", {}),
        ("never_launched", {}),
        ("replaced", {"topic_id": "a+b", "began": "c.d"}),
        ("not_landed", {}),
        ("reading_again", {"generation": "g-1", "spans": "partition 0: 1..2"}),
    ],
)
def test_reasons_are_told_in_the_reports_language(key: str, values: dict[str, str]) -> None:
    stored = english(f"reason.{key}", **values)
    assert Language("en").reason(stored) == stored
    told = Language("fr").reason(stored)
    assert told == CATALOGUE[f"reason.{key}"]["fr"].format(**values)


def test_a_reason_that_no_catalogue_has_stays() -> None:
    assert Language("fr").reason("as an older version told it") == "as an older version told it"
    reasons = [completeness(Counted([], []), None).reason]
    assert Language("fr").reason(reasons[0]) == "la fin du topic n'a pas encore été relevée"
