"""A stream with a Delta sink whose lake is a folder, for tests without servers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from streamkeeper import names
from streamkeeper.launches import write_number
from streamkeeper.manifest import Manifest
from streamkeeper.names import BatchName
from streamkeeper.spec.models import Spec
from streamkeeper.spec.sinks import DeltaSink
from streamkeeper_spark.sinks.delta import DeltaRaw

LAKE = "file:///"
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
TIME = pa.timestamp("us", "UTC")
OLD, NEW = "00000000-0000-0000-0000-00000000000f", "00000000-0000-0000-0000-00000000000a"
FIELDS = {
    "place": {"type": "string"},
    "floor": {"type": "int32"},
    "value": {"type": "double"},
    "at": {"type": "timestamp", "required": True},
}
Reading = dict[str, Any]


def declaration(folder: Path, fields: dict[str, Any] | None = None, **sink: Any) -> dict[str, Any]:
    """Return the data of a declaration with one Delta sink, whose lake is a folder."""
    given = {"kind": "delta", "of": "raw", "path": str(folder / "table"), "partition_by": ["place"]}
    return {
        "description": "readings",
        "source": {"kafka": {"topic": "readings"}},
        "fields": FIELDS if fields is None else fields,
        "event_time": {"field": "at"},
        "lake": {"path": str(folder / "lake")},
        "sinks": [given | sink],
    }


def stream(folder: Path, fields: dict[str, Any] | None = None, **sink: Any) -> Spec:
    """Return a stream with one Delta sink, whose lake is a folder."""
    names_ = {"name": "readings", "app": "readings"}
    return Spec.model_validate(declaration(folder, fields, **sink) | names_)


def sink_of(spec: Spec) -> DeltaRaw:
    """Return the stream's sink."""
    (declared,) = spec.sinks
    assert isinstance(declared, DeltaSink)
    return DeltaRaw(spec, declared, LAKE, LAKE)


def publish(
    spec: Spec,
    rows: Sequence[Reading],
    batch: int,
    *,
    generation: str = OLD,
    epoch: int = 1,
    first: int | None = None,
    topic_id: str = "topic-1",
) -> Manifest:
    """Publish readings as one batch; one with `bad` is quarantined."""
    first = batch * 100 if first is None else first
    folder = Path(names.raw_path(spec)) / BatchName(generation, batch).folder
    folder.mkdir(parents=True)
    bad = [bool(row.get("bad")) for row in rows]
    columns = {
        "place": pa.array([row.get("place") for row in rows], pa.string()),
        "floor": pa.array([row.get("floor") for row in rows], pa.int32()),
        "value": pa.array([row.get("value") for row in rows], pa.float64()),
        "at": pa.array([row.get("at", NOON) for row in rows], TIME),
        names.TOPIC_ID: pa.array([topic_id] * len(rows)),
        names.PARTITION: pa.array([0] * len(rows), pa.int32()),
        names.OFFSET: pa.array(range(first, first + len(rows)), pa.int64()),
        names.ERRORS: pa.array([["x: y"] if b else None for b in bad], pa.list_(pa.string())),
    }
    pq.write_table(pa.table(columns), folder / "part-0.parquet")
    return Manifest(
        stream=spec.name, zone="raw", generation=generation, batch=batch, epoch=epoch,
        write_number=write_number(epoch, batch), topic="readings", topic_id=topic_id,
        span={0: (first, first + len(rows))}, read=len(rows), valid=len(rows) - sum(bad),
        quarantined=sum(bad), quarantined_by_rule={}, hours={NOON: len(rows)}, first_event=NOON,
        last_event=NOON, files=("part-0.parquet",), spec_sha256="0", written_at=NOON,
    )  # fmt: skip


def apply(sink: DeltaRaw, spec: Spec, *manifests: Manifest) -> list[int]:
    """Apply batches in this order; return how many rows of each."""
    root = names.raw_path(spec)
    return [sink.apply(m, f"{root}/{BatchName(m.generation, m.batch).folder}") for m in manifests]
