"""A small declaration and landed rows for the tests of closed hours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from streamkeeper.manifest import Manifest
from streamkeeper.spec.models import Spec

HOUR_12 = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOURS = [HOUR_12, HOUR_12 + timedelta(hours=1)]


def make_spec(path: str) -> Spec:
    """Return a declaration whose lake is a folder."""
    return Spec.model_validate(
        {
            "name": "readings",
            "description": "Readings of the tests.",
            "app": "readings",
            "source": {"kafka": {"topic": "readings"}},
            "fields": {
                "city": {"type": "string"},
                "temperature": {"type": "double"},
                "timestamp": {"type": "timestamp"},
            },
            "event_time": {"field": "timestamp"},
            "lake": {"path": path},
            "kpis": [
                {
                    "name": "overall",
                    "measures": {
                        "readings": "count(*)",
                        "cities": "count(distinct city)",
                        "mean": "avg(temperature)",
                    },
                },
                {
                    "name": "by_city",
                    "by": ["city"],
                    "measures": {"mean": "avg(temperature)", "readings": "count(*)"},
                    "order_by": "mean",
                },
                {"name": "coldest", "top": 2, "order_by": "temperature", "descending": False},
            ],
            "alerts": [
                {
                    **{"name": "warm", "field": "temperature", "above": 21},
                    "where": "city in ('Fes', 'Agadir')",
                },
            ],
        }
    )


def landed_row(
    spec: Spec,
    offset: int,
    *,
    city: str = "Fes",
    temperature: float | None = 20.0,
    hour: datetime = HOUR_12,
    minute: int = 1,
    partition: int = 0,
    topic_id: str = "topic",
    generation: str = "generation-a",
    batch: int = 0,
    errors: list[str] | None = None,
    arrival: datetime | None = None,
) -> dict[str, Any]:
    """Return one landed row as the driver writes it."""
    instant = hour + timedelta(minutes=minute)
    return {
        "city": city,
        "temperature": temperature,
        "timestamp": instant,
        "_event_time": instant,
        "_hour": hour,
        "_topic_id": topic_id,
        "_partition": partition,
        "_offset": offset,
        "_timestamp": arrival or instant,
        "_generation": generation,
        "_batch": batch,
        "_key": b"key",
        "_errors": errors,
        "_value": b"bytes" if errors else None,
    }


def manifest_of(spec: Spec, rows: Sequence[dict[str, Any]], *, batch: int) -> Manifest:
    """Return the manifest of a batch that holds these rows, its files left out."""
    valid = [r for r in rows if r["_errors"] is None]
    offsets = [r["_offset"] for r in rows]
    return Manifest(
        stream=spec.name,
        zone="raw",
        generation="00000000-0000-0000-0000-00000000000a",
        batch=batch,
        epoch=1,
        write_number=10**9 + batch,
        topic="readings",
        topic_id="topic",
        span={0: (min(offsets), max(offsets) + 1)},
        read=len(rows),
        valid=len(valid),
        quarantined=len(rows) - len(valid),
        quarantined_by_rule={},
        hours=dict(Counter(r["_hour"] for r in valid)),
        first_event=None,
        last_event=None,
        files=(),
        spec_sha256="",
        written_at=datetime.now(UTC),
    )
