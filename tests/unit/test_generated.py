"""What is made from the code: the page of expressions, the JSON Schema; `new` and `--explain`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from streamkeeper.spec.allowlist import FUNCTIONS
from streamkeeper.spec.expressions import parse_expression
from streamkeeper.spec.loader import load_spec
from streamkeeper.spec.pages import expressions_page
from streamkeeper.spec.schema import SCHEMA_FILE, SCHEMA_LINE, schema_text
from streamkeeper.spec.units import UNITS, conversion
from streamkeeper_apps.cli import main
from streamkeeper_apps.sample import told

ROOT = Path(__file__).parents[2]
STREAMS = ROOT / "include" / "streams"
EVERYTHING = ROOT / "tests" / "streams" / "everything.yaml"


@pytest.mark.parametrize(
    ("file", "made"),
    [(ROOT / "docs" / "expressions.md", expressions_page), (STREAMS / SCHEMA_FILE, schema_text)],
)
def test_the_files_are_what_the_code_makes(file: Path, made: Any) -> None:
    assert file.read_text(encoding="utf-8") == made(), "run: make docs"


COLUMNS = {
    **{"a": "integer", "b": "integer", "x": "double", "city": "string", "site": "string"},
    **{"path": "string", "at": "timestamp", "received": "timestamp", "sent": "timestamp"},
    **{"temperature": "double", "bytes": "integer", "status": "integer", "rt_ms": "double"},
    "ip": "string",
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_examples_on_the_page_are_read(name: str) -> None:
    function = FUNCTIONS[name]
    found = parse_expression(function.example, COLUMNS, aggregates=function.aggregate)
    assert f"{name}(" in function.example
    assert found.type


def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads((STREAMS / SCHEMA_FILE).read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_editors_accept_every_shipped_declaration() -> None:
    check = validator()
    for path in [*STREAMS.glob("*.yaml"), EVERYTHING]:
        text = path.read_text(encoding="utf-8")
        check.validate(yaml.safe_load(text))
        assert SCHEMA_FILE in text.splitlines()[0]
    assert SCHEMA_LINE in (STREAMS / "temperature.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "other"),
        ("fields", {"a": {"type": "duble"}}),
        ("fields", {"a": {"type": "double", "requird": True}}),
        ("derived", {"a": 3}),
        ("checks", [{"name": "a", "expect": "x", "on_fail": "ignore"}]),
        ("lake", {"path": "/x", "every": 30}),
        ("sinks", [{"kind": "cassandra", "of": "raw"}]),
    ],
)
def test_editors_mark_mistakes(key: str, value: object) -> None:
    data = yaml.safe_load((STREAMS / "temperature.yaml").read_text(encoding="utf-8"))
    assert not list(validator().iter_errors(data))
    assert list(validator().iter_errors(data | {key: value}))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for declarations, and no settings of any checkout."""
    (tmp_path / ".local").mkdir()
    (tmp_path / ".local" / "settings.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STREAMKEEPER_STREAMS", str(tmp_path / "streams"))
    return tmp_path / "streams"


@pytest.mark.parametrize("name", ["my_sensors", "null", "a" * 48])
def test_a_new_declaration_can_be_used(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert main(["new", name]) == 0
    assert f"streamkeeper check --explain {name}" in capsys.readouterr().out
    path = folder / f"{name}.yaml"
    assert path.read_text(encoding="utf-8").startswith(SCHEMA_LINE)
    spec = load_spec(path)
    assert spec.source.kafka.topic == name.replace("_", "-")
    validator().validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    assert main(["check", name]) == 0
    # The lines that are left out by `#` are right too.
    text = path.read_text(encoding="utf-8")
    text = text.replace("# A mail for each closed hour.\n", "")
    begin = text.index("# windows:")
    path.write_text(text[:begin] + text[begin:].replace("# ", ""), encoding="utf-8")
    assert len(load_spec(path).sinks) == 2


def test_new_leaves_existing_files_and_refuses_names(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.mkdir()
    (folder / "mine.yaml").write_text("mine")
    assert main(["new", "mine"]) == 1
    assert "exists; choose another name, or edit it" in capsys.readouterr().err
    assert (folder / "mine.yaml").read_text() == "mine"
    for name in ("My", "../x", "a" * 49, ""):
        assert main(["new", name]) == 1
        assert "is no name of a stream: small letters, digits and _" in capsys.readouterr().err


def test_explain_tells_all_that_will_be(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--explain", str(EVERYTHING)]) == 0
    out = capsys.readouterr().out.splitlines()
    for line in (
        "    everything: created if missing; partitions 2, replicas 1, "
        "message.timestamp.type=LogAppendTime",
        "    level: int32 at meta / le.vel",
        "    temperature: double at values.t, °F to °C: x becomes (x * 5 - 160) / 9",
        "    at: timestamp at at (iso8601, corrected from local, epoch_s, Europe/Paris where it "
        "has no zone)",
        "    energy: double at values.e, in kWh as energy_unit tells; J to kWh: x becomes x / "
        "3600000, kJ to kWh: x becomes x / 3600, Wh to kWh: x becomes x / 1000, MWh to kWh: x "
        "becomes x * 1000, kwh is kWh",
        "    price decimal(12,2)",
        "    is_hot boolean = (`temperature` > 40.0D)",
        "    _warnings array<string>: checks that only mark a row",
        "    type:ok: boolean as declared",
        "    range:temperature: from -60 to 60 °C",
        "    event_time:too_late: at most 7d before the broker's time",
        "    check:not_upside_down: order >= 0 and sensor like '_' (fail)",
        "    hot_share double = try_divide(cast(count_if(`is_hot`) as double), "
        "cast(count(*) as double))",
        "    total decimal(22,2) = try_sum(`price`)",
        "    the 3 rows of the highest temperature, all columns",
        "    sorted by n, lowest first; the first 7 only",
        "    hot: feels above 40 °C where sensor = 'a'",
        '    CREATE TABLE IF NOT EXISTS "tests"."everything_raw" ("sensor" text, "at" timestamp, '
        '"temperature" double, "is_hot" boolean, "price" decimal, PRIMARY KEY (("sensor"), "at"));',
        "    rows are kept 30d, written with consistency LOCAL_QUORUM",
        "    /streams/everything/windows/by_sensor/batch=<generation>-<batch>/: live window rows",
        "    /streams/everything/analytics/hottest/dt=<day>/hour=<hour>/: KPI",
        "    /streams/everything/analytics/hottest_csv/dt=<day>/hour=<hour>/: the same rows as CSV",
        "    /streams/everything/analytics/hottest_day/dt=<day>/: the KPI of a day",
        "    /streams/everything/analytics/hottest_all_csv/: the KPI of everything",
        "    periods__everything: computes KPIs of longer times at 30 1 * * * (UTC)",
        "    /streams/everything/alerts/hot/dt=<day>/hour=<hour>/: the worst readings that break "
        "it",
        "    keep__shared: keeps the driver alive",
        "    report__everything: mails reports to operations@localhost",
        "    SELECT * FROM streamkeeper.revisions WHERE stream = 'everything' ORDER BY hour, "
        "revision;",
    ):
        assert line in out


def test_conversions_are_exact() -> None:
    def convert(sent: str, landed: str, value: float) -> float:
        found = conversion(sent, landed)
        return value if found is None else found.apply(value)

    assert convert("°F", "°C", 212) == 100.0
    assert convert("°F", "°C", -40) == -40.0
    assert convert("°C", "°F", 100) == 212.0
    assert convert("°C", "K", 0) == 273.15
    assert convert("kPa", "hPa", 101.325) == 1013.25
    assert convert("mbar", "hPa", 1013.25) == 1013.25
    assert convert("km/h", "m/s", 36) == 10.0
    assert convert("kn", "km/h", 10) == 18.52
    assert convert("mi", "km", 1) == 1.609344
    assert convert("kWh", "Wh", 1.5) == 1500.0
    assert convert("%", "ratio", 50) == 0.5
    assert convert("min", "s", 2) == 120.0
    assert conversion("hPa", "mbar") is None
    with pytest.raises(ValueError, match="km measures length, K measures temperature"):
        conversion("km", "K")


@pytest.mark.parametrize("unit", UNITS)
def test_a_conversion_and_back_is_the_same(unit: str) -> None:
    for other in UNITS:
        if UNITS[other].dimension != UNITS[unit].dimension or other == unit:
            continue
        there, back = conversion(unit, other), conversion(other, unit)
        assert (there is None) == (back is None)
        if there is not None and back is not None:
            assert back.apply(there.apply(12.5)) == pytest.approx(12.5, rel=1e-12)
            assert there.sql("x").startswith("((x * ")


def test_a_sample_is_told_by_rule_with_examples() -> None:
    example = {"partition": 0, "offset": 7, "finding": "parse:json: not one JSON object"}
    found = {
        "topic": "rooms",
        "spans": {"0": [5, 8], "1": [3, 3], "10": [0, 1], "2": [0, 1]},
        **{"read": 5, "valid": 3, "quarantined": 2},
        "rules": {"parse:json": {"records": 2, "examples": [example | {"value": "junk"}]}},
        "ends": ["check:never"],
        "warned": {"low": 1},
        "rows": [{"t": "1.0", "city": None}],
    }
    assert list(told(found)) == [
        "the newest 5 messages of rooms (partition 0: 5..7, partition 2: 0..0, partition 10: 0..0)",
        "3 valid, 2 quarantined; nothing has landed",
        "parse:json: 2",
        "  partition 0 offset 7: parse:json: not one JSON object",
        "    junk",
        "check:never has `on_fail: fail`: the stream would end at the first of them",
        "warning low: 1",
        "lands as: t=1.0",
    ]
    assert list(told({"topic": "rooms", "spans": {"0": [4, 4]}})) == [
        "topic rooms holds no message; nothing to try"
    ]


def test_a_sample_needs_kafka_and_a_number(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("STREAMKEEPER_KAFKA", raising=False)
    assert main(["new", "rooms"]) == 0
    assert main(["check", "--sample", "0", "rooms"]) == 1
    assert "--sample 0: between 1 and 100,000 messages are tried" in capsys.readouterr().err
    assert main(["check", "--sample", "5", "rooms"]) == 1
    assert "the setting 'kafka' is empty; set STREAMKEEPER_KAFKA" in capsys.readouterr().err
