"""Every bad input of docs/bad-input.md, with the verdict that stands there."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from landed import DOCUMENT, NOW, Case, land, make_spec, rules
from pyspark.sql import SparkSession

SPEC = make_spec(
    {
        "sensor_id": {"type": "string", "required": True},
        "city": {"type": "string", "allowed": ["Fes", "Rabat"]},
        "temperature": {"type": "double", "required": True, "range": [-60, 60]},
        "level": {"type": "float"},
        "count": {"type": "integer"},
        "on": {"type": "boolean"},
        "timestamp": {"type": "timestamp", "required": True},
    },
    lateness="7d",
)
GOOD: dict[str, Any] = {
    "sensor_id": "s1",
    "city": "Fes",
    "temperature": 21.5,
    "level": 0.5,
    "count": 3,
    "on": True,
    "timestamp": "2026-11-24T11:59:00Z",
}


def message(**changes: Any) -> bytes:
    return json.dumps(GOOD | changes, ensure_ascii=False).encode()


def text(old: str, new: str) -> bytes:
    return message().decode().replace(old, new).encode()


def without(field: str) -> bytes:
    return json.dumps({k: v for k, v in GOOD.items() if k != field}).encode()


GOOD_TEXT = message()
CASES = [
    Case("a proper message", GOOD_TEXT, [], {"temperature": 21.5, "count": 3, "on": True}),
    Case("null value (tombstone)", None, ["parse:empty"]),
    Case("value of no bytes", b"", ["parse:empty"]),
    Case("blanks only", b" \t\r\n ", ["parse:empty"]),
    Case("invalid UTF-8", GOOD_TEXT.replace(b"s1", b"s\xff1"), ["parse:utf8"]),
    Case("a surrogate encoded as UTF-8", GOOD_TEXT.replace(b"s1", b"\xed\xa0\x80"), ["parse:utf8"]),
    Case("not JSON", b"temperature=21.5", ["parse:json"]),
    Case("truncated JSON", GOOD_TEXT[:-20], ["parse:json"]),
    Case("trailing garbage", GOOD_TEXT + b" x", ["parse:json"]),
    Case("trailing closing brace", GOOD_TEXT + b"}", ["parse:json"]),
    Case("trailing key and value", GOOD_TEXT + b',"x":1', ["parse:json"]),
    Case("a second object", GOOD_TEXT + b" " + GOOD_TEXT, ["parse:json"]),
    Case("a second object after a comma", GOOD_TEXT + b"," + GOOD_TEXT, ["parse:json"]),
    Case("byte order mark", b"\xef\xbb\xbf" + GOOD_TEXT, ["parse:json"]),
    Case("JSON null", b"null", ["parse:json"]),
    Case("a JSON number", b"5", ["parse:json"]),
    Case("a JSON text", b'"Fes"', ["parse:json"]),
    Case("an array of objects", b"[" + GOOD_TEXT + b"]", ["parse:json"]),
    Case("single quotes", GOOD_TEXT.replace(b'"', b"'"), ["parse:json"]),
    Case("a comment in the object", text("21.5", "21.5 /* C */"), ["parse:json"]),
    Case("leading zero", text("21.5", "021.5"), ["parse:json"]),
    Case("raw control character in a text", text("s1", "s\x011"), ["parse:json"]),
    Case("NaN", text("21.5", "NaN"), ["parse:json"]),
    Case("Infinity", text("21.5", "-Infinity"), ["parse:json"]),
    Case("NaN as text", text("21.5", '"NaN"'), ["type:temperature"]),
    Case("Infinity as text", text("21.5", '"Infinity"'), ["type:temperature"]),
    Case("duplicate key", text("{", '{"temperature": 1, '), ["parse:json"]),
    Case("duplicate key, equal values", text("{", '{"city": "Fes", '), ["parse:json"]),
    Case(
        "duplicate key, one of them escaped",
        text("{", '{"temperatur\\u0065": 1, '),
        ["parse:json"],
    ),
    Case("duplicate undeclared key", text("{", '{"x": 1, "x": 2, '), ["parse:json"]),
    Case(
        "nesting 2,000 deep",
        text("{", '{"x": ' + "[" * 2000 + "]" * 2000 + ", "),
        ["parse:json"],
    ),
    Case(
        "nesting 500 deep in an undeclared field",
        text("{", '{"x": ' + "[" * 500 + "]" * 500 + ", "),
        [],
    ),
    Case(
        "empty object", b"{}", ["required:sensor_id", "required:temperature", "required:timestamp"]
    ),
    Case("number as text", text("21.5", '"21.5"'), ["type:temperature"]),
    Case("empty text for a number", text("21.5", '""'), ["type:temperature"]),
    Case("text for a number", text("21.5", '"warm"'), ["type:temperature"]),
    Case("boolean for a number", text("21.5", "true"), ["type:temperature"]),
    Case("object for a number", text("21.5", '{"c": 21.5}'), ["type:temperature"]),
    Case("number for a text", text('"s1"', "17"), ["type:sensor_id"]),
    Case("number beyond a double for a text", text('"s1"', "-1e400"), ["type:sensor_id"]),
    Case("boolean for a text", text('"s1"', "true"), ["type:sensor_id"]),
    Case("object for a text", text('"s1"', '{"id": 1}'), ["type:sensor_id"]),
    Case("array for a text", text('"s1"', '["s1"]'), ["type:sensor_id"]),
    Case("a text that looks like a number", text('"s1"', '"17"'), [], {"sensor_id": "17"}),
    Case("a text that reads true", text('"s1"', '"true"'), [], {"sensor_id": "true"}),
    Case("a text that looks like an object", text('"s1"', '"{}"'), [], {"sensor_id": "{}"}),
    Case("empty text for a text", text('"s1"', '""'), [], {"sensor_id": ""}),
    Case("fraction for an integer", text("3", "3.5"), ["type:count"]),
    Case("3.0 for an integer", text("3", "3.0"), ["type:count"]),
    Case("exponent for an integer", text(": 3", ": 3e0"), ["type:count"]),
    Case("integer beyond 64 bits", text(": 3", ": 9223372036854775808"), ["type:count"]),
    Case("text for a boolean", text("true", '"true"'), ["type:on"]),
    Case("number for a boolean", text("true", "1"), ["type:on"]),
    Case("integer for a double", text("21.5", "21"), [], {"temperature": 21.0}),
    Case("exponent for a double", text("21.5", "2.15e1"), [], {"temperature": 21.5}),
    Case("1e400", text("21.5", "1e400"), ["type:temperature", "range:temperature"]),
    Case("1e39 for a float", text("0.5", "1e39"), ["type:level"]),
    Case("outside the range", text("21.5", "60.5"), ["range:temperature"]),
    Case("on the edge of the range", text("21.5", "-60"), [], {"temperature": -60.0}),
    Case("null for a required field", text("21.5", "null"), ["required:temperature"]),
    Case("required field missing", without("temperature"), ["required:temperature"]),
    Case("null for a field that is not required", text('"Fes"', "null"), [], {"city": None}),
    Case("field that is not required missing", without("city"), [], {"city": None}),
    Case("key in another case", text('"temperature"', '"Temperature"'), ["required:temperature"]),
    Case("unknown city", text("Fes", "Atlantis"), ["allowed:city"]),
    Case("allowed value in another case", text("Fes", "fes"), ["allowed:city"]),
    Case("extra fields", message(x=1, y={"a": [1]}), [], {"temperature": 21.5}),
    Case("missing event time", without("timestamp"), ["required:timestamp"]),
    Case("null event time", message(timestamp=None), ["required:timestamp"]),
    Case(
        "year 0001",
        message(timestamp="0001-01-01T00:00:00Z"),
        ["event_time:range", "event_time:too_late"],
    ),
    Case(
        "year 9999",
        message(timestamp="9999-12-31T23:59:59Z"),
        ["event_time:range", "event_time:max_ahead"],
    ),
    Case(
        "year 1969",
        message(timestamp="1969-12-31T23:59:59.999999Z"),
        ["event_time:range", "event_time:too_late"],
    ),
    Case(
        "more than max_ahead after the broker's time",
        message(timestamp="2026-11-24T13:00:00.000001Z"),
        ["event_time:max_ahead"],
    ),
    Case("max_ahead after the broker's time", message(timestamp="2026-11-24T13:00:00Z"), []),
    Case(
        "older than lateness",
        message(timestamp="2026-11-17T11:59:59.999999Z"),
        ["event_time:too_late"],
    ),
    Case("time without zone", message(timestamp="2026-11-24T11:59:00"), ["type:timestamp"]),
    Case("time of day only", message(timestamp="10:30"), ["type:timestamp"]),
    Case("year only", message(timestamp="2026"), ["type:timestamp"]),
    Case("30 February", message(timestamp="2026-02-30T11:59:00Z"), ["type:timestamp"]),
    Case("second 60", message(timestamp="2026-11-24T11:59:60Z"), ["type:timestamp"]),
    Case("epoch number for a written time", message(timestamp=1795521540), ["type:timestamp"]),
    Case("epoch number as text", message(timestamp="1795521540"), ["type:timestamp"]),
    Case(
        "time finer than microseconds",
        message(timestamp="2026-11-24T11:59:00.1234567Z"),
        ["type:timestamp"],
    ),
    Case(
        "time with an offset",
        message(timestamp="2026-11-24T12:59:00.25+01:00"),
        [],
        {"timestamp": datetime(2026, 11, 24, 11, 59, 0, 250_000, UTC)},
    ),
    Case("1 MB text", message(sensor_id="x" * 1_000_000), [], {"sensor_id": "x" * 1_000_000}),
    Case("1 MB of junk", b"x" * 1_000_000, ["parse:json"]),
    Case("a surrogate pair, escaped", text("s1", "\\ud83d\\ude00"), [], {"sensor_id": "😀"}),
    Case("an escaped backslash before u", text("s1", "\\\\ud83d"), [], {"sensor_id": "\\ud83d"}),
    Case("half of a surrogate pair, escaped", text("s1", "\\ud83d"), ["parse:json"]),
]
FREE_TEXTS = {
    "quotes": 'O\'Brien "the" town',
    "slashes": "a/b\\c//..\\",
    "newlines": "a\nb\r\nc\td",
    "emoji": "Fès 🏙️ 東京 مراكش",
    "SQL": "'; DROP TABLE cities; --",
    "zero character": "a\u0000b",
    "blanks around": "  Fes  ",
}


@pytest.fixture(scope="module")
def rows(spark: SparkSession) -> dict[str, dict[str, Any]]:
    """All cases, landed as one batch."""
    landed = land(spark, SPEC, [case.value for case in CASES])
    return {case.title: row for case, row in zip(CASES, landed, strict=True)}


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.title)
def test_verdict(case: Case, rows: dict[str, dict[str, Any]]) -> None:
    case.hold(rows[case.title])


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.title)
def test_document_tells_the_verdict(case: Case) -> None:
    assert case.line() in DOCUMENT.read_text()


def test_duplicate_key_is_named(rows: dict[str, dict[str, Any]]) -> None:
    assert rows["duplicate key"]["_errors"] == ["parse:json: duplicate key temperature"]


def test_messages_name_value_and_limit(rows: dict[str, dict[str, Any]]) -> None:
    assert rows["outside the range"]["_errors"] == ["range:temperature: 60.5 is outside -60 to 60"]
    assert rows["number as text"]["_errors"] == [
        'type:temperature: "21.5" was sent as string, not as double'
    ]


def test_any_text_is_kept_as_it_is(spark: SparkSession) -> None:
    spec = make_spec({"city": {"type": "string"}, "timestamp": {"type": "timestamp"}})
    for escape in (True, False):
        values = [
            json.dumps({"city": c, "timestamp": GOOD["timestamp"]}, ensure_ascii=escape).encode()
            for c in FREE_TEXTS.values()
        ]
        landed = land(spark, spec, values)
        assert [r["_errors"] for r in landed] == [None] * len(FREE_TEXTS)
        assert [r["city"] for r in landed] == list(FREE_TEXTS.values())


def test_times_as_numbers_and_in_a_zone(spark: SparkSession) -> None:
    spec = make_spec(
        {
            "timestamp": {"type": "timestamp", "format": "epoch_ms"},
            "sent": {"type": "timestamp", "format": "epoch_s"},
            "local": {"type": "timestamp", "zone": "Africa/Casablanca"},
        }
    )
    good = b'{"timestamp": 1795521540123, "sent": 1795521540.25, "local": "2026-07-01T12:00:00"}'
    cases = {
        good: [],
        good.replace(b"1795521540.25", b'"1795521540"'): ["type:sent"],
        good.replace(b"1795521540123", b"1795521540.5"): ["type:timestamp"],
        good.replace(b"1795521540.25", b"1e300"): ["type:sent"],
        good.replace(b"1795521540123", b"9223372036854775807"): ["type:timestamp"],
        good.replace(b"12:00:00", b"12:00"): ["type:local"],
    }
    landed = land(spark, spec, list(cases))
    assert [rules(r) for r in landed] == list(cases.values())
    first = landed[0]
    assert first["timestamp"] == datetime(2026, 11, 24, 11, 59, 0, 123_000, UTC)
    assert first["sent"] == datetime(2026, 11, 24, 11, 59, 0, 250_000, UTC)
    assert first["local"] == datetime(2026, 7, 1, 11, 0, tzinfo=UTC)
    assert first["_event_time"] == first["timestamp"]
    assert first["_hour"] == datetime(2026, 11, 24, 11, tzinfo=UTC)


def test_coordinates_and_key_are_kept(spark: SparkSession) -> None:
    row = land(spark, SPEC, [b"x", GOOD_TEXT])[1]
    assert (row["_topic_id"], row["_partition"], row["_offset"]) == ("topic-id", 0, 1)
    assert row["_timestamp"] == NOW
    assert row["_key"] == b"key"


def test_same_message_same_verdict_whatever_the_time(spark: SparkSession) -> None:
    """A check looks at the broker's timestamp and never at the clock."""
    long_ago = datetime(2001, 1, 1, tzinfo=UTC)
    old = message(timestamp="2001-01-01T00:30:00Z")
    ahead = message(timestamp="2001-01-01T02:00:00Z")
    landed = land(spark, SPEC, [old, ahead], broker=long_ago)
    assert [rules(r) for r in landed] == [[], ["event_time:max_ahead"]]
