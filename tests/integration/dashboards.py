"""Streams for the dashboard's tests: rows in PostgreSQL or in the lake, and a page in Chromium."""

from __future__ import annotations

import io
import json
import math
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from playwright.sync_api import Page

from streamkeeper import names
from streamkeeper.hours import HOUR
from streamkeeper.manifest import Manifest
from streamkeeper.names import BatchName, closed_file, hour_of
from streamkeeper.settings import Settings
from streamkeeper.spec.loader import load_spec
from streamkeeper.spec.models import Spec
from streamkeeper.spec.sinks import CassandraSink, PostgresSink
from streamkeeper_io import cassandra, cassandra_sinks
from streamkeeper_io.lake import arrow_filesystem
from streamkeeper_io.postgres import Rank, TableWriter
from streamkeeper_io.postgres_sinks import raw_table, window_table

GENERATION = "00000000-0000-0000-0000-00000000000a"
TIME = pa.timestamp("us", "UTC")
SITES = (
    ("Casablanca", 33.573, -7.589),
    ("Rabat", 34.021, -6.841),
    ("Marrakech", 31.630, -7.981),
    ("Fes", 34.033, -5.000),
    ("Tanger", 35.760, -5.834),
    ("Agadir", 30.428, -9.598),
)
EVERY = timedelta(seconds=10)
Row = dict[str, Any]


def declaration(name: str, *, postgres: bool, lake: str) -> dict[str, Any]:
    """Return the declaration of a stream of sensors with places."""
    sinks: list[dict[str, Any]] = [
        {
            "kind": "postgresql",
            "of": "raw",
            "table": name,
            "indexes": [["timestamp"], ["sensor_id", "timestamp"]],
        },
        {"kind": "postgresql", "of": "by_site", "table": f"{name}_agg"},
    ]
    windows = {"kind": "cassandra", "of": "by_site", "keyspace": "dashboards", "table": name}
    return {
        "description": "Air of six cities, every ten seconds.",
        "source": {"kafka": {"topic": name}},
        "fields": {
            "sensor_id": {"type": "string", "required": True},
            "site": {"type": "string", "required": True},
            "latitude": {"type": "double"},
            "longitude": {"type": "double"},
            "temperature": {"type": "double", "unit": "°C"},
            "humidity": {"type": "double", "unit": "%"},
            "co2": {"type": "double", "unit": "ppm"},
            "battery": {"type": "double", "unit": "%"},
            "status": {"type": "string"},
            "timestamp": {"type": "timestamp", "required": True},
        },
        "event_time": {"field": "timestamp"},
        "lake": {"path": f"{lake}/{name}"},
        "windows": [
            {
                "name": "by_site",
                "size": "5min",
                "watermark": "1min",
                "by": ["site"],
                "measures": {
                    "avg_temperature": "avg(temperature)",
                    "avg_co2": "avg(co2)",
                    "readings": "count(*)",
                },
            }
        ],
        "sinks": sinks if postgres else [windows],
        "kpis": [
            {
                "name": "overall",
                "measures": {"readings": "count(*)", "mean_temperature": "avg(temperature)"},
            },
            {"name": "by_sensor", "by": ["sensor_id"], "measures": {"worst_co2": "max(co2)"}},
        ],
        "alerts": [
            {"name": "hot", "field": "temperature", "above": 30},
            {"name": "stuffy", "field": "co2", "above": 1000, "where": "status = 'ok'"},
            {"name": "flat", "field": "battery", "below": 20},
            {"name": "stuffy_hour", "kpi": "by_sensor.worst_co2", "above": 1200},
        ],
        "dashboard": {
            "by": "sensor_id",
            "where": "status <> 'failed'",
            "map": {"latitude": "latitude", "longitude": "longitude", "label": "site"},
        },
    }


def declare(folder: Path, name: str, **how: Any) -> Spec:
    """Write a declaration and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(declaration(name, **how), sort_keys=False))
    return load_spec(path)


def make_rows(newest: datetime, length: timedelta, seed: int = 1) -> list[Row]:
    """Return readings of six sensors up to the newest one, with nulls and values out of bounds."""
    draw, rows = random.Random(seed), []
    for n in range(length // EVERY):
        at = newest - n * EVERY
        day = math.sin((at.hour + at.minute / 60 - 9) / 24 * 2 * math.pi)
        for i, (site, latitude, longitude) in enumerate(SITES):
            temperature = 22 + i + 6 * day + draw.gauss(0, 0.4)
            rows.append(
                {
                    "sensor_id": f"sensor_{i + 1:02d}",
                    "site": site,
                    "latitude": latitude,
                    "longitude": longitude,
                    "temperature": None if draw.random() < 0.01 else temperature,
                    "humidity": 78 - 2.1 * (temperature - 18) + draw.gauss(0, 1.5),
                    "co2": 620 + 90 * math.sin(n / 40 + i) + draw.expovariate(1 / 60),
                    "battery": 96 - 13.5 * i - 0.001 * (length // EVERY - n),
                    "status": draw.choices(["ok", "warning", "failed"], [90, 9, 1])[0],
                    "timestamp": at.replace(microsecond=1000 * i),
                }
            )
    rows.reverse()
    return rows


def in_postgres(settings: Settings, spec: Spec, rows: Sequence[Row], first: int = 0) -> None:
    """Write rows as the sink does; first, the offset of the first one."""
    sink = next(s for s in spec.sinks if isinstance(s, PostgresSink) and s.of == "raw")
    url = settings.postgres_url(sink.connection)
    writer = TableWriter(url, raw_table(spec, sink), connection=sink.connection)
    writer.write([_table(spec, rows, first)], Rank(False, first))
    writer.close()


def windows_of(rows: Sequence[Row]) -> list[Row]:
    """Return the windows of five minutes of rows."""
    groups: dict[tuple[str, datetime], list[Row]] = {}
    for row in rows:
        at = row["timestamp"]
        begin = at.replace(minute=at.minute // 5 * 5, second=0, microsecond=0)
        groups.setdefault((row["site"], begin), []).append(row)
    return [
        {
            "site": site,
            "window_start": begin,
            "window_end": begin + timedelta(minutes=5),
            "avg_temperature": mean(r["temperature"] for r in group),
            "avg_co2": mean(r["co2"] for r in group),
            "readings": len(group),
        }
        for (site, begin), group in groups.items()
    ]


def windows_in_postgres(settings: Settings, spec: Spec, windows: list[Row]) -> None:
    """Write windows as the sink does."""
    sink = next(s for s in spec.sinks if isinstance(s, PostgresSink) and s.of == "by_site")
    url = settings.postgres_url(sink.connection)
    writer = TableWriter(url, window_table(spec, sink), connection=sink.connection)
    writer.write([pa.Table.from_pylist(windows)], Rank(False, 1))
    writer.close()


def windows_in_cassandra(settings: Settings, spec: Spec, windows: list[Row]) -> None:
    """Write windows as the sink does."""
    (sink,) = (s for s in spec.sinks if isinstance(s, CassandraSink))
    table = cassandra_sinks.window_table(spec, sink)
    days = [w | {"day": w["window_start"].date()} for w in windows]
    with cassandra.session(settings) as opened:
        cassandra.ensure_table(opened, table)
        rows = ([w[name] for name in table.names] for w in days)
        cassandra.GroupedWriter(opened, table).write(rows, 1)


def mean(values: Any) -> float | None:
    """Return the mean of what is not null."""
    known = [v for v in values if v is not None]
    return math.fsum(known) / len(known) if known else None


def _table(spec: Spec, rows: Sequence[Row], first: int) -> pa.Table:
    types = {"string": pa.string(), "double": pa.float64(), "timestamp": TIME}
    columns = {
        name: pa.array([row[name] for row in rows], types[kind])
        for name, kind in spec.columns().items()
    }
    count = len(rows)
    return pa.table(
        columns
        | {
            names.TOPIC_ID: pa.array(["topic"] * count),
            names.PARTITION: pa.array([0] * count, pa.int32()),
            names.OFFSET: pa.array(range(first, first + count), pa.int64()),
        }
    )


def in_lake(settings: Settings, spec: Spec, rows: Sequence[Row], batch: int, first: int) -> None:
    """Publish rows as a batch, as the driver does."""
    found = _table(spec, rows, first)
    at = found["timestamp"]
    hours = [hour_of(row["timestamp"]) for row in rows]
    more = {
        names.EVENT_TIME: at,
        names.HOUR: pa.array(hours, TIME),
        names.TIMESTAMP: at,
        names.GENERATION: pa.array([GENERATION] * len(rows)),
        names.BATCH: pa.array([batch] * len(rows), pa.int64()),
        names.ERRORS: pa.nulls(len(rows), pa.list_(pa.string())),
        names.VALUE: pa.nulls(len(rows), pa.binary()),
    }
    for name, column in more.items():
        found = found.append_column(name, column)
    manifest = Manifest(
        stream=spec.name,
        zone="raw",
        generation=GENERATION,
        batch=batch,
        epoch=1,
        write_number=batch,
        topic=spec.source.kafka.topic,
        topic_id="topic",
        span={0: (first, first + len(rows))},
        read=len(rows),
        valid=len(rows),
        quarantined=0,
        quarantined_by_rule={},
        hours={hour: hours.count(hour) for hour in set(hours)},
        first_event=min(row["timestamp"] for row in rows),
        last_event=max(row["timestamp"] for row in rows),
        files=("part-0.parquet",),
        spec_sha256="",
        written_at=datetime.now(UTC),
    )
    folder = f"{names.raw_path(spec)}/{BatchName(GENERATION, batch).folder}"
    _write(settings, f"{folder}/part-0.parquet", _parquet(found))
    _write(settings, f"{folder}/{names.MANIFEST_FILE}", manifest.model_dump_json().encode())


def close_kpis(settings: Settings, spec: Spec, hour: datetime, rows: Sequence[Row]) -> None:
    """Write the KPIs of an hour as a close does."""
    mine = [r for r in rows if hour <= r["timestamp"] < hour + HOUR]
    overall = [{"readings": len(mine), "mean_temperature": mean(r["temperature"] for r in mine)}]
    sensors = sorted({r["sensor_id"] for r in mine})
    worst = [
        {"sensor_id": s, "worst_co2": max(r["co2"] for r in mine if r["sensor_id"] == s)}
        for s in sensors
    ]
    for kpi, found in (("overall", overall), ("by_sensor", worst)):
        fields = [{"name": next(iter(found[0])), "metadata": {"streamkeeper.revision": 1}}]
        metadata = {"org.apache.spark.sql.parquet.row.metadata": json.dumps({"fields": fields})}
        table = pa.Table.from_pylist(found).replace_schema_metadata(metadata)
        _write(settings, closed_file(spec, names.kpi_zone(kpi), hour), _parquet(table))


def _parquet(rows: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(rows, out)
    return out.getvalue()


def _write(settings: Settings, path: str, data: bytes) -> None:
    lake = arrow_filesystem(settings.lake)
    lake.create_dir(path.rpartition("/")[0])
    with lake.open_output_stream(path) as file:
        file.write(data)


# The pages
def address(url: str, stream: str, view: str = "live") -> str:
    """Return the address of a page."""
    return f"{url}/?{urlencode({'stream': stream, 'view': view})}"


def tiles(page: Page) -> dict[str, tuple[str, str]]:
    """Return the tiles of a page by label: value and change."""
    found = page.get_by_test_id("stMetric").evaluate_all(
        """nodes => nodes.map(node => ["Label", "Value", "Delta"].map(part => {
            const found = node.querySelector(`[data-testid="stMetric${part}"]`)
            return found ? found.innerText.trim() : ""
        }))"""
    )
    told: dict[str, tuple[str, str]] = {}
    for label, value, change in found:
        told.setdefault(label, (value, change))
    return told
