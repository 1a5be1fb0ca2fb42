"""The dashboard in Chromium: pages of streams in PostgreSQL and in the lake, as people see them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import yaml
from bench.browser import browser
from dashboards import (
    Row,
    address,
    close_kpis,
    declaration,
    declare,
    in_lake,
    in_postgres,
    make_rows,
    mean,
    tiles,
    windows_in_cassandra,
    windows_in_postgres,
    windows_of,
)
from drivers import wait_for
from playwright.sync_api import Page, expect

from streamkeeper.dashboard_questions import Broken, Last, Means, Pairs
from streamkeeper.dashboards import Span, Variable, figure, layout
from streamkeeper.hours import HOUR
from streamkeeper.names import hour_of
from streamkeeper.settings import Settings
from streamkeeper.spec.models import Spec
from streamkeeper_apps.local.dashboard import Dashboard
from streamkeeper_apps.local.stack import LocalStack
from streamkeeper_io.readings import open_readings

NEWEST = datetime.now(UTC).replace(microsecond=0)
PERIOD = timedelta(minutes=15)
VARIABLES = {"temperature": "°C", "humidity": "%", "co2": "ppm", "battery": "%"}


@dataclass
class Served:
    """A dashboard that runs, and what it shows."""

    url: str
    page: Page
    settings: Settings
    streams: dict[str, Spec]
    rows: list[Row]
    windows: list[Row]
    outside: list[str]

    def open(self, stream: str, view: str = "live") -> Page:
        """Open a page and return it."""
        self.page.goto(address(self.url, stream, view))
        return self.page


@pytest.fixture(scope="module")
def dashboard(
    settings: Settings, stack: LocalStack, tmp_path_factory: pytest.TempPathFactory, unused: str
) -> Iterator[Served]:
    """One server and one browser for all pages; streams with rows of two hours and without."""
    folder = tmp_path_factory.mktemp("dashboard")
    streams = {
        "air": declare(folder, "air", postgres=True, lake="/dashboards"),
        "air_lake": declare(folder, "air_lake", postgres=False, lake="/dashboards"),
        "nothing": declare(folder, "nothing", postgres=False, lake="/dashboards"),
    }
    gone = declaration("gone", postgres=True, lake="/dashboards")
    for sink in gone["sinks"]:
        sink["connection"] = "gone_db"
    (folder / "gone.yaml").write_text(yaml.safe_dump(gone))
    (folder / "broken.yaml").write_text("description: Broken.\nfields: 7\n")
    rows = make_rows(NEWEST, 2 * HOUR)
    half = len(rows) // 2
    in_postgres(settings, streams["air"], rows)
    windows = windows_of(rows)
    windows_in_postgres(settings, streams["air"], windows)
    windows_in_cassandra(settings, streams["air_lake"], windows)
    for batch, part in enumerate((rows[:half], rows[half:])):
        in_lake(settings, streams["air_lake"], part, batch, batch * half)
    for name in ("air", "air_lake"):
        for hour in _closed_hours():
            close_kpis(settings, streams[name], hour, rows)
    databases = settings.postgres | {"gone_db": f"postgresql+psycopg://me:secret@{unused}/x"}
    given = settings.model_copy(update={"streams": folder, "postgres": databases})
    server = Dashboard(stack.places, lambda: given)
    server.start()
    # Of a browser in another zone than UTC.
    view = {"width": 1360, "height": 1000}
    try:
        server.wait_ready()
        with browser(viewport=view, timezone_id="Asia/Tokyo") as context:
            page, outside = context.pages[0], _outside(context.pages[0], server.url)
            yield Served(server.url, page, given, streams, rows, windows, outside)
    finally:
        server.stop()


def _outside(page: Page, url: str) -> list[str]:
    """Return a list that gets what a page asks of other hosts."""
    found: list[str] = []
    page.on("request", lambda r: found.append(r.url) if not r.url.startswith(url) else None)
    page.set_default_timeout(30_000)
    expect.set_options(timeout=30_000)
    return found


@pytest.fixture(scope="module")
def unused() -> str:
    """An address where nothing listens: port 9 is that of `discard`."""
    return "127.0.0.1:9"


def _closed_hours() -> list[datetime]:
    """The last two hours of the rows; the newest alone in its first minutes."""
    return [hour_of(NEWEST) - HOUR, hour_of(NEWEST)] if NEWEST.minute > 1 else [hour_of(NEWEST)]


def of_period(rows: Sequence[Row], before: int = 0) -> list[Row]:
    """Return the rows of the last 15 minutes, or of those before them, by comparing times."""
    newest = max(r["timestamp"] for r in rows)
    end = newest - before * PERIOD
    return [r for r in rows if end - PERIOD < r["timestamp"] <= end]


def beyond(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the rows that break each alert on a field."""
    return {
        "hot": [r for r in rows if r["temperature"] is not None and r["temperature"] > 30],
        "stuffy": [r for r in rows if r["co2"] > 1000 and r["status"] == "ok"],
        "flat": [r for r in rows if r["battery"] < 20],
    }


def expected_tiles(rows: Sequence[Row]) -> dict[str, tuple[str, str]]:
    """Return the tiles of the last 15 minutes as computed here."""
    now, before = of_period(rows), of_period(rows, 1)
    figures: dict[str, tuple[Any, Any]] = {
        "readings": (len(now), len(before)),
        "different sensor_id": tuple(len({r["sensor_id"] for r in p}) for p in (now, before)),
        "beyond a limit": tuple(sum(map(len, beyond(p).values())) for p in (now, before)),
    }
    for name, unit in VARIABLES.items():
        figures[f"mean {name} ({unit})"] = tuple(
            mean(r[name] for r in p if r["status"] != "failed") for p in (now, before)
        )
    return {label: (figure(new), _change(new, old)) for label, (new, old) in figures.items()}


def _change(now: float, before: float) -> str:
    difference = now - before
    sign = "+" if difference > 0 else "-" if difference < 0 else "±"
    return sign + figure(abs(difference), 3)


def shown_tiles(page: Page, last: str) -> dict[str, tuple[str, str]]:
    """Return a page's tiles once the last one is drawn."""
    expect(page.get_by_test_id("stMetric").filter(has_text=last)).to_have_count(1)
    return tiles(page)


@pytest.mark.parametrize("stream", ["air", "air_lake"])
def test_the_live_view_has_the_figures_of_the_rows(dashboard: Served, stream: str) -> None:
    page = dashboard.open(stream)
    shown_tiles(page, "mean_temperature")
    expected = expected_tiles(dashboard.rows)
    # The browser writes a tile's texts a moment after the tile.
    wait_for(lambda: expected.items() <= tiles(page).items(), f"the tiles {expected}", 30)
    found = tiles(page)
    hour = _closed_hours()[-1]
    of_hour = [r for r in dashboard.rows if hour <= r["timestamp"] < hour + HOUR]
    assert found["mean_temperature (°C)"][0] == figure(mean(r["temperature"] for r in of_hour))
    table = page.get_by_test_id("stTable")
    for name, rows in beyond(of_period(dashboard.rows)).items():
        row = table.locator("tr").filter(has_text=name).filter(has_not_text="by_sensor")
        expect(row).to_contain_text(f"{len(rows):,} reading{'s' if len(rows) != 1 else ''}")
    place = "PostgreSQL, table air" if stream == "air" else "the lake, /dashboards/air_lake"
    expect(page.get_by_text(f"from {place}")).to_be_visible()
    # Four curves and a map are drawn.
    expect(page.locator('[data-testid="stVegaLiteChart"] canvas, '
                        '[data-testid="stVegaLiteChart"] svg')).to_have_count(5)  # fmt: skip
    expect(page.get_by_text("cannot be shown")).to_have_count(0)
    assert dashboard.outside == [], "a page needs nothing from other hosts"


@pytest.mark.parametrize("stream", ["air", "air_lake"])
def test_the_trend_view_is_drawn_whole(dashboard: Served, stream: str) -> None:
    page = dashboard.open(stream, "trend")
    # Four evolutions, two comparisons, two of alerts, correlations, windows, two KPIs.
    charts = page.get_by_test_id("stVegaLiteChart").locator("canvas, svg")
    expect(charts).to_have_count(12)
    for text in ("Comparison by sensor_id", "Alerts: how often", "Correlations", "Closed hours"):
        expect(page.get_by_text(text)).to_be_visible()
    expect(page.get_by_text("cannot be shown")).to_have_count(0)
    assert dashboard.outside == []


@pytest.mark.parametrize("stream", ["air", "air_lake"])
def test_each_question_is_answered_as_computed_here(dashboard: Served, stream: str) -> None:
    spec = dashboard.streams[stream]
    names = tuple(VARIABLES)
    minute = timedelta(minutes=1)
    # Across the hours' boundaries; the lake has parts of both of its batches in it.
    span = Span(NEWEST - 100 * minute, NEWEST - 7 * minute)
    rows = [r for r in dashboard.rows if r["timestamp"] in span]
    variables = layout(spec).variables
    assert tuple(v.name for v in variables) == names
    stuffy = next(a for a in spec.alerts if a.name == "stuffy")
    questions = [
        Means(variables, 5 * minute, "sensor_id", ("sensor_02", "sensor_05")),
        Broken(stuffy, 10 * minute),
        Broken(stuffy, by="site"),
        Last("site", ("latitude", "longitude"), (Variable("co2", "co2"),), (stuffy,)),
        Pairs(variables),
    ]
    with open_readings(dashboard.settings, spec) as readings:
        newest = readings.newest()
        means, often, whose, last, pairs = readings.answer(span, questions)
    assert newest == max(r["timestamp"] for r in dashboard.rows)
    assert_means(means, rows, names)
    broken = beyond(rows)["stuffy"]
    counted = Counter(r["site"] for r in broken)
    assert {h.key: h.readings for h in whose} == counted
    assert sum(h.readings for h in often) == len(broken) > 0
    assert all(h.at.minute % 10 == 0 and h.at.second == 0 for h in often)
    for at, site, is_stuffy, latitude, longitude, co2 in last:
        row = max((r for r in rows if r["site"] == site), key=lambda r: r["timestamp"])
        assert (at, latitude, longitude, co2) == (
            *(row["timestamp"], row["latitude"], row["longitude"], row["co2"]),
        )
        assert is_stuffy == bool(beyond([row])["stuffy"])
    assert len(last) == 6
    for (x, y), pair in zip(combinations(names, 2), pairs, strict=True):
        both = [(r[x], r[y]) for r in rows if r["status"] != "failed" and None not in (r[x], r[y])]
        assert pair.n == len(both)
        assert pair.correlation == pytest.approx(np.corrcoef(np.array(both).T)[0, 1])


def assert_means(means: Any, rows: Sequence[Row], names: Sequence[str]) -> None:
    """Hold means of five minutes by sensor, without failed ones, against those of the rows."""
    groups: dict[tuple[datetime, str], list[Row]] = {}
    for row in rows:
        if row["sensor_id"] in ("sensor_02", "sensor_05"):
            at = row["timestamp"]
            at = at.replace(minute=at.minute // 5 * 5, second=0, microsecond=0)
            groups.setdefault((at, row["sensor_id"]), []).append(row)
    assert {(g.at, g.key) for g in means} == set(groups)
    for group in means:
        mine = groups[group.at, group.key]
        assert group.rows == len(mine)
        for stat, name in zip(group.stats, names, strict=True):
            known = [r[name] for r in mine if r["status"] != "failed" and r[name] is not None]
            assert (stat.n, stat.low, stat.high) == (len(known), min(known), max(known))
            assert stat.mean == pytest.approx(mean(known))


@pytest.mark.parametrize(
    ("stream", "told"),
    [("air", "PostgreSQL, table air_agg"), ("air_lake", "Cassandra, table dashboards.air_lake")],
)
def test_windows_are_those_of_the_sink(dashboard: Served, stream: str, told: str) -> None:
    spec = dashboard.streams[stream]
    with open_readings(dashboard.settings, spec) as readings:
        place, answer = readings.window("by_site")
        span = Span(NEWEST - HOUR, NEWEST)
        avg_co2 = Variable("avg_co2", "avg_co2")
        (found,) = answer(span, [Means((avg_co2,), timedelta(minutes=5), "site")])
    assert place == told
    expected = {
        (w["window_start"], w["site"]): w["avg_co2"]
        for w in dashboard.windows
        if w["window_start"] in span
    }
    assert {(g.at, g.key): g.stats[0].mean for g in found} == pytest.approx(expected)


def test_a_new_row_is_seen_without_loading_the_page_again(dashboard: Served) -> None:
    page = dashboard.open("air")
    shown_tiles(page, "mean_temperature")
    page.evaluate("window.untouched = true")
    row = dashboard.rows[-1] | {"sensor_id": "sensor_07"}
    in_postgres(dashboard.settings, dashboard.streams["air"], [row], len(dashboard.rows))
    sensors = page.get_by_test_id("stMetric").filter(has_text="different sensor_id")
    expect(sensors.get_by_test_id("stMetricValue")).to_have_text("7")
    assert page.evaluate("window.untouched") is True


@pytest.mark.parametrize(
    ("stream", "texts"),
    [
        ("nothing", ["No rows yet.", "unpause produce__nothing and keep__nothing"]),
        ("gone", ["The rows: away.", "127.0.0.1:9", "gone_db", "start it or correct"]),
        ("broken", ["The declaration of broken has mistakes", "fields"]),
        ("ari_lake", ["no stream 'ari_lake' is declared", "did you mean 'air_lake'?"]),
    ],
)
def test_what_is_missing_is_told(dashboard: Served, stream: str, texts: list[str]) -> None:
    page = dashboard.open(stream)
    alert = page.get_by_test_id("stMain")
    for text in texts:
        expect(alert).to_contain_text(text)
    expect(alert).not_to_contain_text("Traceback")
    expect(alert).not_to_contain_text("secret")


def test_another_stream_is_chosen_on_the_page(dashboard: Served) -> None:
    page = dashboard.open("ari_lake")
    expect(page.get_by_test_id("stMain")).to_contain_text("is declared")
    page.get_by_label("Stream").click()
    page.get_by_role("option", name="air_lake", exact=True).click()
    shown_tiles(page, "mean_temperature")
    assert "stream=air_lake" in page.url
