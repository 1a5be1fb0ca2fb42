"""Batches made for tests of sinks: every type, the extremes of each, on a lake of local files."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from streamkeeper import names
from streamkeeper.launches import write_number
from streamkeeper.manifest import Manifest
from streamkeeper.names import MANIFEST_FILE, BatchName
from streamkeeper.spec.models import Spec

LAKE, GENERATION = "file:///", "0b5f1cce-c51d-5de0-bf8e-ead9f2eb3485"
AT = datetime(2026, 11, 24, 12, 30, 0, 123000, tzinfo=UTC)
_TYPES = {
    "k": pa.string(),
    "at": pa.timestamp("us", "UTC"),
    "text": pa.string(),
    "whole": pa.int64(),
    "small": pa.int32(),
    "number": pa.float64(),
    "single": pa.float32(),
    "yes": pa.bool_(),
    "price": pa.decimal128(38, 18),
}
FIELDS = {
    "k": {"type": "string", "required": True},
    "at": {"type": "timestamp", "required": True},
    "text": {"type": "string"},
    "whole": {"type": "integer"},
    "small": {"type": "int32"},
    "number": {"type": "double"},
    "single": {"type": "float"},
    "yes": {"type": "boolean"},
    "price": {"type": "decimal(38,18)"},
}
Row = dict[str, Any]


def typed_spec(folder: Path, sink: dict[str, Any], **further: Any) -> Spec:
    """Return a stream with a field of every type and one sink; its lake is a local folder."""
    return Spec.model_validate(
        {
            "name": "typed",
            "description": "every type",
            "app": "typed",
            "source": {"kafka": {"topic": "typed"}},
            "fields": FIELDS,
            "event_time": {"field": "at"},
            "lake": {"path": str(folder)},
            "sinks": [sink],
            **further,
        }
    )


def row(key: str, **values: Any) -> Row:
    """Return a reading; what is not given is null."""
    return dict.fromkeys(_TYPES) | {"k": key, "at": AT} | values


def extreme_rows() -> list[Row]:
    """Return rows with nulls, Unicode, and the extremes of each type."""
    first = datetime(1, 1, 1, tzinfo=UTC)
    last = datetime(9999, 12, 31, 23, 59, 59, 999000, tzinfo=UTC)
    nines = Decimal("99999999999999999999.999999999999999999")
    return [
        row("nulls"),
        row("empty", text=""),
        row("كازابلانكا 🌡️ e\u0301", text='Fès "x", \\.\n\\N\r\t\u2028 NULL'),
        row("\\.", text="\\."),
        row("first", at=first, whole=-(2**63), small=-(2**31), number=-1.7976931348623157e308),
        row("last", at=last, whole=2**63 - 1, small=2**31 - 1, number=5e-324, yes=True),
        row("tiny", number=0.1, single=1.401298464324817e-45, price=Decimal("1E-18"), yes=False),
        row("great", number=1e300, single=3.4028234663852886e38, price=nines),
        row("less", number=-0.1, single=-1.5, price=nines.copy_negate()),
        row("endless", number=float("inf"), single=float("-inf")),
    ]


def publish(
    spec: Spec,
    rows: Sequence[Row],
    *,
    batch: int,
    epoch: int = 1,
    zone: str = "raw",
    without: Sequence[str] = (),
) -> Manifest:
    """Publish rows as one batch below the stream's folder; return its manifest.

    Parameters: without, columns that the files lack, as if their fields were not declared yet.
    """
    folder = _folder(spec, zone, batch)
    folder.mkdir(parents=True)
    files = ("part-0.parquet",) if rows else ()
    if rows:
        table = _landed(rows, batch) if zone == "raw" else _windows(rows)
        pq.write_table(table.drop_columns(list(without)), folder / files[0])
    manifest = Manifest(
        stream=spec.name, zone=zone, generation=GENERATION, batch=batch, epoch=epoch,
        write_number=write_number(epoch, batch), topic="typed", topic_id="typed-id",
        span={0: (batch * 1000, batch * 1000 + len(rows))}, read=len(rows), valid=len(rows),
        quarantined=0, quarantined_by_rule={}, hours={}, first_event=None, last_event=None,
        files=files, spec_sha256="", written_at=datetime.now(UTC),
    )  # fmt: skip
    (folder / MANIFEST_FILE).write_text(manifest.model_dump_json())
    return manifest


def _folder(spec: Spec, zone: str, batch: int) -> Path:
    root = names.raw_path(spec) if zone == "raw" else names.window_path(spec, zone[8:])
    return Path(root) / BatchName(GENERATION, batch).folder


def _landed(rows: Sequence[Row], batch: int) -> pa.Table:
    count = len(rows)
    columns = {name: pa.array([r[name] for r in rows], kind) for name, kind in _TYPES.items()}
    columns[names.TOPIC_ID] = pa.array(["typed-id"] * count)
    columns[names.PARTITION] = pa.array([0] * count, pa.int32())
    columns[names.OFFSET] = pa.array(range(batch * 1000, batch * 1000 + count), pa.int64())
    columns[names.TIMESTAMP] = pa.array([AT] * count, pa.timestamp("us", "UTC"))
    columns[names.ERRORS] = pa.array([None] * count, pa.list_(pa.string()))
    return pa.table(columns)


def _windows(rows: Sequence[Row]) -> pa.Table:
    time = pa.timestamp("us", "UTC")
    kinds = {"k": pa.string(), "window_start": time, "window_end": time, "n": pa.int64()}
    return pa.table({n: pa.array([r[n] for r in rows], kind) for n, kind in kinds.items()})
