"""`show`: how long `streamkeeper show` takes on a stream of 1,000,000 landed rows.

Two hours are closed, a third is open. Batches of a stream that keeps up, and the large one of a
driver that had to catch up, which is the newest: the worst place for a look at the last rows. All
valid rows are in a Delta table too.
"""

from __future__ import annotations

import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from bench.rows import Row
from bench.servers import CITIES, readings_stream, servers
from streamkeeper import names
from streamkeeper.generations import Generation
from streamkeeper.hours import HOUR, Revision
from streamkeeper.manifest import Manifest
from streamkeeper.names import BatchName, closed_file, format_hour
from streamkeeper.settings import Settings
from streamkeeper.spec.models import Spec
from streamkeeper.spec.sinks import DeltaSink
from streamkeeper_io.batch_index import sync_index
from streamkeeper_io.closed import REVISION_KEY
from streamkeeper_io.delta import DeltaMark, DeltaWriter, Plan
from streamkeeper_io.delta_sinks import raw_shape
from streamkeeper_io.lake import hdfs_client
from streamkeeper_io.store import Store

GOAL_S = 2.0
_BEGIN = datetime(2026, 11, 24, 12, tzinfo=UTC)
_TIME = pa.timestamp("us", "UTC")
_BAD_EVERY = 200
_COMMITS = 20
_SPARK = "org.apache.spark.sql.parquet.row.metadata"


def measure(short: bool) -> list[Row]:
    """Look at 1,000,000 landed rows (20,000 when short) in fresh processes."""
    count, rounds = (20_000, 1) if short else (1_000_000, 5)
    with (
        servers("kafka", "namenode", "datanode", "postgres") as settings,
        tempfile.TemporaryDirectory() as folder,
    ):
        tag = uuid.uuid4().hex[:8]
        sinks = [
            {"kind": "delta", "of": "raw", "path": f"/bench-show-{tag}", "partition_by": ["city"]}
        ]
        spec = readings_stream(settings, f"bench-show-{tag}", sinks=sinks)
        declaration = spec.model_dump(mode="json", exclude_defaults=True, exclude={"name"})
        (Path(folder) / f"{spec.name}.yaml").write_text(yaml.safe_dump(declaration))
        land(settings, spec, count)
        _fill_table(settings, spec, count)
        # The first process compiles what the later ones find compiled, as on anyone's machine.
        _run(settings, spec.name, folder, *next(iter(_looks(count).items())))
        seconds = {
            what: statistics.median(
                [_run(settings, spec.name, folder, what, expected) for _ in range(rounds)]
            )
            for what, expected in _looks(count).items()
        }
    slowest = max(seconds, key=lambda what: seconds[what])
    told = "; ".join(f"{what}: {s:.2f}" for what, s in seconds.items())
    return [
        Row(
            "show",
            value=seconds[slowest],
            unit="s",
            bound="at most",
            goal=GOAL_S,
            note=f"the slowest look at {count:,} landed rows, process start to end; s: {told}",
        )
    ]


def _looks(count: int) -> dict[str, str]:
    """Return the looks with what each has to print."""
    bad = count // _BAD_EVERY
    last = format_hour(_BEGIN + 2 * HOUR)
    return {
        "--limit 20": "the last rows",
        "--count": f"{count - bad:,} rows in 3 hours",
        f"--hour {last}": f"{last}: the last rows",
        "--zone raw": "the rows that landed last",
        "--zone raw --count": f"{count - bad:,} valid rows, {bad:,} quarantined",
        "--zone curated": "revision 1",
        "--zone curated --count": "rows in 2 hours",
        f"--zone curated --hour {last}": "rows have landed",
        "--zone quarantine": "parse:json",
        "--zone quarantine --count": f"{bad:,} records",
        "--zone delta": "the rows that were written last",
        "--zone delta --count": f"{count - bad:,} rows in 3 hours",
        "--zone topic --count": "0 messages",
    }


def _run(settings: Settings, stream: str, streams: str, what: str, expected: str) -> float:
    command = [sys.executable, "-m", "streamkeeper_apps.cli", "show", stream, *what.split()]
    env = os.environ | settings.environment()
    env |= {"STREAMKEEPER_STREAMS": streams, "COLUMNS": "200"}
    env |= {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": f"{streams}/bytecode"}
    began = time.perf_counter()
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode != 0 or expected not in done.stdout:
        raise RuntimeError(f"show {what}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return seconds


# What the driver and the close write
def land(settings: Settings, spec: Spec, count: int) -> None:
    """Publish batches and closed hours as the driver and a close do, without starting Spark."""
    rows, generation = landed_rows(count), str(uuid.uuid4())
    small = count // 2_500
    sizes = [(count * 6 // 10) // small] * small
    sizes.append(count - sum(sizes))
    writes = [_begun(spec, generation)]
    for batch, size in enumerate(sizes):
        writes += _batch(spec, rows.slice(sum(sizes[:batch]), size), generation, batch)
    store = Store(settings.store)
    store.migrate()
    for hour in (_BEGIN, _BEGIN + HOUR):
        valid = pc.and_(_equals(rows[names.HOUR], hour), pc.is_null(rows[names.ERRORS]))
        mine = rows.filter(valid).drop_columns([names.ERRORS, names.VALUE])
        mine = _set(_set(mine, names.GENERATION, generation), names.BATCH, small)
        fields = [{"name": "sensor_id", "metadata": {REVISION_KEY: 1}}]
        marked = mine.replace_schema_metadata({_SPARK: json.dumps({"fields": fields})})
        writes.append((closed_file(spec, names.CURATED, hour), _parquet(marked)))
        store.commit_revision(_revision(spec, hour, mine.num_rows, {generation: small}))
    client = hdfs_client(settings.lake)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda write: _write(client, *write), writes))
    # What every close does; a look then indexes what has landed since.
    sync_index(store, settings.lake, spec)
    store.close()


def _fill_table(settings: Settings, spec: Spec, count: int) -> None:
    """Commit all valid rows to the stream's Delta table as its sink does."""
    (sink,) = spec.sinks
    assert isinstance(sink, DeltaSink)
    writer = DeltaWriter(settings.lake, sink.path, raw_shape(spec, sink))
    rows = landed_rows(count)
    rows = rows.filter(pc.is_null(rows[names.ERRORS]))
    size = -(-rows.num_rows // _COMMITS)
    for number in range(_COMMITS):
        part = _set(rows.slice(number * size, size), names.WRITE_NUMBER, number)
        writer.write(DeltaMark("bench", number), lambda _, part=part: Plan([part]))  # type: ignore[misc]


def _equals(column: pa.ChunkedArray, hour: datetime) -> pa.ChunkedArray:
    return pc.equal(column, pa.scalar(hour, _TIME))


def _begun(spec: Spec, generation: str) -> tuple[str, bytes]:
    began = Generation(
        stream=spec.name,
        query=names.LAND,
        generation=generation,
        topic=spec.source.kafka.topic,
        topic_id="topic",
        start={0: 0},
        epoch=1,
    )
    checkpoint = f"{names.checkpoint_path(spec, names.LAND)}/{generation}"
    return f"{checkpoint}/{names.GENERATION_FILE}", began.model_dump_json().encode()


def _batch(spec: Spec, rows: pa.Table, generation: str, batch: int) -> list[tuple[str, bytes]]:
    rows = _set(_set(rows, names.GENERATION, generation), names.BATCH, batch)
    first = rows[names.OFFSET][0].as_py()
    manifest = _manifest(spec, rows, generation, batch, (first, first + rows.num_rows))
    folder = f"{names.raw_path(spec)}/{BatchName(generation, batch).folder}"
    return [
        (f"{folder}/part-0.parquet", _parquet(rows)),
        (f"{folder}/{names.MANIFEST_FILE}", manifest.model_dump_json().encode()),
    ]


def _write(client: Any, path: str, data: bytes) -> None:
    client.mkdirs(path.rpartition("/")[0], create_parent=True)
    with client.create(path) as file:
        file.write(data)


def landed_rows(count: int) -> pa.Table:
    """Return readings of three hours as they landed, some of them quarantined."""
    draw = np.random.default_rng(1)
    number = np.arange(count)
    micros = int(_BEGIN.timestamp() * 1e6) + number * int(3 * 3_600e6 / count)
    at = pa.array(micros, pa.int64()).cast(_TIME)
    hour = pa.array(micros // int(3_600e6) * int(3_600e6), pa.int64()).cast(_TIME)
    bad = number % _BAD_EVERY == 0
    errors = [["parse:json: the message is cut off"] if b else None for b in bad]
    return pa.table(
        {
            "sensor_id": [f"sensor_{n % 20:02d}" for n in range(count)],
            "city": [CITIES[n % 6] for n in range(count)],
            "temperature": draw.uniform(15, 45, count),
            "humidity": draw.uniform(20, 90, count),
            "timestamp": at,
            names.EVENT_TIME: at,
            names.HOUR: hour,
            names.TOPIC_ID: pa.array(["topic"] * count),
            names.PARTITION: pa.array(number * 0, pa.int32()),
            names.OFFSET: pa.array(number, pa.int64()),
            names.TIMESTAMP: at,
            names.KEY: pa.nulls(count, pa.binary()),
            names.ERRORS: pa.array(errors, pa.list_(pa.string())),
            names.VALUE: pa.array([b'{"sensor_id": "se' if b else None for b in bad], pa.binary()),
        }
    )


def _set(rows: pa.Table, name: str, value: str | int) -> pa.Table:
    column = pa.array(
        [value] * rows.num_rows, pa.string() if isinstance(value, str) else pa.int64()
    )
    if name in rows.column_names:
        rows = rows.drop_columns([name])
    return rows.append_column(name, column)


def _parquet(rows: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(rows, out, row_group_size=rows.num_rows)
    return out.getvalue()


def _manifest(
    spec: Spec, rows: pa.Table, generation: str, batch: int, span: tuple[int, int]
) -> Manifest:
    valid = rows.filter(pc.is_null(rows[names.ERRORS]))
    hours = valid.group_by(names.HOUR).aggregate([([], "count_all")]).to_pylist()
    bad = rows.num_rows - valid.num_rows
    return Manifest(
        stream=spec.name,
        zone="raw",
        generation=generation,
        batch=batch,
        epoch=1,
        write_number=batch,
        topic=spec.source.kafka.topic,
        topic_id="topic",
        span={0: span},
        read=rows.num_rows,
        valid=valid.num_rows,
        quarantined=bad,
        quarantined_by_rule={"parse:json": bad} if bad else {},
        hours={row[names.HOUR]: row["count_all"] for row in hours},
        first_event=None,
        last_event=None,
        files=("part-0.parquet",),
        spec_sha256="",
        written_at=_BEGIN + timedelta(seconds=30 * batch),
    )


def _revision(spec: Spec, hour: datetime, rows: int, merged: dict[str, int]) -> Revision:
    return Revision(
        stream=spec.name,
        hour=hour,
        revision=1,
        epoch=1,
        write_number=1,
        state="complete",
        merged=merged,
        files={names.CURATED: [names.CLOSED_FILE]},
        counts={"rows": {names.CURATED: rows}},
        stores_pending=False,
        committed_at=hour + 2 * HOUR,
    )
