"""Streams and messages of the driver's tests."""

from __future__ import annotations

import json
import random
import secrets
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

from drivers import manifests

from streamkeeper import names
from streamkeeper.settings import Settings
from streamkeeper.spans import holes
from streamkeeper.spec.loader import load_spec
from streamkeeper.spec.models import Spec
from streamkeeper_io import kafka
from streamkeeper_io.lake import read_rows

CITIES = ("Casablanca", "Rabat", "Marrakech", "Fes", "Tanger", "Agadir")
TEMPERATURE = Path(__file__).parents[2] / "include" / "streams" / "temperature.yaml"


def temperature(settings: Settings, *, windows: bool = True) -> Spec:
    """Return the declared stream `temperature` under names of its own, its topic made."""
    tag = secrets.token_hex(4)
    spec = load_spec(TEMPERATURE).dump()
    spec["name"] = spec["app"] = f"temperature_{tag}"
    spec["source"]["kafka"]["topic"] = f"iot-temperature-{tag}"
    spec["lake"]["path"] = f"/tmp/iot-data-{tag}"
    for sink in spec["sinks"]:
        if sink["kind"] == "cassandra":
            sink["table"] = f"city_{tag}"
    if not windows:
        spec["windows"], spec["sinks"] = [], []
    made = Spec.model_validate(spec)
    kafka.ensure_topic(kafka.Admin(settings), made.source.kafka)
    return made


def reading(number: int, at: datetime | None = None) -> bytes:
    """Return one proper message; its humidity is its number, so that readings can be told apart."""
    at = at or datetime.now(UTC) - timedelta(seconds=random.uniform(0, 20))
    return json.dumps(
        {
            "sensor_id": f"sensor_{number % 20:02d}",
            "city": CITIES[number % 6],
            "temperature": round(random.uniform(15, 45), 2),
            "humidity": number % 100,
            "timestamp": at.isoformat().replace("+00:00", "Z"),
        }
    ).encode()


def assert_nothing_lost_or_doubled(settings: Settings, spec: Spec) -> None:
    """Hold the published batches against the topic: no hole, and each coordinate once."""
    found = manifests(settings, spec)
    topic_id, end = kafka.end_offsets(kafka.Admin(settings), spec.source.kafka.topic)
    assert holes({}, end, [m.span for m in found]) == {}
    coordinates: Counter[tuple[str, int, int]] = Counter()
    for manifest in found:
        folder = f"{names.raw_path(spec)}/batch={manifest.generation}-{manifest.batch}"
        paths = [f"{folder}/{name}" for name in manifest.files]
        rows = 0
        for table in read_rows(settings.lake, paths, list(names.COORDINATES)):
            coordinates.update(zip(*(c.to_pylist() for c in table.columns), strict=True))
            rows += table.num_rows
        assert rows == manifest.read
    everything = {(topic_id, p, o) for p, offset in end.items() for o in range(offset)}
    assert set(coordinates) == everything
    assert max(coordinates.values(), default=1) == 1
