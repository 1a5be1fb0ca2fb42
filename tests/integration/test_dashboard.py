"""The dashboard in Chromium: pages of streams in PostgreSQL and in the lake, as people see them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml
from dashboards import (
    Row,
    address,
    browser_page,
    close_kpis,
    declaration,
    declare,
    in_lake,
    in_postgres,
    make_rows,
    mean,
    served,
    tiles,
    windows_in_postgres,
)
from playwright.sync_api import Page, expect

from streamkeeper.dashboards import figure
from streamkeeper.hours import HOUR
from streamkeeper.names import hour_of
from streamkeeper.settings import Settings
from streamkeeper.spec.models import Spec
from streamkeeper_apps.local.stack import LocalStack

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
    windows_in_postgres(settings, streams["air"], rows)
    for batch, part in enumerate((rows[:half], rows[half:])):
        in_lake(settings, streams["air_lake"], part, batch, batch * half)
    for name in ("air", "air_lake"):
        for hour in _closed_hours():
            close_kpis(settings, streams[name], hour, rows)
    databases = settings.postgres | {"gone_db": f"postgresql+psycopg://me:secret@{unused}/x"}
    given = settings.model_copy(update={"streams": folder, "postgres": databases})
    port = stack.places.ports.get("dashboard")
    with served(given, port, folder / "log") as url, browser_page() as page:
        outside: list[str] = []
        page.on("request", lambda r: outside.append(r.url) if not r.url.startswith(url) else None)
        page.set_default_timeout(30_000)
        expect.set_options(timeout=30_000)
        yield Served(url, page, given, streams, rows, outside)


@pytest.fixture(scope="module")
def unused() -> str:
    """An address where nothing listens: port 9 is that of `discard`."""
    return "127.0.0.1:9"


def _closed_hours() -> list[datetime]:
    """The hours of the rows but the newest one, which is open."""
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
    found = shown_tiles(page, "mean_temperature")
    expected = expected_tiles(dashboard.rows)
    assert {label: found[label] for label in expected} == expected
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
