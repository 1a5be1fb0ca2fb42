"""`send --check` and `look`: what they say of a message, without a broker."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from streamkeeper.spec.loader import load_spec
from streamkeeper.spec.models import Spec
from streamkeeper_apps.look import pretty, shown
from streamkeeper_apps.producer.judge import findings

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
TEMPERATURE = load_spec(Path(__file__).parents[2] / "include" / "streams" / "temperature.yaml")
GOOD: dict[str, Any] = {
    "sensor_id": "s1",
    "city": "Fes",
    "temperature": 21.5,
    "humidity": 50,
    "timestamp": "2026-11-24T11:59:59.5Z",
}


def judged(spec: Spec = TEMPERATURE, **changed: Any) -> list[str]:
    value = json.dumps({k: v for k, v in (GOOD | changed).items() if v != "left out"})
    return [finding.partition(": ")[0] for finding in findings(spec, value.encode(), NOW)]


@pytest.mark.parametrize(
    ("changed", "rules"),
    [
        ({}, []),
        ({"more": [1]}, []),
        ({"temperature": 61}, ["range:temperature"]),
        ({"temperature": "21.5"}, ["type:temperature"]),
        ({"temperature": True}, ["type:temperature"]),
        ({"temperature": None}, ["required:temperature"]),
        ({"city": "fes"}, ["allowed:city"]),
        ({"city": 7}, ["type:city"]),
        ({"timestamp": "2026-11-24T11:59:59"}, ["type:timestamp"]),
        ({"timestamp": "2026-11-24"}, ["type:timestamp"]),
        ({"timestamp": 5}, ["type:timestamp"]),
        ({"timestamp": "left out"}, ["required:timestamp"]),
        ({"timestamp": "2026-11-24T13:00:01Z"}, ["event_time:max_ahead"]),
        ({"timestamp": "1969-12-31T23:59:59Z"}, ["event_time:range"]),
        ({"humidity": 101, "sensor_id": None}, ["required:sensor_id", "range:humidity"]),
    ],
)
def test_findings(changed: dict[str, Any], rules: list[str]) -> None:
    assert judged(**changed) == rules


@pytest.mark.parametrize(
    ("value", "finding"),
    [
        (b" ", "parse:empty: there is nothing in it"),
        (b'{"a":"\xff"}', "parse:utf8: invalid start byte at byte 6"),
        (b"{", "parse:json: Expecting property name"),
        (b"[1]", "parse:json: it is no object"),
        (b'{"a":1,"a":2}', "parse:json: a key stands twice"),
    ],
)
def test_what_cannot_be_read(value: bytes, finding: str) -> None:
    (found,) = findings(TEMPERATURE, value, NOW)
    assert found.startswith(finding)


def changed(fields: dict[str, Any], **source: Any) -> Spec:
    data = TEMPERATURE.dump() | {"windows": [], "sinks": [], "kpis": [], "alerts": []}
    data |= {"producer": {}, "report": None}
    data["fields"] = fields | {"timestamp": {"type": "timestamp"}}
    data["source"] |= source
    return Spec.model_validate(data)


def test_paths_units_decimals_and_looser_reading() -> None:
    fields = {
        "t": {"type": "double", "path": "v.t", "sent_unit": "°F", "unit": "°C", "range": [0, 40]},
        "d": {"type": "decimal(5,2)"},
        "n": {"type": "int32"},
    }
    strict = changed(fields)
    at = {"timestamp": GOOD["timestamp"]}
    ok = {"v": {"t": 100}, "d": 123.45, "n": 2147483647}

    def rules(spec: Spec, **more: Any) -> list[str]:
        found = findings(spec, json.dumps(at | ok | more).encode(), NOW)
        return [finding.partition(": ")[0] for finding in found]

    assert rules(strict) == []
    assert rules(strict, v={"t": 110}) == ["range:t"]
    assert rules(strict, d=1234.5, n=2147483648) == ["type:d", "type:n"]
    assert rules(strict, d=1.005, n=7.0) == ["type:d", "type:n"]
    loose = changed(fields, strict=False)
    assert rules(loose, v={"t": "100"}, d="1.5", n=7.0) == []
    assert rules(loose, v={"t": "warm"}, n="7.5") == ["type:t", "type:n"]


def test_csv_records() -> None:
    fields = {"id": {"type": "string", "required": True}, "t": {"type": "double", "range": [0, 40]}}
    spec = changed(fields, format="csv")
    at = "2026-11-24T11:00:00Z"
    for record, rules in {
        f'"a,b",7.5,{at}': [],
        f"a,,{at}": [],
        f",7.5,{at}": ["required:id"],
        f"a,warm,{at}": ["type:t"],
        f"a,41,{at}": ["range:t"],
        f"a,{at}": ["parse:csv"],
        f'"a,7.5,{at}': ["parse:csv"],
    }.items():
        found = [f.partition(": ")[0] for f in findings(spec, record.encode(), NOW)]
        assert found == rules, record


def test_how_values_are_shown() -> None:
    assert pretty(b'{"b":1.50,"a":"\xc3\xa9"}') == ["{", '  "b": 1.50,', '  "a": "é"', "}"]
    assert pretty(b'{"a":') == ['{"a":']
    assert pretty(b"\xff\x00{}") == [r"b'\xff\x00{}'"]
    assert pretty(b"7") == ["7"]
    assert pretty(b'{"a":1,"a":[]}') == ['{"a":1,"a":[]}'], "a key that stands twice is seen"
    assert pretty(b'{"a":[1e400,{}]}') == ["{", '  "a": [', "    1e400,", "    {}", "  ]", "}"]
    assert pretty(b"a\nb\x1b[2J") == [r"'a\nb\x1b[2J'"]
    assert pretty(None) == ["null (a tombstone)"]
    assert [shown(None), shown(b"k"), shown("k")] == ["null", "k", "k"]
