"""Helpers of the tests: messages in, landed rows out, by the functions of the driver."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from pyspark.sql import SparkSession

from streamkeeper.spec.models import Spec
from streamkeeper_spark.checks import RecordChecks, rule_of
from streamkeeper_spark.parse import Frame

DOCUMENT = Path(__file__).parents[2] / "docs" / "bad-input.md"
ACCEPTED = "accepted"
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SCHEMA = "key binary, value binary, partition int, offset long, timestamp timestamp"


class Case(NamedTuple):
    """A message, the rules that it breaks, and values that must land as they are."""

    title: str
    value: bytes | None
    broken: list[str]
    landed: Mapping[str, Any] = MappingProxyType({})

    def line(self) -> str:
        """Return the line of the document's tables that tells the verdict."""
        verdict = ", ".join(f"`{rule}`" for rule in self.broken) or ACCEPTED
        return f"| {self.title} | {verdict} |"

    def hold(self, row: Mapping[str, Any]) -> None:
        """Hold the landed row against the verdict; only what is not valid keeps its bytes."""
        assert rules(row) == self.broken, row["_errors"]
        assert row["_value"] == (self.value if self.broken else None)
        for name, value in self.landed.items():
            assert row[name] == value


def make_spec(
    fields: dict[str, dict[str, Any]], *, source: dict[str, Any] | None = None, **event_time: Any
) -> Spec:
    """Return a declaration with these fields; its event time is `timestamp`."""
    return Spec.model_validate(
        {
            "name": "readings",
            "description": "Readings of the tests.",
            "app": "readings",
            "source": {"kafka": {"topic": "readings"}, **(source or {})},
            "fields": fields,
            "event_time": {"field": "timestamp", **event_time},
            "lake": {"path": "/tmp/readings"},
        }
    )


def land(
    spark: SparkSession, spec: Spec, values: Sequence[bytes | None], broker: datetime = NOW
) -> list[dict[str, Any]]:
    """Land messages of one partition and return the rows in their order."""
    rows = [(b"key", value, 0, n, broker) for n, value in enumerate(values)]
    messages = spark.createDataFrame(rows, SCHEMA)
    landed = RecordChecks(spec, Frame()).apply(messages, "topic-id").toArrow().to_pylist()
    return sorted(landed, key=lambda r: r["_offset"])


def rules(row: Mapping[str, Any]) -> list[str]:
    """Return the names of the rules that a row broke."""
    return [rule_of(finding) for finding in row["_errors"] or ()]
