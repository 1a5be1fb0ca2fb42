"""Which records a count of commas settles: those of the logs stream as servers really send them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from streamkeeper.spec.loader import load_spec
from streamkeeper_spark.parse import Frame, JsonReader

LOGS = load_spec(Path(__file__).parents[2] / "include" / "streams" / "logs.yaml")
GOOD = {
    "ts": "2026-11-24T11:59:00Z", "host": "api.myapp.com", "method": "GET", "path": "/a",
    "status": 200, "bytes": 5, "ip": "198.18.0.1", "ua": "curl/8.8.0", "rt_ms": 7,
}  # fmt: skip
AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0"


def sent(**changed: Any) -> str:
    return json.dumps(GOOD | changed)


SETTLED = [
    sent(),
    json.dumps({k: v for k, v in GOOD.items() if k != "host"}),
    sent(ua=AGENT),
    sent(path="/search?q=a,b&c=?,?", ua=AGENT),
    sent(ua=",,,,", path=",", ip=""),
]
# The exact way settles these, whatever its verdict is.
LEFT = [
    sent(x=1),
    sent(x="a,b"),
    sent(ua=AGENT, x=1),
    sent(ua=AGENT)[:-1] + ', "ua": "curl, again"}',
    sent(ua=AGENT)[:-1] + ', "ua": "curl"}',
    sent(host=None),
    sent(ua='a "quoted" text, with a comma'),
    # Of the commas of the text that was read none stands in the message.
    sent(ua="a\\u002cb", x=1).replace("\\\\", "\\"),
    sent(path="/?", ua="\\ud800").replace("\\\\", "\\"),
    sent(ua="\ufffd"),
    sent(ua={"a": 1, "b": 2}),
    sent(ua=["a", "b"]),
]


@pytest.mark.parametrize(("messages", "plain"), [(SETTLED, True), (LEFT, False)])
def test_commas_within_texts_are_told_from_those_between_members(
    spark: SparkSession, messages: list[str], plain: bool
) -> None:
    reader = JsonReader(LOGS, Frame())
    rows = spark.createDataFrame([(m.encode(),) for m in messages], "_value binary")
    parsed = rows.selectExpr("_value", f"{reader.parsed} AS _parsed")
    told = f"coalesce({reader._plain_form()}, false) AS plain"
    found = parsed.selectExpr("decode(_value, 'utf-8') AS m", told).collect()
    assert [row.m for row in found if row.plain is not plain] == []
