"""KPIs of a table held against those of the lake."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from streamkeeper.analysis import MOST_DIFFERENCES, Analysis, KpiOfHour, compare, to_markdown

HOUR = datetime(2026, 11, 24, 14, tzinfo=UTC)
AT = datetime(2026, 11, 24, 14, 5, 0, 123456, tzinfo=UTC)
COLUMNS = ("sensor_id", "temp_moy", "last", "lectures")


def told(lake: list[Any], table: list[Any], keys: tuple[str, ...] = ("sensor_id",)) -> list[str]:
    return list(compare("by_sensor", HOUR, COLUMNS, keys, lake=lake, table=table))


def test_equal_within_the_order_of_sums_and_cassandras_milliseconds() -> None:
    lake = [(1, 21.5, AT, 3), (2, float("nan"), None, 0)]
    table = [(2, float("nan"), None, 0), (1, 21.500000000000004, AT.replace(microsecond=123000), 3)]
    assert told(lake, table) == []
    assert told(lake, table, ()) != []  # as a whole, doubles are compared exactly
    assert told(lake[:1], table[1:], ()) == []  # but one row is compared cell by cell


def test_every_difference_is_told_with_its_place() -> None:
    lake = [(1, 21.5, None, 3), (2, 20.0, None, 1)]
    table = [(1, 21.6, None, 4), (3, 20.0, None, 1)]
    where = "by_sensor 2026-11-24T14, sensor_id"
    assert told(lake, table) == [
        f"{where} 1: temp_moy is 21.5 in the lake, 21.6 in Cassandra",
        f"{where} 1: lectures is 3 in the lake, 4 in Cassandra",
        f"{where} 2: only in the lake",
        f"{where} 3: only in Cassandra",
    ]


def test_top_rows_are_compared_in_any_order() -> None:
    rows = [(1, 40.0, AT, 1), (1, 40.0, AT, 1), (2, 39.0, AT, 1)]
    assert told(rows, rows[::-1], ()) == []
    (one, other) = told(rows, [*rows[1:], (4, 38.0, None, 1)], ())
    assert one.startswith("by_sensor 2026-11-24T14: only in the lake: sensor_id 1, temp_moy 40.0")
    assert other.startswith("by_sensor 2026-11-24T14: only in Cassandra: sensor_id 4")


def test_many_differences_are_cut_short() -> None:
    found = told([(n, 1.0, None, 1) for n in range(80)], [])
    assert len(found) == MOST_DIFFERENCES + 1
    assert found[-1] == "by_sensor 2026-11-24T14: and 30 more"


def test_the_page_of_an_analysis() -> None:
    kpis = (
        KpiOfHour(
            "by_sensor", HOUR, COLUMNS, ((1, 21.123456789, None, 3),), ("by_sensor differs",)
        ),
        KpiOfHour("hottest", HOUR, ("a|b",), skipped="the table has no column temperature"),
    )
    found = Analysis("iot", "k.t", (HOUR,), {"sensor_id": "1"}, 3, 4, kpis)
    page = to_markdown(found)
    assert "# iot: k.t" in page
    assert "Key: sensor_id = 1" in page
    assert "**2 differences between Cassandra and the lake**" in page
    assert "- 3 readings in Cassandra, 4 in the lake" in page
    assert "| 1 | 21.1235 | None | 3 |" in page
    assert "Not computed: the table has no column temperature" in page
    same = Analysis("iot", "k.t", (HOUR,), {}, 4, 4, ())
    assert same.verdict == "Cassandra and the lake agree: 4 readings"
