"""Closes of hours as `Close` does them, without its store: on a lake of local files."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from spark_specs import HOUR_12, landed_row, manifest_of

from streamkeeper.closing import Task
from streamkeeper.generations import Change, Counted, Generation
from streamkeeper.hours import HOUR, Completeness, Revision
from streamkeeper.manifest import Manifest
from streamkeeper.names import CLOSED_FILE
from streamkeeper_spark.anomalies import HourAnomalies
from streamkeeper_spark.schema import landed_schema
from streamkeeper_spark.staging import Staging


def published(staging: Staging, rows: list[dict[str, Any]], batch: int) -> Manifest:
    """Publish a batch and return its manifest."""
    spec = staging.spec
    manifest = manifest_of(spec, rows, batch=batch)
    folder = f"{spec.lake.path}/raw/batch={manifest.generation}-{batch}"
    frame = staging.spark.createDataFrame(rows, landed_schema(spec))
    frame.coalesce(1).write.parquet(folder)
    files = tuple(p.name for p in Path(folder).glob("*.parquet"))
    return manifest.model_copy(update={"files": files})


def close(
    staging: Staging,
    rows: list[dict[str, Any]],
    latest: dict[datetime, Revision],
    batch: int,
    *,
    partial: Collection[datetime] = (),
    replaced: bool = False,
) -> dict[datetime, dict[str, int]]:
    """Publish a batch and close its hours in one close, as `Close` does without its store.

    The revisions go into `latest`. Returns how many anomalies were found.
    """
    manifest = published(staging, rows, batch)
    change = Change((manifest,), replaced=replaced, keeps=True)
    tasks = [
        Task(h, latest.get(h), change, Completeness(complete=h not in partial), {"g": batch})
        for h in sorted({row["_hour"] for row in rows})
    ]
    counted = Counted(
        [
            Generation(
                **{"stream": "readings", "query": "land", "topic": "readings"},
                **{"generation": manifest.generation, "topic_id": "topic", "start": {}, "epoch": 1},
            )
        ],
        [],
    )
    folders = {n: staging.folder(batch + 1, n) for n in sorted({t.number for t in tasks})}
    written: dict[datetime, dict[str, int]] = {}
    for number, folder in folders.items():
        group = [task for task in tasks if task.number == number]
        written |= staging.write(group, folder, counted)
    found = HourAnomalies(staging, tasks, folders, written, latest).write()
    made = [
        Revision(
            **{"stream": "readings", "hour": t.hour, "revision": t.number, "epoch": batch + 1},
            **{"write_number": batch + 1, "merged": {}, "staging": folders[t.number]},
            state="partial" if t.hour in partial else "complete",
            files={zone: [CLOSED_FILE] for zone in written[t.hour]},
            committed_at=datetime.now(UTC),
        )
        for t in tasks
    ]
    staging.move(made)
    latest |= {revision.hour: revision for revision in made}
    return found


def readings(
    staging: Staging, temperatures: dict[int, dict[str, float | None]], batch: int
) -> list[dict[str, Any]]:
    """Return a reading of each city in each hour, so that it is the KPI's mean."""
    return [
        landed_row(
            staging.spec,
            1000 * batch + n,
            hour=HOUR_12 + hour * HOUR,
            city=city,
            temperature=value,
            generation="00000000-0000-0000-0000-00000000000a",
            batch=batch,
        )
        for n, (hour, city, value) in enumerate(
            (h, c, v) for h, cities in temperatures.items() for c, v in cities.items()
        )
    ]
