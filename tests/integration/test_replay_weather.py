"""Real readings from files to closed hours, held against an independent computation by DuckDB."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from drivers import CHECKOUT, SUBMIT, Drivers, manifests, wait_for
from topics import Producing, read_topic
from weather import FEEDS, STREAMS, WHOLE, Site, by_hour, missing, prepare

from streamkeeper import names
from streamkeeper.hours import HOUR, Look
from streamkeeper.launches import EXIT_DRAINED
from streamkeeper.names import format_hour
from streamkeeper.settings import Settings
from streamkeeper_io import kafka, processes
from streamkeeper_io.closed import read_hour
from streamkeeper_io.lake import read_rows
from streamkeeper_io.spark_conf import spark_conf
from streamkeeper_io.store import Store

# A close of 300 hours takes half a minute, one of 30,000 takes forty minutes on two cores.
PATIENCE_S = 6000 if WHOLE else 600
# A row too short, a text for a number, a time that is none, a number out of range.
BROKEN_ROWS = 4


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> list[Site]:
    """All sites, their files ready."""
    folder = tmp_path_factory.mktemp("weather")
    return [prepare(feed, folder) for feed in FEEDS]


def replay(settings: Settings, site: Site, folder: Path) -> None:
    given = settings.model_copy(update={"streams": STREAMS})
    arguments = ["replay", site.spec.name, str(site.packed), str(site.broken)]
    producing = Producing(given, folder / f"{site.spec.name}.log", arguments)
    assert producing.code() == 0, producing.said
    total = site.rows + BROKEN_ROWS
    assert f"records read {total:,} (1 malformed" in producing.said
    assert f"sent {total:,}, acknowledged {total:,}" in producing.said


def take_looks(settings: Settings, store: Store, site: Site, hours: list[datetime]) -> None:
    """Take the look at the topic's end that the DAG takes after each hour."""
    topic_id, end = kafka.end_offsets(kafka.Admin(settings), site.spec.source.kafka.topic)
    now = datetime.now(UTC)
    for hour in hours:
        store.add_look(
            Look(stream=site.spec.name, hour=hour, topic_id=topic_id, taken_at=now, end_offsets=end)
        )


def close(settings: Settings, site: Site, hours: list[datetime], folder: Path) -> None:
    """Close hours as the DAG does: spark-submit close_hours.py."""
    given = settings.model_copy(update={"streams": STREAMS})
    argv = [str(SUBMIT), "--master", settings.spark_master]
    for key, value in (spark_conf(settings) | {"spark.ui.enabled": "false"}).items():
        argv += ["--conf", f"{key}={value}"]
    script = str(CHECKOUT / "spark_apps" / "close_hours.py")
    listed = ",".join(map(format_hour, hours))
    process = processes.spawn(
        [*argv, script, "--stream", site.spec.name, "--hours", listed],
        folder=folder,
        env=dict(os.environ) | given.environment() | {"PYSPARK_PYTHON": sys.executable},
        cwd=CHECKOUT,
    )
    try:
        wait_for(lambda: processes.exit_code(folder) is not None, "the close to end", PATIENCE_S)
    finally:
        processes.stop(process, folder, 0)
    assert processes.exit_code(folder) == 0, (folder / "log").read_text()[-6000:]


# Three closes of 300 hours each: on a machine that does other work they take long.
@pytest.mark.timeout(4 * PATIENCE_S)
def test_readings_of_three_places(
    settings: Settings,
    store: Store,
    drivers: Drivers,
    sites: list[Site],
    *,
    tmp_path: Path,
    record_testsuite_property: Callable[[str, object], None],
) -> None:
    for site in sites:
        replay(settings, site, tmp_path)
    driver = drivers.start([site.spec for site in sites], trigger="availableNow")
    assert driver.exit_code(PATIENCE_S) == EXIT_DRAINED, driver.log[-6000:]
    expected = [by_hour(site) for site in sites]
    hours = [all_hours(site_hours) for site_hours in expected]
    for n, site in enumerate(sites):
        assert_landed(settings, site)
        take_looks(settings, store, site, hours[n])
    # All at once: a close of many hours mostly waits for HDFS.
    with ThreadPoolExecutor() as pool:
        folders = [tmp_path / f"close-{site.spec.name}" for site in sites]
        list(pool.map(partial(close, settings), sites, hours, folders))
    for n, site in enumerate(sites):
        assert_closed(settings, store, site, hours[n], expected[n])
    record_testsuite_property("rows", sum(site.rows for site in sites))
    record_testsuite_property("hours", sum(map(len, expected)))


def all_hours(found: Collection[datetime]) -> list[datetime]:
    """Return every hour from the first to the last, those without readings too."""
    first, last = min(found), max(found)
    return [first + HOUR * n for n in range((last - first) // HOUR + 1)]


def assert_landed(settings: Settings, site: Site) -> None:
    """Landed = valid + quarantined = sent; nothing missing became a number; bytes are kept."""
    found = manifests(settings, site.spec)
    read, valid, quarantined = (
        sum(m.read for m in found),
        sum(m.valid for m in found),
        sum(m.quarantined for m in found),
    )
    sent = site.rows + BROKEN_ROWS
    assert (read, valid, quarantined) == (sent, sent - len(site.bad), len(site.bad))
    folder = names.raw_path(site.spec)
    paths = [f"{folder}/batch={m.generation}-{m.batch}/{name}" for m in found for name in m.files]
    rows = [row for table in read_rows(settings.lake, paths) for row in table.to_pylist()]
    good = [row for row in rows if row["_errors"] is None]
    assert missing(site) == {
        field: sum(row[field] is None for row in good) for field in site.feed.quantities
    }
    rules = Counter(sorted(row["_errors"])[0].partition(": ")[0] for row in rows if row["_errors"])
    assert rules == Counter(site.bad)
    messages = {m.value for m in read_topic(settings, site.spec.source.kafka.topic)}
    kept = {row["_value"] for row in rows if row["_errors"]}
    assert kept <= messages
    assert json.dumps(["too", "short"], separators=(",", ":")).encode() in kept


def assert_closed(
    settings: Settings,
    store: Store,
    site: Site,
    hours: list[datetime],
    expected: dict[datetime, tuple[Any, ...]],
) -> None:
    """Every hour is closed, complete, and equal to DuckDB's account of it."""
    revisions = {r.hour: r for r in store.revisions(site.spec.name)}
    assert set(revisions) == set(hours)
    assert {r.state for r in revisions.values()} == {"complete"}
    zone = names.kpi_zone("hourly")

    def read(hour: datetime) -> tuple[dict[str, Any], int]:
        latest = partial(revisions.__getitem__, hour)
        wanted = {zone: None, names.CURATED: ["temperature"]}
        _, tables = read_hour(settings.lake, site.spec, latest, wanted)
        (row,) = tables[zone].to_pylist()
        return row, tables[names.CURATED].num_rows

    with ThreadPoolExecutor(8) as pool:
        found = dict(zip(expected, pool.map(read, expected), strict=True))
    columns = ("readings", "temperatures", "temperature_min")
    columns += tuple(f"{field}_mean" for field in site.feed.quantities)
    for hour, values in expected.items():
        row, rows = found[hour]
        assert rows == values[0]
        for name, theirs in zip(columns, values, strict=True):
            wanted = None if theirs is None else pytest.approx(theirs, rel=1e-12, abs=1e-12)
            assert row[name] == wanted, (hour, name)
