"""`dashboard_paint`: from the navigation to the drawn tiles, on 1,000,000 stored rows.

A visitor with an empty profile opens the live view of a stream in PostgreSQL, and of one in the
lake: two closed hours and an open one, as `show` is measured on. The server runs already, and one
visitor was there before.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pyarrow.compute as pc
import yaml

from bench.browser import browser
from bench.rows import Row
from bench.servers import readings_stream, servers
from bench.show import land, landed_rows
from streamkeeper import names
from streamkeeper.settings import Settings
from streamkeeper.spec.models import Spec
from streamkeeper.spec.sinks import PostgresSink
from streamkeeper_apps.dashboard.commands import HEALTH, LOOPBACK, command
from streamkeeper_apps.local.places import Ports
from streamkeeper_io.postgres import Rank, TableWriter
from streamkeeper_io.postgres_sinks import raw_table

GOAL_S = 2.0
_AT_ONCE = 100_000
_TILES = "readings", "mean temperature", "mean humidity"


def measure(short: bool) -> list[Row]:
    """Open the pages of 1,000,000 rows (20,000 when short) five times; the medians."""
    count, rounds = (20_000, 1) if short else (1_000_000, 5)
    with (
        servers("kafka", "namenode", "datanode", "postgres") as settings,
        tempfile.TemporaryDirectory() as folder,
    ):
        given = settings.model_copy(update={"streams": Path(folder)})
        streams = {"PostgreSQL": _in_postgres(given, count), "the lake": _in_lake(given, count)}
        with _served(given, Path(folder)) as url:
            seconds = {
                place: statistics.median([_paint(url, name) for _ in range(rounds + 1)][1:])
                for place, name in streams.items()
            }
    told = "; ".join(f"{place}: {s:.2f}" for place, s in seconds.items())
    return [
        Row(
            "dashboard_paint",
            value=max(seconds.values()),
            unit="s",
            bound="at most",
            goal=GOAL_S,
            note=f"{count:,} stored rows, Chromium with an empty profile, to the last tile of the "
            f"live view; s: {told}",
        )
    ]


def _declare(settings: Settings, spec: Spec) -> str:
    declaration = spec.model_dump(mode="json", exclude_defaults=True, exclude={"name"})
    path = settings.streams / f"{spec.name}.yaml"
    path.write_text(yaml.safe_dump(declaration, sort_keys=False))
    return spec.name


def _in_lake(settings: Settings, count: int) -> str:
    spec = readings_stream(settings, f"bench-paint-{uuid.uuid4().hex[:8]}")
    land(settings, spec, count)
    return _declare(settings, spec)


def _in_postgres(settings: Settings, count: int) -> str:
    table = f"bench.paint_{uuid.uuid4().hex[:8]}"
    declared = {"kind": "postgresql", "of": "raw", "table": table, "indexes": [["timestamp"]]}
    topic = f"bench-paint-{uuid.uuid4().hex[:8]}"
    spec = readings_stream(settings, topic, sinks=[declared])
    (sink,) = spec.sinks
    assert isinstance(sink, PostgresSink)
    url = settings.postgres_url(sink.connection)
    writer = TableWriter(url, raw_table(spec, sink), connection=sink.connection)
    rows = landed_rows(count)
    rows = rows.filter(pc.is_null(rows[names.ERRORS])).drop_columns([names.ERRORS, names.VALUE])
    for first in range(0, count, _AT_ONCE):
        writer.write([rows.slice(first, _AT_ONCE)], Rank(False, first))
    writer.close()
    return _declare(settings, spec)


@contextmanager
def _served(settings: Settings, folder: Path) -> Iterator[str]:
    port = Ports(folder / "ports.json", prefer_known=False).get("dashboard")
    url = f"http://{LOOPBACK}:{port}"
    log = folder / "dashboard.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            command(port), env=os.environ | settings.environment(), stdout=output, stderr=output
        )
    try:
        while not _healthy(url):
            if server.poll() is not None:
                raise RuntimeError(log.read_text())
            time.sleep(0.2)
        yield url
    finally:
        server.terminate()
        server.wait(30)


def _healthy(url: str) -> bool:
    try:
        return httpx.get(url + HEALTH, timeout=5, trust_env=False).text == "ok"
    except httpx.HTTPError:
        return False


def _paint(url: str, stream: str) -> float:
    with browser(viewport={"width": 1360, "height": 1000}) as context:
        page = context.pages[0]
        began = time.perf_counter()
        page.goto(f"{url}/?stream={stream}", wait_until="commit")
        for label in _TILES:
            page.get_by_test_id("stMetric").filter(has_text=label).first.wait_for(timeout=60_000)
        return time.perf_counter() - began
