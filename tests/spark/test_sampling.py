"""A declaration tried on messages: which are read, and what is told of them."""

from __future__ import annotations

import pyarrow as pa
import pytest
from landed import NOW, SCHEMA, make_spec
from pyspark.sql import SparkSession

from streamkeeper.spec.models import Spec
from streamkeeper_spark.checks import RecordChecks
from streamkeeper_spark.parse import Frame
from streamkeeper_spark.sampling import newest, tell


@pytest.mark.parametrize(
    ("begin", "end", "count", "start"),
    [
        ({0: 0}, {0: 100}, 10, {0: 90}),
        ({0: 95}, {0: 100}, 10, {0: 95}),
        ({0: 0, 1: 0}, {0: 100, 1: 100}, 10, {0: 95, 1: 95}),
        ({0: 0, 1: 0}, {0: 100, 1: 2}, 10, {0: 92, 1: 0}),
        ({0: 0, 1: 7, 2: 0}, {0: 9, 1: 7, 2: 100}, 20, {0: 0, 1: 7, 2: 89}),
        ({0: 0}, {0: 0}, 10, {0: 0}),
    ],
)
def test_the_newest_messages_are_read(
    begin: dict[int, int], end: dict[int, int], count: int, start: dict[int, int]
) -> None:
    assert newest(begin, end, count) == start


def test_what_is_told(spark: SparkSession) -> None:
    plain = make_spec(
        {"t": {"type": "double", "range": [0, 50]}, "timestamp": {"type": "timestamp"}}
    ).dump()
    plain["checks"] = [
        {"name": "cool", "expect": "t < 10", "on_fail": "warn"},
        {"name": "never", "expect": "t <> 3", "on_fail": "fail"},
    ]
    spec = Spec.model_validate(plain)
    time = '"timestamp": "2026-11-24T11:59:00Z"'
    values = [
        *(f'{{"t": {t}, {time}}}'.encode() for t in (1, 20, 3, 51, 52, 53, 54)),
        b"\xff",
        b'{"t": "' + b"x" * 500 + b'"}',
    ]
    messages = spark.createDataFrame(
        [(None, value, 0, n, NOW) for n, value in enumerate(values)], SCHEMA
    )
    rows: pa.Table = RecordChecks(spec, Frame()).apply(messages, "id").toArrow()
    found = tell(spec, rows)
    assert (found["read"], found["valid"], found["quarantined"]) == (9, 2, 7)
    counts = {rule: of_rule["records"] for rule, of_rule in found["rules"].items()}
    assert counts == {
        **{"range:t": 4, "check:never": 1, "parse:utf8": 1, "required:timestamp": 1, "type:t": 1}
    }
    assert next(iter(counts)) == "range:t"
    examples = found["rules"]["range:t"]["examples"]
    assert [e["offset"] for e in examples] == [3, 4, 5]
    assert examples[0]["finding"] == "range:t: 51.0 is outside 0 to 50"
    assert examples[0]["value"] == values[3].decode()
    assert found["rules"]["parse:utf8"]["examples"][0]["value"] == "\\xff"
    (long,) = found["rules"]["type:t"]["examples"]
    assert len(long["value"]) == 200
    assert long["value"].endswith("...")
    assert found["ends"] == ["check:never"]
    assert found["warned"] == {"cool": 1}
    assert found["rows"][0] == {"t": "1.0", "timestamp": "2026-11-24 11:59:00+00:00"}
