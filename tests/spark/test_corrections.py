"""Units that the message tells, times in several forms: what lands, what is counted, what is not.

Every verdict is computed anew in plain Python, from what docs/declaration.md says.
"""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from landed import land, make_spec, rules
from pyspark.sql import SparkSession

from streamkeeper import names
from streamkeeper.spec.models import Spec
from streamkeeper_apps.producer.cells import instant_reader
from streamkeeper_spark.accounts import account_of_raw, raw_columns
from streamkeeper_spark.checks import RecordChecks
from streamkeeper_spark.parse import Frame

TOLD = {"field": "unit", "landed": ["°C", "%", "kWh", "lux"], "spelled": {"F": "°F", "C": "°C"}}
FIELDS: dict[str, dict[str, Any]] = {
    "timestamp": {
        "type": "timestamp",
        "also": ["local", "epoch_s", "epoch_ms"],
        "zone": "Europe/Paris",
    },
    "unit": {"type": "string"},
    "value": {"type": "double", "units": TOLD, "range": [-300, 2000]},
}
AT = datetime(2026, 11, 24, 11, 30, tzinfo=UTC)
SECONDS = int(AT.timestamp())
ISO = "2026-11-24T11:30:00Z"


def spec_of(**source: Any) -> Spec:
    return make_spec(FIELDS, source=source)


def message(**values: Any) -> bytes:
    return json.dumps({"timestamp": ISO, "unit": "°C", "value": 20.5} | values).encode()


UNITS: list[tuple[Any, float | None, Any, float | None, list[str]]] = [
    # sent unit and value; landed unit and value; the rules that it breaks
    ("°C", 20.5, "°C", 20.5, []),
    ("C", 20.5, "°C", 20.5, []),
    ("°F", 70.0, "°C", (70.0 - 32) / 1.8, []),
    ("F", 212.0, "°C", 100.0, []),
    ("K", 273.15, "°C", 0.0, []),
    ("Wh", 1500.0, "kWh", 1.5, []),
    ("ppm", 4000.0, "%", 0.4, []),
    ("lux", 400.0, "lux", 400.0, []),
    ("lx", 400.0, "lx", 400.0, ["unit:value"]),
    ("f", 70.0, "f", 70.0, ["unit:value"]),
    (None, 20.5, None, 20.5, ["unit:value"]),
    (None, None, None, None, []),
    ("°F", None, "°C", None, []),
    ("°F", 5000.0, "°C", (5000.0 - 32) / 1.8, ["range:value"]),
]


@pytest.mark.parametrize("source", [{}, {"strict": False}, {"format": "csv"}])
def test_values_land_in_the_unit_that_is_declared(
    spark: SparkSession, source: dict[str, Any]
) -> None:
    spec = spec_of(**source)
    if spec.source.format == "csv":
        cell = lambda v: "" if v is None else str(v)  # noqa: E731
        sent = [f"{ISO},{cell(unit)},{cell(value)}".encode() for unit, value, *_ in UNITS]
    else:
        sent = [message(unit=unit, value=value) for unit, value, *_ in UNITS]
    for row, (unit, value, landed_unit, landed, broken) in zip(
        land(spark, spec, sent), UNITS, strict=True
    ):
        assert rules(row) == broken, row
        assert row["unit"] == landed_unit
        assert row["value"] == (landed if landed is None else pytest.approx(landed, abs=1e-9))
        corrected = value is not None and unit != landed_unit and not broken
        assert row["_corrected"] == (["unit:value"] if corrected else None)


TIMES: list[tuple[Any, datetime | None, bool]] = [
    # what was sent; the instant; whether it was corrected
    (ISO, AT, False),
    ("2026-11-24T12:30:00+01:00", AT, False),
    ("2026-11-24T12:30:00", AT, True),
    ("2026-11-24 12:30:00.250", AT + timedelta(milliseconds=250), True),
    (SECONDS, AT, True),
    (SECONDS + 0.5, AT + timedelta(seconds=0.5), True),
    (SECONDS * 1000, AT, True),
    (SECONDS * 1000 + 7, AT + timedelta(milliseconds=7), True),
    (str(SECONDS), AT, True),
    (str(SECONDS * 1000), AT, True),
    # 02:30 was shown twice in Paris on that day, and never on the other one.
    ("2026-10-25T02:30:00", None, False),
    ("2026-03-29T02:30:00", None, False),
    ("24.11.2026 12:30", None, False),
    ("", None, False),
    (True, None, False),
    ({"s": SECONDS}, None, False),
    (SECONDS * 1_000_000, None, False),
]


def test_times_are_read_in_every_declared_form_and_in_no_other(spark: SparkSession) -> None:
    rows = land(spark, spec_of(), [message(timestamp=sent) for sent, _, _ in TIMES])
    for row, (sent, instant, corrected) in zip(rows, TIMES, strict=True):
        assert rules(row) == ([] if instant else ["type:timestamp"]), (sent, row["_errors"])
        landed = row["timestamp"] and row["timestamp"].astimezone(UTC)
        assert landed == instant, sent
        assert row["_corrected"] == (["time:timestamp"] if corrected else None), sent
        if not isinstance(sent, bool | dict) and not str(sent).startswith(("2026-10", "2026-03")):
            # Producers judge alike; of a time that is shown twice they take the earlier.
            read = instant_reader(spec_of().fields["timestamp"])(json.dumps(sent))
            assert read == (instant and (instant - datetime(1970, 1, 1, tzinfo=UTC)) // MICRO), sent


@pytest.mark.parametrize(
    ("number", "micros"),
    [
        (f"{SECONDS}.123456", 123_456),
        (f"{SECONDS}.123456000000000000000", 123_456),
        (f"{SECONDS / 1e9}E9", 0),
        (f'"{SECONDS}.5"', 500_000),
        # As a double these are the first one.
        (f"{SECONDS}.1234560000000000001", None),
        (f'"{SECONDS}.1234560000000000001"', None),
    ],
)
def test_a_number_with_a_fraction_is_not_rounded(
    spark: SparkSession, number: str, micros: int | None
) -> None:
    (row,) = land(spark, spec_of(), [message().replace(f'"{ISO}"'.encode(), number.encode())])
    assert rules(row) == ([] if micros is not None else ["type:timestamp"])
    landed = row["timestamp"] and row["timestamp"].astimezone(UTC)
    assert landed == (None if micros is None else AT + timedelta(microseconds=micros))


MICRO = timedelta(microseconds=1)
FIRST_SECOND = datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("form", "also", "sent", "expected"),
    [
        ("epoch_ms", ["epoch_s"], SECONDS * 1000, (AT, False)),
        ("epoch_ms", ["epoch_s"], SECONDS, (AT, True)),
        ("epoch_ms", ["epoch_s"], ISO, (None, False)),
        ("epoch_s", ["epoch_us", "iso8601"], SECONDS * 1_000_000, (AT, True)),
        ("epoch_s", ["epoch_us", "iso8601"], ISO, (AT, True)),
        ("epoch_us", ["local"], "2026-11-24T12:30:00", (AT, True)),
        # A single count is read as it is declared, whatever its size.
        ("iso8601", ["epoch_ms"], 1000, (FIRST_SECOND, True)),
    ],
)
def test_any_form_may_be_the_usual_one(
    spark: SparkSession, form: str, also: list[str], sent: Any, expected: tuple[Any, bool]
) -> None:
    instant, corrected = expected
    field = {"type": "timestamp", "format": form, "also": also, "zone": "Europe/Paris"}
    spec = make_spec({"timestamp": field})
    (row,) = land(spark, spec, [json.dumps({"timestamp": sent}).encode()])
    assert (row["timestamp"] and row["timestamp"].astimezone(UTC)) == instant
    assert row["_corrected"] == (["time:timestamp"] if corrected else None)


def test_corrections_are_counted_and_quarantined_rows_have_none(spark: SparkSession) -> None:
    spec = spec_of()
    sent = [
        message(),
        message(unit="F", timestamp=SECONDS),
        message(unit="F"),
        message(unit="F", value=9999),
        message(unit="K", value="x", timestamp=SECONDS),
    ]
    rows = [(None, value, 0, n, AT) for n, value in enumerate(sent)]
    schema = "key binary, value binary, partition int, offset long, timestamp timestamp"
    messages = spark.createDataFrame(rows, schema)
    landed = RecordChecks(spec, Frame()).apply(messages, "topic-id")
    table = landed.toArrow().select(raw_columns(spec))
    account = account_of_raw([table])
    assert account.corrected == Counter({"unit:value": 2, "time:timestamp": 1})
    assert account.dump()["corrected_by_kind"] == {"time:timestamp": 1, "unit:value": 2}
    assert (account.valid, account.quarantined) == (3, 2)
    plain = make_spec({"timestamp": {"type": "timestamp"}})
    assert names.CORRECTED not in raw_columns(plain)


def test_a_zone_alone_corrects_nothing(spark: SparkSession) -> None:
    """A stream whose times are all local has them so; it is no mistake of theirs."""
    zone = ZoneInfo("Europe/Paris")
    field = {"type": "timestamp", "zone": zone.key, "also": ["epoch_s"]}
    spec = make_spec({"timestamp": field})
    sent = [b'{"timestamp": "2026-11-24T12:30:00"}', f'{{"timestamp": {SECONDS}}}'.encode()]
    rows = land(spark, spec, sent)
    assert [row["_corrected"] for row in rows] == [None, ["time:timestamp"]]
    assert {row["timestamp"].astimezone(UTC) for row in rows} == {AT}
