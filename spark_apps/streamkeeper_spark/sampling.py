"""Tries a declaration on the newest messages of its topic; nothing lands, nothing is committed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession

from streamkeeper import names
from streamkeeper.settings import Settings
from streamkeeper.spec.models import Spec
from streamkeeper_io import kafka
from streamkeeper_io.kafka import source_options
from streamkeeper_spark.checks import RecordChecks, rule_of
from streamkeeper_spark.parse import Frame
from streamkeeper_spark.source import starting_offsets

EXAMPLES = 3
_LONGEST = 200
Offsets = Mapping[int, int]


def newest(begin: Offsets, end: Offsets, count: int) -> dict[int, int]:
    """Return from which offset of each partition on to read, to have about so many of the newest.

    Each partition gives its share; what one lacks, the others give.
    """
    held = {partition: end[partition] - begin.get(partition, 0) for partition in end}
    left, start = count, dict(end)
    for place, partition in enumerate(sorted(end, key=lambda p: held[p])):
        share = -(-left // (len(end) - place))
        taken = min(held[partition], share)
        start[partition] = end[partition] - taken
        left -= taken
    return start


def take_sample(spark: SparkSession, settings: Settings, spec: Spec, count: int) -> dict[str, Any]:
    """Return what the declaration makes of the newest messages, as JSON data.

    Raises TopicMissing, KafkaUnavailable.
    """
    topic = spec.source.kafka.topic
    admin = kafka.Admin(settings)
    topic_id, begin = kafka.begin_offsets(admin, topic)
    _, end = kafka.end_offsets(admin, topic)
    start = newest(begin, end, count)
    messages = (
        spark.read.format("kafka")
        .options(**source_options(settings))
        .option("subscribe", topic)
        .option("startingOffsets", starting_offsets(topic, start))
        .option("endingOffsets", starting_offsets(topic, end))
        .load()
    )
    rows = RecordChecks(spec, Frame()).apply(messages, topic_id).toArrow()
    return {"topic": topic, "spans": {str(p): [start[p], end[p]] for p in end}, **tell(spec, rows)}


def tell(spec: Spec, rows: pa.Table) -> dict[str, Any]:
    """Return the counts of rows by verdict, with examples of each rule."""
    bad = rows.filter(pc.is_valid(rows[names.ERRORS])).sort_by(
        [(names.PARTITION, "ascending"), (names.OFFSET, "ascending")]
    )
    good = rows.filter(pc.is_null(rows[names.ERRORS]))
    rules: dict[str, dict[str, Any]] = {}
    for row in bad.to_pylist():
        for rule, finding in {rule_of(f): f for f in reversed(row[names.ERRORS])}.items():
            of_rule = rules.setdefault(rule, {"records": 0, "examples": []})
            of_rule["records"] += 1
            if len(of_rule["examples"]) < EXAMPLES:
                of_rule["examples"].append(_example(row, finding))
    ends = [check.rule for check in spec.checks if check.on_fail == "fail" and check.rule in rules]
    warned: Counter[str] = Counter()
    if names.WARNINGS in good.column_names:
        for marks in good[names.WARNINGS].to_pylist():
            warned.update(marks or ())
    shown = good.slice(0, EXAMPLES).select(list(spec.columns())).to_pylist()
    return {
        "read": rows.num_rows,
        "valid": good.num_rows,
        "quarantined": bad.num_rows,
        "rules": dict(sorted(rules.items(), key=lambda item: -item[1]["records"])),
        "ends": ends,
        "warned": dict(warned.most_common()),
        "rows": [{name: _text(value) for name, value in row.items()} for row in shown],
    }


def _example(row: Mapping[str, Any], finding: str) -> dict[str, Any]:
    value = (row[names.VALUE] or b"").decode("utf-8", "backslashreplace")
    return {
        "partition": row[names.PARTITION],
        "offset": row[names.OFFSET],
        "finding": finding,
        "value": value if len(value) <= _LONGEST else value[: _LONGEST - 3] + "...",
    }


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
