"""Nested, loose and CSV messages, exact numbers and times, with the verdicts of the document.

Each group has a declaration of its own and a table of its own in docs/bad-input.md.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from landed import DOCUMENT, Case, land, make_spec
from pyspark.sql import SparkSession

from streamkeeper.spec.models import Spec

T = {"type": "timestamp"}
AT = '"timestamp": "2026-11-24T11:59:00Z"'


def obj(inside: str) -> bytes:
    """A record with these further keys."""
    return f"{{{AT}, {inside}}}".encode()


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc,arg-type]


NESTED = make_spec(
    {
        "t": {"type": "double", "path": "sensor.values.t"},
        "site": {"type": "string", "path": ["sensor", "site.name"]},
        "timestamp": T,
    }
)
OF_NESTED = [
    Case(
        "each value at its place",
        obj('"sensor": {"values": {"t": 1.5}, "site.name": "Fes"}'),
        [],
        {"t": 1.5, "site": "Fes"},
    ),
    Case("the outer object missing", obj('"x": 1'), [], {"t": None, "site": None}),
    Case("null for the outer object", obj('"sensor": null'), [], {"t": None}),
    Case("the inner object missing", obj('"sensor": {"site.name": "Fes"}'), [], {"site": "Fes"}),
    Case("an empty object", obj('"sensor": {}'), [], {"t": None, "site": None}),
    Case("a number for the outer object", obj('"sensor": 5'), ["type:t", "type:site"]),
    Case("a text for the outer object", obj('"sensor": "{}"'), ["type:t", "type:site"]),
    Case("an array for the outer object", obj('"sensor": [{}]'), ["type:t", "type:site"]),
    Case(
        "a number for the inner object",
        obj('"sensor": {"values": 5, "site.name": "Fes"}'),
        ["type:t"],
    ),
    Case("a text at the place of a number", obj('"sensor": {"values": {"t": "1.5"}}'), ["type:t"]),
    Case(
        "a duplicate key in a declared object",
        obj('"sensor": {"values": {"t": 1, "t": 2}}'),
        ["parse:json"],
    ),
    Case(
        "a declared object twice",
        obj('"sensor": {"values": {"t": 1}}, "sensor": {"values": {"t": 1}}'),
        ["parse:json"],
    ),
    Case(
        "a duplicate key in an undeclared object",
        obj('"sensor": {"values": {"t": 1, "x": {"a": 1, "a": 2}}}'),
        [],
        {"t": 1.0},
    ),
    Case(
        "an escaped key",
        obj('"s\\u0065nsor": {"values": {"\\u0074": 1}, "site\\u002ename": "Fes"}'),
        [],
        {"t": 1.0, "site": "Fes"},
    ),
    Case(
        "an escaped duplicate key",
        obj('"sensor": {"values": {"t": 1, "\\u0074": 2}}'),
        ["parse:json"],
    ),
    Case("the dotted path as one key", obj('"sensor.values.t": 1'), [], {"t": None}),
    Case(
        "further keys at every level",
        obj('"sensor": {"values": {"t": 1, "u": 2}, "x": [1]}, "y": {}'),
        [],
        {"t": 1.0},
    ),
]
NUMBERS = make_spec(
    {
        "small": {"type": "int32"},
        "price": {"type": "decimal(6,2)", "range": [-100, 9000]},
        "f": {"type": "double", "unit": "°C", "sent_unit": "°F", "range": [-60, 60]},
        "timestamp": T,
    }
)
OF_NUMBERS = [
    Case("the largest 32-bit integer", obj('"small": 2147483647'), [], {"small": 2147483647}),
    Case("an integer beyond 32 bits", obj('"small": 2147483648'), ["type:small"]),
    Case("an integer of 400 digits", obj(f'"small": {"9" * 400}'), ["type:small"]),
    Case("a decimal", obj('"price": 1234.56'), [], {"price": Decimal("1234.56")}),
    Case("a decimal that no double holds", obj('"price": 0.07'), [], {"price": Decimal("0.07")}),
    Case("zeros behind the decimals", obj('"price": 1.5000'), [], {"price": Decimal("1.50")}),
    Case("an integer for a decimal", obj('"price": 12'), [], {"price": Decimal(12)}),
    Case("more decimals than declared", obj('"price": 1.005'), ["type:price"]),
    Case("more digits than declared", obj('"price": 12345.67'), ["type:price"]),
    Case("an exponent for a decimal", obj('"price": 12.5e2'), [], {"price": Decimal(1250)}),
    Case("an exponent that needs more decimals", obj('"price": 15e-3'), ["type:price"]),
    Case("a huge exponent for a decimal", obj('"price": 1e999999999'), ["type:price"]),
    Case("a text for a decimal", obj('"price": "12.5"'), ["type:price"]),
    Case("a decimal outside the range", obj('"price": 9000.01'), ["range:price"]),
    Case("a value in another unit", obj('"f": 50'), [], {"f": 10.0}),
    Case("outside the range after conversion", obj('"f": 141'), ["range:f"]),
    Case("within the range after conversion only", obj('"f": 99'), []),
]
TIMES = make_spec(
    {
        "s": {**T, "format": "epoch_s"},
        "ms": {**T, "format": "epoch_ms"},
        "us": {**T, "format": "epoch_us"},
        "paris": {**T, "zone": "Europe/Paris"},
        "utc": T,
        "timestamp": T,
    }
)
OF_TIMES = [
    Case("seconds", obj('"s": 1795521540'), [], {"s": at(2026, 11, 24, 11, 59)}),
    Case(
        "seconds to the microsecond",
        obj('"s": 4102444799.999999'),
        [],
        {"s": at(2099, 12, 31, 23, 59, 59, 999_999)},
    ),
    Case("seconds finer than microseconds", obj('"s": 1795521540.1234567'), ["type:s"]),
    Case("seconds with an exponent", obj('"s": 1.79552154e9'), [], {"s": at(2026, 11, 24, 11, 59)}),
    Case("seconds before 1970", obj('"s": -0.5'), [], {"s": at(1969, 12, 31, 23, 59, 59, 500_000)}),
    Case("seconds in a text", obj('"s": "1795521540"'), ["type:s"]),
    Case("seconds beyond the year 9999", obj('"s": 253402300800'), ["type:s"]),
    Case(
        "milliseconds", obj('"ms": 1795521540123'), [], {"ms": at(2026, 11, 24, 11, 59, 0, 123_000)}
    ),
    Case("a fraction of a millisecond", obj('"ms": 1795521540123.5'), ["type:ms"]),
    Case("milliseconds beyond the year 9999", obj('"ms": 253402300800000'), ["type:ms"]),
    Case(
        "microseconds",
        obj('"us": 1795521540123456'),
        [],
        {"us": at(2026, 11, 24, 11, 59, 0, 123_456)},
    ),
    Case("microseconds beyond 64 bits", obj('"us": 9223372036854775808'), ["type:us"]),
    Case("a local time", obj('"paris": "2026-07-01T12:00:00"'), [], {"paris": at(2026, 7, 1, 10)}),
    Case(
        "an offset where a zone is declared",
        obj('"paris": "2026-07-01T12:00:00Z"'),
        [],
        {"paris": at(2026, 7, 1, 12)},
    ),
    Case("a local time that does not exist", obj('"paris": "2026-03-29T02:30:00"'), ["type:paris"]),
    Case("a local time that comes twice", obj('"paris": "2026-10-25T02:30:00"'), ["type:paris"]),
    Case(
        "a local time that comes twice, with its offset",
        obj('"paris": "2026-10-25T02:30:00+01:00"'),
        [],
        {"paris": at(2026, 10, 25, 1, 30)},
    ),
    Case(
        "the hour after the one that comes twice",
        obj('"paris": "2026-10-25T03:00:00"'),
        [],
        {"paris": at(2026, 10, 25, 2)},
    ),
    Case("hour 24", obj('"utc": "2026-11-24T24:00:00Z"'), ["type:utc"]),
    Case("a leap second", obj('"utc": "2016-12-31T23:59:60Z"'), ["type:utc"]),
    Case("29 February of a leap year", obj('"utc": "2024-02-29T00:00:00Z"'), []),
    Case(
        "zeros finer than microseconds",
        obj('"utc": "2026-11-24T11:59:00.123456000Z"'),
        [],
        {"utc": at(2026, 11, 24, 11, 59, 0, 123_456)},
    ),
    Case(
        "an offset without colon",
        obj('"utc": "2026-11-24T11:59:00-0330"'),
        [],
        {"utc": at(2026, 11, 24, 15, 29)},
    ),
    Case(
        "an offset of hours",
        obj('"utc": "2026-11-24T11:59:00+05"'),
        [],
        {"utc": at(2026, 11, 24, 6, 59)},
    ),
    Case("an offset of 19 hours", obj('"utc": "2026-11-24T11:59:00+19:00"'), ["type:utc"]),
    Case("a zone's name", obj('"utc": "2026-11-24T11:59:00 Europe/Paris"'), ["type:utc"]),
    Case("a small z", obj('"utc": "2026-11-24T11:59:00z"'), ["type:utc"]),
    Case("without seconds", obj('"utc": "2026-11-24T11:59Z"'), ["type:utc"]),
    Case("a line end behind the time", obj('"utc": "2026-11-24T11:59:00Z\\n"'), ["type:utc"]),
    Case("the year 0", obj('"utc": "0000-06-01T00:00:00Z"'), ["type:utc"]),
    Case("an offset into the year 10000", obj('"utc": "9999-12-31T23:59:59-01:00"'), ["type:utc"]),
]
LOOSE = make_spec(
    {
        "id": {"type": "string"},
        "n": {"type": "integer"},
        "t": {"type": "double"},
        "price": {"type": "decimal(6,2)"},
        "on": {"type": "boolean"},
        "ms": {**T, "format": "epoch_ms"},
        "paris": {**T, "zone": "Europe/Paris"},
        "timestamp": T,
    },
    source={"strict": False},
)
OF_LOOSE = [
    Case("a number in a text", obj('"t": "21.5"'), [], {"t": 21.5}),
    Case("a number without a digit before its point", obj('"t": ".5"'), [], {"t": 0.5}),
    Case("a number with a plus sign", obj('"t": "+5"'), [], {"t": 5.0}),
    Case("words for a number", obj('"t": "warm"'), ["type:t"]),
    Case("no text for a number", obj('"t": ""'), ["type:t"]),
    Case("blanks around a number", obj('"t": " 21.5"'), ["type:t"]),
    Case("NaN in a text", obj('"t": "NaN"'), ["type:t"]),
    Case("a hexadecimal number", obj('"t": "0x10"'), ["type:t"]),
    Case("true for a number", obj('"t": true'), ["type:t"]),
    Case("an object where a number belongs", obj('"t": {}'), ["type:t"]),
    Case("7.0 for an integer", obj('"n": 7.0'), [], {"n": 7}),
    Case("1e3 for an integer", obj('"n": 1e3'), [], {"n": 1000}),
    Case("7.5 for an integer", obj('"n": 7.5'), ["type:n"]),
    Case("an integer in a text, beyond 64 bits", obj('"n": "9223372036854775808"'), ["type:n"]),
    Case("a decimal in a text", obj('"price": "12.50"'), [], {"price": Decimal("12.50")}),
    Case("too many decimals in a text", obj('"price": "12.505"'), ["type:price"]),
    Case("a number where a text belongs", obj('"id": 1.50'), [], {"id": "1.50"}),
    Case("a boolean where a text belongs", obj('"id": true'), [], {"id": "true"}),
    Case("an object where a text belongs", obj('"id": {"a": 1}'), ["type:id"]),
    Case("an array where a text belongs", obj('"id": [1]'), ["type:id"]),
    Case("a text that begins with a bracket", obj('"id": "[1]"'), [], {"id": "[1]"}),
    Case("true in a text", obj('"on": "true"'), [], {"on": True}),
    Case("FALSE in a text", obj('"on": "FALSE"'), [], {"on": False}),
    Case("yes for a boolean", obj('"on": "yes"'), ["type:on"]),
    Case("1 for a boolean", obj('"on": 1'), ["type:on"]),
    Case(
        "milliseconds in a text",
        obj('"ms": "1795521540123"'),
        [],
        {"ms": at(2026, 11, 24, 11, 59, 0, 123_000)},
    ),
    Case("two values for a key: the last one counts", obj('"n": 1, "n": 2'), [], {"n": 2}),
    Case(
        "the earlier of two local times",
        obj('"paris": "2026-10-25T02:30:00"'),
        [],
        {"paris": at(2026, 10, 25, 0, 30)},
    ),
    Case("a local time in the gap", obj('"paris": "2026-03-29T02:30:00"'), ["type:paris"]),
    Case("garbage behind the object", obj('"n": 1') + b" x", ["parse:json"]),
    Case("a key behind the object", obj('"n": 1') + b',"x":"}"', ["parse:json"]),
]
CSV = make_spec(
    {
        "city": {"type": "string", "required": True},
        "t": {"type": "double", "range": [-60, 60]},
        "n": {"type": "integer"},
        "on": {"type": "boolean"},
        "timestamp": T,
    },
    source={"format": "csv", "csv": {"delimiter": ";", "missing": ["", "NA"]}},
)
OF_CSV = [
    Case(
        "a record",
        b"Fes;21.5;3;true;2026-11-24T11:59:00Z",
        [],
        {"city": "Fes", "t": 21.5, "n": 3, "on": True},
    ),
    Case(
        "a record with the end of its line",
        b"Fes;1;3;true;2026-11-24T11:59:00Z\r\n",
        [],
        {"t": 1.0},
    ),
    Case(
        "cells in quotes", b'"Fes";"1";3;true;"2026-11-24T11:59:00Z"', [], {"city": "Fes", "t": 1.0}
    ),
    Case(
        "delimiter, quotes and line break in quotes",
        b'"a;""b""\n";1;3;true;2026-11-24T11:59:00Z',
        [],
        {"city": 'a;"b"\n'},
    ),
    Case(
        "markers of missing values",
        b"Fes;NA;;;2026-11-24T11:59:00Z",
        [],
        {"t": None, "n": None, "on": None},
    ),
    Case(
        "a marker in quotes", b'Fes;"NA";"";true;2026-11-24T11:59:00Z', [], {"t": None, "n": None}
    ),
    Case("missing, though required", b"NA;1;3;true;2026-11-24T11:59:00Z", ["required:city"]),
    Case("too few columns", b"Fes;1;3;true", ["parse:csv"]),
    Case("too many columns", b"Fes;1;3;true;2026-11-24T11:59:00Z;", ["parse:csv"]),
    Case("another delimiter", b"Fes,1,3,true,2026-11-24T11:59:00Z", ["parse:csv"]),
    Case("two lines", b"Fes;1;3;true;2026-11-24T11:59:00Z\nRabat", ["parse:csv"]),
    Case("quotes that are not closed", b'"Fes;1;3;true;2026-11-24T11:59:00Z', ["parse:csv"]),
    Case("a quotation mark in a cell", b'F"es;1;3;true;2026-11-24T11:59:00Z', ["parse:csv"]),
    Case("two quotation marks in a cell", b'F"e"s;1;3;true;2026-11-24T11:59:00Z', ["parse:csv"]),
    Case("text behind closing quotes", b'"Fes"x;1;3;true;2026-11-24T11:59:00Z', ["parse:csv"]),
    Case("three quotation marks", b'""";1;3;true;2026-11-24T11:59:00Z', ["parse:csv"]),
    Case("100,000 quotation marks", b'"' * 100_001, ["parse:csv"]),
    Case(
        "a byte order mark before the record",
        b"\xef\xbb\xbfFes;1;3;true;2026-11-24T11:59:00Z",
        ["parse:csv"],
    ),
    Case("bytes that are no UTF-8", b"F\xff;1;3;true;2026-11-24T11:59:00Z", ["parse:utf8"]),
    Case("an empty record", b"", ["parse:empty"]),
    Case("a line end only", b"\n", ["parse:empty"]),
    Case("blanks around a value", b"Fes; 1;3;true;2026-11-24T11:59:00Z", ["type:t"]),
    Case("a decimal comma", b"Fes;1,5;3;true;2026-11-24T11:59:00Z", ["type:t"]),
    Case("3.0 in an integer's cell", b"Fes;1;3.0;true;2026-11-24T11:59:00Z", ["type:n"]),
    Case("True for true", b"Fes;1;3;True;2026-11-24T11:59:00Z", ["type:on"]),
    Case(
        "a header line", b"city;t;n;on;timestamp", ["type:t", "type:n", "type:on", "type:timestamp"]
    ),
    Case("a cell outside the range", b"Fes;60.5;3;true;2026-11-24T11:59:00Z", ["range:t"]),
]
GROUPS: dict[str, tuple[Spec, list[Case]]] = {
    "nested": (NESTED, OF_NESTED),
    "numbers": (NUMBERS, OF_NUMBERS),
    "times": (TIMES, OF_TIMES),
    "loose": (LOOSE, OF_LOOSE),
    "csv": (CSV, OF_CSV),
}


@pytest.mark.parametrize("group", GROUPS)
def test_verdicts(group: str, spark: SparkSession) -> None:
    spec, cases = GROUPS[group]
    rows = land(spark, spec, [case.value for case in cases])
    wrong: dict[str, Any] = {}
    for case, row in zip(cases, rows, strict=True):
        try:
            case.hold(row)
        except AssertionError as error:
            wrong[case.title] = error.args
    assert not wrong


@pytest.mark.parametrize("group", GROUPS)
def test_the_document_tells_the_verdicts(group: str) -> None:
    lines = DOCUMENT.read_text().splitlines()
    assert [c.title for c in GROUPS[group][1] if c.line() not in lines] == []


def test_messages_name_place_and_value(spark: SparkSession) -> None:
    def told(spec: Spec, value: bytes) -> list[str]:
        (row,) = land(spark, spec, [value])
        return list(row["_errors"])

    assert told(NESTED, obj('"sensor": {"values": 5}')) == [
        "type:t: sensor.values was sent as bigint, not as an object"
    ]
    assert told(NUMBERS, obj('"small": 2147483648, "price": 1.005')) == [
        "type:small: 2147483648 cannot be read as int32 exactly",
        "type:price: 1.005 cannot be read as decimal(6,2) exactly",
    ]
    assert told(CSV, b"Fes;x;3;true;2026-11-24T11:59:00Z") == [
        "type:t: 'x' cannot be read as double exactly"
    ]
    assert told(CSV, b"Fes;1") == ["parse:csv: 2 columns, not 5"]
    assert told(NESTED, obj('"sensor": {"values": {"t": 1, "t": 2}}')) == [
        "parse:json: duplicate key t"
    ]
