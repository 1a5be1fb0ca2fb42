"""What `stream status` tells of a query and of a sink."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from streamkeeper.launches import Launch
from streamkeeper_apps.control import _driver


@pytest.mark.parametrize(
    ("sink", "told"),
    [
        ({"state": "ok"}, "sink cassandra:k.t: ok"),
        ({"state": "ok", "left_out": 0}, "sink cassandra:k.t: ok"),
        (
            {"state": "ok", "left_out": 1234},
            "sink cassandra:k.t: ok, left out 1,234, which are in the lake",
        ),
        (
            {"state": "behind", "lag": 3, "left_out": 1, "error": "away"},
            "sink cassandra:k.t: behind, 3 batches behind, left out 1, which are in the lake; away",
        ),
    ],
)
def test_rows_that_a_sink_left_out_are_told(sink: dict[str, Any], told: str) -> None:
    progress = {"sinks": {"s/cassandra:k.t": sink, "other/console:raw": {"state": "ok"}}}
    launch = Launch.model_validate(
        {"epoch": 1, "kind": "driver", "name": "s", "progress": progress}
        | {"began_at": "2026-11-24T12:00:00Z"}
    )
    assert _driver(launch, "s") == [told]


def test_where_a_living_drivers_pages_are_is_told() -> None:
    progress = {"ui": "http://here:4041", "queries": {}, "sinks": {}}
    living = Launch.model_validate(
        {"epoch": 1, "kind": "driver", "name": "s", "progress": progress}
        | {"began_at": datetime.now(UTC)}
    )
    assert _driver(living, "s") == ["Spark's pages: http://here:4041"]
    ended = living.model_copy(update={"ended_at": living.began_at})
    assert _driver(ended, "s") == []
    assert _driver(living.model_copy(update={"progress": {"ui": None}}), "s") == []


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({"batch": 3, "rows": 1200, "corrected": {}}, "land: batch 3, 1,200 rows"),
        (
            {"batch": 3, "rows": 9, "quarantined": 2, "corrected": {"unit:v": 4, "time:at": 1500}},
            "land: batch 3, 9 rows, 2 quarantined, corrected time:at 1,500, unit:v 4",
        ),
    ],
)
def test_corrected_rows_of_a_query_are_told(query: dict[str, Any], told: str) -> None:
    launch = Launch.model_validate(
        {"epoch": 1, "kind": "driver", "name": "s", "progress": {"queries": {"s/land": query}}}
        | {"began_at": "2026-11-24T12:00:00Z"}
    )
    assert _driver(launch, "s") == [told]
