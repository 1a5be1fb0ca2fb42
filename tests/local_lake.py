"""A stream whose lake is a folder, for `show` without servers."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from streamkeeper.manifest import Manifest
from streamkeeper.names import BatchName, closed_file
from streamkeeper.settings import Settings
from streamkeeper.spec.loader import load_spec
from streamkeeper.spec.models import Spec
from streamkeeper_apps.cli import main
from streamkeeper_apps.where import SETTINGS_FILE

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
OLD, NEW = "00000000-0000-0000-0000-00000000000f", "00000000-0000-0000-0000-00000000000a"
TIME = pa.timestamp("us", "UTC")
RAW = pa.schema(
    [
        ("city", pa.string()),
        ("temperature", pa.float64()),
        ("at", TIME),
        ("_event_time", TIME),
        ("_hour", TIME),
        ("_topic_id", pa.string()),
        ("_partition", pa.int32()),
        ("_offset", pa.int64()),
        ("_timestamp", TIME),
        ("_generation", pa.string()),
        ("_batch", pa.int64()),
        ("_errors", pa.list_(pa.string())),
        ("_value", pa.binary()),
    ]
)


def declared_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **changed: Any) -> Spec:
    """A declared stream whose lake is a folder; the commands find it by the environment.

    changed: other keys of the declaration.
    """
    declaration = {
        "description": "Readings of the tests.",
        "source": {"kafka": {"topic": "readings"}},
        "fields": {
            "city": {"type": "string"},
            "temperature": {"type": "double"},
            "at": {"type": "timestamp"},
        },
        "event_time": {"field": "at"},
        "lake": {"path": str(tmp_path / "lake")},
        "windows": [
            {
                "name": "city_30s",
                "size": "30s",
                "watermark": "1min",
                "by": ["city"],
                "measures": {"n": "count(*)"},
            }
        ],
        "kpis": [{"name": "by_city", "by": ["city"], "measures": {"n": "count(*)"}}],
    }
    path = tmp_path / "readings.yaml"
    path.write_text(yaml.safe_dump(declaration | changed))
    # Servers of the checkout that the tests' folder lies in are not the tests'.
    own = tmp_path / SETTINGS_FILE
    own.parent.mkdir()
    own.write_text("{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "150")
    for name, value in Settings(streams=tmp_path, lake="file:///").environment().items():
        monkeypatch.setenv(name, value)
    return load_spec(path)


def row(offset: int, city: str | None, hour: datetime = NOON, **changed: Any) -> dict[str, Any]:
    at = hour + timedelta(seconds=offset)
    fields = {
        "city": city,
        "temperature": 20.5,
        "at": at,
        "_event_time": at,
        "_hour": hour,
        "_topic_id": "id",
        "_partition": 0,
        "_offset": offset,
        "_timestamp": at,
        "_errors": None,
        "_value": None,
    }
    return fields | changed


def publish(
    spec: Spec,
    rows: list[dict[str, Any]],
    *,
    batch: int,
    generation: str = NEW,
    epoch: int = 2,
    zone: str = "raw",
    schema: pa.Schema | None = RAW,
    span: tuple[int, int] | None = None,
) -> None:
    """Write a published batch."""
    folder = Path(spec.lake.path) / zone / BatchName(generation, batch).folder
    folder.mkdir(parents=True)
    if zone == "raw":
        rows = [r | {"_generation": generation, "_batch": batch} for r in rows]
    pq.write_table(pa.Table.from_pylist(rows, schema), folder / "part-0.parquet")
    bad = [r for r in rows if r.get("_errors")]
    hours: dict[datetime, int] = {}
    for r in rows:
        if not r.get("_errors"):
            hour = r["_hour"] if "_hour" in r else r["window_start"].replace(minute=0, second=0)
            hours[hour] = hours.get(hour, 0) + 1
    manifest = Manifest(
        stream=spec.name,
        zone=zone,
        generation=generation,
        batch=batch,
        epoch=epoch,
        write_number=batch,
        topic="readings",
        topic_id="id",
        span={0: span or (0, 1)},
        read=len(rows),
        valid=len(rows) - len(bad),
        quarantined=len(bad),
        quarantined_by_rule={"parse:json": len(bad)} if bad else {},
        hours=hours,
        first_event=None,
        last_event=None,
        files=("part-0.parquet",),
        spec_sha256="",
        written_at=NOON,
    )
    (folder / "_manifest.json").write_text(manifest.model_dump_json())


def write_closed(
    spec: Spec, zone: str, revision: int, rows: list[dict[str, Any]], hour: datetime = NOON
) -> None:
    """Write a closed hour's file as Spark does, its revision in the footer."""
    fields = [{"name": "city", "metadata": {"streamkeeper.revision": revision}}]
    metadata = {"org.apache.spark.sql.parquet.row.metadata": json.dumps({"fields": fields})}
    path = Path(closed_file(spec, zone, hour))
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows).replace_schema_metadata(metadata), path)


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run the command and return what it printed."""
    assert main(["show", "readings", *arguments]) == 0
    return capsys.readouterr().out


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    """Return what the command printed as JSON."""
    found = json.loads(shown(capsys, *arguments, "--format", "json"))
    assert isinstance(found, list)
    return found


def cities(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    """Return the cities of the rows shown, in their order."""
    return [row["city"] for row in as_json(capsys, *arguments)]


def closed_row(offset: int, city: str, batch: int, generation: str = NEW) -> dict[str, Any]:
    """Return a row as a close keeps it."""
    kept = {k: v for k, v in row(offset, city).items() if k not in ("_errors", "_value")}
    return kept | {"_generation": generation, "_batch": batch}
