"""The simulator's faults against the driver's checks: quarantined = malformed + out of range."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from landed import NOW, land, rules
from pyspark.sql import SparkSession

from streamkeeper.spec.loader import load_spec
from streamkeeper.spec.models import Spec
from streamkeeper_apps.producer.faults import HeldBack
from streamkeeper_apps.producer.pacing import micros
from streamkeeper_apps.producer.simulator import Simulation

TEMPERATURE = load_spec(Path(__file__).parents[2] / "include" / "streams" / "temperature.yaml")
FAULTS = {
    **{"malformed": 0.15, "out_of_range": 0.1, "duplicate": 0.05},
    "late": {"share": 0.1, "by": "3h"},
    "out_of_order": {"share": 0.1, "by": "5s"},
}


def declared(**source: Any) -> Spec:
    data = TEMPERATURE.dump() | {"windows": [], "sinks": []}
    data["source"] |= source
    data["producer"]["simulator"]["faults"] = FAULTS
    if source.get("format") != "csv":
        # 15 to 45 °F land as about -9 to 7 °C
        data["fields"]["temperature"] |= {"path": "measured.air.t", "sent_unit": "°F"}
    return Spec.model_validate(data)


@pytest.mark.parametrize(
    "source", [{}, {"strict": False}, {"format": "csv"}], ids=["json", "not strict", "csv"]
)
def test_exactly_what_is_wrong_is_quarantined(spark: SparkSession, source: dict[str, Any]) -> None:
    spec = declared(**source)
    simulation = Simulation(spec)
    first = simulation.first_from(micros(NOW - timedelta(minutes=30)))
    batch = simulation.batch(first, 1200, HeldBack(simulation.plan, first))
    rows = land(spark, spec, [message.value for message in batch.messages])
    told = Counter(batch.faults)
    assert min(told[kind] for kind in FAULTS) > 20
    wrong = Counter[str]()
    for row, fault, hour in zip(rows, batch.faults, batch.hours, strict=True):
        broken = rules(row)
        assert bool(broken) == (fault in ("malformed", "out_of_range")), (fault, row)
        if fault == "out_of_range":
            (rule,) = broken
            assert rule.startswith("range:")
        elif fault == "malformed":
            assert all(rule.startswith(("parse:", "type:timestamp")) for rule in broken), broken
            wrong.update(rule.partition(":")[2] for rule in broken)
        else:
            landed: datetime = row["timestamp"].replace(tzinfo=UTC)
            assert landed.timestamp() // 3600 == hour
    assert {"utf8", "timestamp"} < set(wrong)
    if spec.source.format == "json":
        assert set(wrong) == {"utf8", "timestamp", "json", "empty"}
